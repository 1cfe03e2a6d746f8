"""linux.sysctl: kernel parameters of the container's namespaces, written through a procfs of init's own.

In the container's own /proc an image or a mount could put something else in a parameter's place (CVE-2025-52881).
"""

from __future__ import annotations

from ocirt.config.sysctl import check_sysctl, namespace_of, path_of, pointer_of
from ocirt.plan.kernel import (
    EINVAL,
    O_CLOEXEC,
    O_WRONLY,
    OPEN_HOW,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from ocirt.plan.procfs import open_proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.scope import Scope

_FILE = OPEN_HOW.pack(
    O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
)


def set_all(scope: Scope, *, mapped: bool) -> None:
    """Those that are to be set before init is root of a user namespace, or else (`mapped`) afterwards.

    The files of the ipc namespace are its root's own (Linux 6.11), who is known when the ids are mapped; the domain
    name's is the host's root's; for the others init has the capabilities that count, always.
    """
    plan, sysctl = scope.plan, scope.linux["sysctl"]
    # Again, for now it is known which of the joined namespaces are the host's.
    check_sysctl(sysctl, scope.namespaces)
    due = [
        (key, path_of(key))
        for key in sysctl
        if (scope.takes_first and namespace_of(path_of(key)) == "ipc") == mapped and sysctl[key]
    ]
    if not mapped:
        scope.warnings += [
            f"{pointer_of(key)}: an empty value sets nothing: ignored" for key in sysctl if not sysctl[key]
        ]
    if not due:
        return
    plan.at("/linux/sysctl", "make a private procfs with all kernel parameters")
    proc = scope.parameters or open_proc(plan, whole=True)
    written = plan.register("written")
    for key, path in due:
        value = sysctl[key]
        plan.at(pointer_of(key), f"set {key} to {value}")
        file = plan.open("parameter", "openat2", proc, f"sys/{path}", _FILE, OPEN_HOW.size)
        size = len(value.encode())
        plan.open(written, "write", file, value, size)
        plan.expect(written, size, errno=EINVAL)
        plan.close(file)
    if not scope.parameters:
        plan.close(proc)
