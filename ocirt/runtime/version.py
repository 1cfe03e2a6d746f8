"""Which versions this is made of: the build's commit, libseccomp."""

from __future__ import annotations


def commit() -> str:
    """What the package was built from; "unknown" for a source tree that was never built."""
    try:
        from ocirt._build import COMMIT
    except ImportError:
        return "unknown"
    return COMMIT


def libseccomp_version() -> str | None:
    """What seccomp_version(3) of the installed library says, such as "2.5.4"; None if there is none."""
    import ctypes

    class Version(ctypes.Structure):
        _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]

    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_version.restype = ctypes.POINTER(Version)
    version = library.seccomp_version().contents
    return f"{version.major}.{version.minor}.{version.micro}"
