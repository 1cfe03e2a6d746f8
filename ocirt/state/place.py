"""Where state is kept when nobody says it, and whom a folder has to belong to before its content is believed.

What is in a state folder says what to kill, to write to and to remove. So it counts only if nobody but the caller could
have put it there: the folder was opened without following a link, the caller owns it, and no other may write to it.
"""

from __future__ import annotations

import posix

from ocirt.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SYSTEM = "/run"
STICKY = 0o1000
"""What has this bit is spared when $XDG_RUNTIME_DIR or /tmp is cleared up (XDG Base Directory Specification,
tmpfiles.d(5))."""
OTHERS_WRITE = 0o022
ALL_IDS = ["0", "0", "4294967295"]
"""/proc/PID/uid_map of the initial user namespace (user_namespaces(7))."""


def own_folder(name: str) -> str:
    """The caller's folder of this name; it need not exist.

    /run/NAME for root. For an ordinary user, and for root in a user namespace that has no right to /run:
    $XDG_RUNTIME_DIR/NAME; where that is unset, empty or relative, /run/user/UID/NAME if /run/user/UID is the user's
    alone, else /tmp/NAME-UID.
    """
    uid = posix.geteuid()
    if uid == 0 and (posix.access(SYSTEM, posix.W_OK) or not _in_user_namespace()):
        return f"{SYSTEM}/{name}"
    runtime = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    if runtime.startswith("/"):
        return f"{runtime.rstrip('/')}/{name}"
    outside = _outside(uid)
    login = f"{SYSTEM}/user/{outside}"
    try:
        status = posix.lstat(login)
        if status.st_mode & 0o170077 == 0o040000 and status.st_uid == uid:
            return f"{login}/{name}"
    except OSError:
        pass
    return f"/tmp/{name}-{outside}"


def _uid_map() -> list[list[str]]:
    try:
        fd = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:  # a kernel without user namespaces, or no /proc
        return [ALL_IDS]
    try:
        return [line.split() for line in posix.read(fd, 65536).decode().splitlines()]
    finally:
        posix.close(fd)


def _in_user_namespace() -> bool:
    return _uid_map() != [ALL_IDS]


def _outside(uid: int) -> int:
    """The same user outside of the user namespace: both name one place."""
    for inside, outside, size in _uid_map():
        if int(inside) <= uid < int(inside) + int(size):
            return int(outside) + uid - int(inside)
    return uid


def check_own(status: posix.stat_result, path: str) -> None:
    """Raises ContainerError unless this folder, or file, is the caller's, and nobody else may write to it."""
    if status.st_uid != posix.geteuid():
        _refuse(f"{path} belongs to the user {status.st_uid}, not to you", "that user's ocirt may change it")
    if status.st_mode & OTHERS_WRITE:
        _refuse(_writable(status, path), "chmod go-w, if it is sound")


def _writable(status: posix.stat_result, path: str) -> str:
    return f"others than you may write to {path}: its mode is {status.st_mode & 0o7777:o}"


def _refuse(what: str, hint: str) -> NoReturn:
    raise ContainerError(what, hint=hint)


def check_root(root: str) -> None:
    """The same of an existing state root, whose containers others could exchange. Raises OSError too.

    One of root's in which everybody may make something will do if it is sticky, like /tmp. And a link leads
    there only if it is the caller's or root's own.
    """
    status = posix.lstat(root)
    us = posix.geteuid()
    if status.st_mode & 0o170000 == 0o120000:
        if status.st_uid not in (us, 0):
            _refuse(f"{root} is a link of the user {status.st_uid}", "remove it, or see --root")
        status = posix.stat(root)
    if status.st_uid not in (us, 0):
        _refuse(f"{root} belongs to the user {status.st_uid}, not to you", "see --root and XDG_RUNTIME_DIR")
    if status.st_mode & OTHERS_WRITE and not status.st_mode & STICKY:
        _refuse(_writable(status, root), "chmod go-w, or see --root")
