"""run: create and start in one go; in the foreground also wait, and remove what is left."""

from __future__ import annotations

import posix

from ocirt.errors import NotFoundError
from ocirt.host.foreground import Terminal, block_signals, relay, wait
from ocirt.runtime.creation import Creation


def run(
    root: str,
    container_id: str,
    bundle: str,
    *,
    detach: bool = False,
    console_socket: str | None = None,
    pid_file: str | None = None,
) -> int:
    """The program's exit code, or 128 + the signal that ended it; 0 with `detach`. Raises Error, leaving nothing."""
    terminal = Terminal()
    creation = Creation(
        root,
        container_id,
        bundle,
        wait_for_start=False,
        console_socket=console_socket,
        terminal_is_ours=not detach,
        window=None if detach else terminal.window(),
        pid_file=pid_file,
    )
    creation.launch()
    try:
        if not detach:
            block_signals()
        creation.release()
        creation.init.wait_for_program()
    except BaseException:
        creation.undo()
        raise
    assert creation.entry
    creation.entry.close()
    if detach:
        return 0
    status = relay(creation.pid, creation.master, terminal) if creation.has_terminal else wait(creation.pid)
    _remove(creation)
    return posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)


def _remove(creation: Creation) -> None:
    try:
        with creation.store.lock(creation.id) as entry:
            creation.cgroups.remove()
            entry.remove()
    except NotFoundError:
        return  # another `delete` was faster
