"""--version, in the lines that docker and go-runc parse."""

from __future__ import annotations

from ocirt import __version__
from ocirt.cli.output import Out
from ocirt.runtime.state import SPEC_VERSION


def print_version(name: str) -> int:
    called = "runc" if name.rpartition("/")[2] == "runc" else "ocirt"
    try:
        from ocirt._build import COMMIT
    except ImportError:  # a source tree that was never built
        COMMIT = "unknown"
    lines = [
        f"{called} version {__version__}",
        f"commit: {COMMIT}",
        f"spec: {SPEC_VERSION}",
        f"libseccomp: {libseccomp_version()}",
    ]
    Out("", None, "text", debug=False).print("\n".join(lines))
    return 0


def libseccomp_version() -> str:
    """What seccomp_version(3) of the installed library says, or "not installed"."""
    import ctypes

    class Version(ctypes.Structure):
        _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]

    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return "not installed"
    library.seccomp_version.restype = ctypes.POINTER(Version)
    version = library.seccomp_version().contents
    return f"{version.major}.{version.minor}.{version.micro}"
