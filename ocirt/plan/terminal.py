"""The container's terminal: a pty of its own devpts, made inside, whose master goes to the host."""

from __future__ import annotations

from ocirt.plan.kernel import (
    AT_EMPTY_PATH,
    EEXIST,
    MOVE_MOUNT_BY_DESCRIPTOR,
    O_CLOEXEC,
    O_NOCTTY,
    O_RDWR,
    OPEN_HOW,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    S_IFREG,
    STATX_BASIC_STATS,
    STATX_SIZE,
    TIOCGPTPEER,
    TIOCSCTTY,
    TIOCSPTLCK,
    TIOCSWINSZ,
    WINSIZE,
)
from ocirt.plan.masks import expect_device
from ocirt.plan.paths import HOW_SIZE, IN_ROOT_NO_SYMLINKS
from ocirt.plan.rootfs import CLONE_TREE
from ocirt.plan.step import Buffer
from ocirt.plan.tags import FD_TERMINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.scope import Scope

_OPEN_PTMX = OPEN_HOW.pack(O_RDWR | O_NOCTTY | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_terminal(scope: Scope) -> None:
    """Make the pty, and bind its slave over /dev/console."""
    if scope.process.get("terminal"):
        make_terminal(scope)
        _bind_console(scope)


def make_terminal(scope: Scope) -> None:
    """Make the pty, and send its master away.

    The slave is opened by TIOCGPTPEER (ioctl_tty(2), Linux 4.13), from the master and by no path: a path in /dev/pts
    could be swapped (CVE-2025-52565).
    """
    plan = scope.plan
    plan.at("/process/terminal", "open /dev/pts/ptmx of the container")
    master = plan.open("master", "openat2", scope.root, "dev/pts/ptmx", _OPEN_PTMX, HOW_SIZE)
    status = Buffer(STATX_SIZE)
    plan.call("statx", master, "", AT_EMPTY_PATH, STATX_BASIC_STATS, status)
    expect_device(plan, status, 5, 2)
    plan.at("/process/terminal", "open the terminal")
    plan.call("ioctl", master, TIOCSPTLCK, bytes(4))
    scope.terminal = plan.open("terminal", "ioctl", master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)
    plan.call("fchown", scope.terminal, scope.process["user"]["uid"], -1)
    _set_size(scope)
    plan.at("/process/terminal", "send the terminal's master to the host")
    plan.send_descriptor(master, FD_TERMINAL)
    plan.close(master)


def _bind_console(scope: Scope) -> None:
    plan = scope.plan
    plan.at("/process/terminal", "bind the terminal on /dev/console")
    plan.call("mknodat", scope.dev, "console", S_IFREG | 0o600, 0, ignore=(EEXIST,))
    target = plan.open("target", "openat2", scope.dev, "console", IN_ROOT_NO_SYMLINKS, HOW_SIZE)
    copy = plan.open("copy", "open_tree", scope.terminal, "", CLONE_TREE | AT_EMPTY_PATH)
    plan.call("move_mount", copy, "", target, "", MOVE_MOUNT_BY_DESCRIPTOR)
    plan.close(copy, target)


def _set_size(scope: Scope) -> None:
    plan = scope.plan
    size = scope.process.get("consoleSize")
    if size:
        plan.at("/process/consoleSize", "set the terminal's size")
        rows, columns = size["height"], size["width"]
    elif scope.facts.window:
        plan.at("/process/terminal", "set the terminal's size")
        rows, columns = scope.facts.window
    else:
        return
    plan.call("ioctl", scope.terminal, TIOCSWINSZ, WINSIZE.pack(rows, columns, 0, 0))


def become_controlling(scope: Scope) -> None:
    """Put it on the program's stdin, stdout and stderr, as the session's terminal."""
    if not scope.process.get("terminal"):
        return
    plan = scope.plan
    plan.at("/process/terminal", "make it the controlling terminal")
    plan.call("ioctl", scope.terminal, TIOCSCTTY, 0)
    for number in (0, 1, 2):
        plan.call("dup3", scope.terminal, number, 0)
