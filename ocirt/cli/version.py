"""--version, in the lines that docker and go-runc parse."""

from __future__ import annotations

from ocirt import __version__
from ocirt.cli.output import Out
from ocirt.runtime.state import SPEC_VERSION
from ocirt.runtime.version import commit, libseccomp_version


def print_version(name: str) -> int:
    called = "runc" if name.rpartition("/")[2] == "runc" else "ocirt"
    lines = [
        f"{called} version {__version__}",
        f"commit: {commit()}",
        f"spec: {SPEC_VERSION}",
        f"libseccomp: {libseccomp_version() or 'not installed'}",
    ]
    Out("", None, "text", debug=False).print("\n".join(lines))
    return 0
