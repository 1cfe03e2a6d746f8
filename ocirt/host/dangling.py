"""Make a mount's destination where a symlink of the image points to nothing yet.

Images have such links: /etc/resolv.conf to ../run/systemd/resolve/stub-resolv.conf. The kernel resolves a path in the
root in one call, but cannot create there through a link, and init does not know what the image's links say. So it hands
over its root as a descriptor, and asks. Each part is looked at in a folder that is open, links are followed by their
text, absolute ones from the root, and ".." goes up no further than there. init then opens the path itself, in one call:
should anything have changed meanwhile, it finds nothing, or what is inside.
"""

from __future__ import annotations

import posix

from ocirt.errors import from_os_error
from ocirt.host.copyup import EACCES, NOT_MAPPED, S_IFLNK, S_IFMT, Owners

MOST_LINKS = 40
"""As path_resolution(7)."""
_ELOOP = 40


def make(root: int, destination: str, pointer: str, pid: int, *, directory: bool) -> None:
    """`root` is an O_PATH descriptor, `pid` is init's, or 0: we are in its user namespace.

    Raises KernelError with `pointer`.
    """
    try:
        owners = Owners(pid)
        with owners.creating():
            _make(owners, root, destination, directory=directory)
    except OSError as error:
        error.filename = None
        hint = NOT_MAPPED if error.errno == EACCES else ""
        raise from_os_error(error, f"make the destination {destination}", pointer=pointer, hint=hint) from None


def _make(owners: Owners, root: int, destination: str, *, directory: bool) -> None:
    todo = destination.split("/")[::-1]
    opened = [posix.dup(root)]  # the folders on the way from the root
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(opened) > 1:
                    posix.close(opened.pop())
                continue
            last = not any(part not in ("", ".") for part in todo)
            try:
                status = posix.stat(name, dir_fd=opened[-1], follow_symlinks=False)
            except FileNotFoundError:
                _check(owners, 0o3, opened[-1])
                if last and not directory:
                    posix.mknod(name, 0o100644, dir_fd=opened[-1])
                    return
                posix.mkdir(name, 0o755, dir_fd=opened[-1])
                status = posix.stat(name, dir_fd=opened[-1], follow_symlinks=False)
            if status.st_mode & S_IFMT == S_IFLNK:
                links += 1
                if links > MOST_LINKS:
                    raise OSError(_ELOOP, posix.strerror(_ELOOP))
                target = posix.readlink(name, dir_fd=opened[-1])
                while target.startswith("/") and len(opened) > 1:
                    posix.close(opened.pop())
                todo += target.split("/")[::-1]
            elif not last:
                flags = posix.O_PATH | posix.O_NOFOLLOW | posix.O_DIRECTORY | posix.O_CLOEXEC
                opened.append(posix.open(name, flags, dir_fd=opened[-1]))
                _check(owners, 0o1, opened[-1])
    finally:
        while opened:
            posix.close(opened.pop())


def _check(owners: Owners, wanted: int, folder: int) -> None:
    """A link may lead to a folder of the host's, too, that is mounted inside."""
    if not owners.may(wanted, posix.fstat(folder)):
        raise OSError(EACCES, posix.strerror(EACCES))
