"""run: create and start in one go; in the foreground also wait, and remove what is left."""

from __future__ import annotations

import posix

from ocirt.errors import NotFoundError
from ocirt.host.foreground import block_signals, wait
from ocirt.runtime.creation import Creation
from ocirt.runtime.handing import window_of_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def run(
    root: str,
    container_id: str,
    bundle: str,
    *,
    detach: bool = False,
    console_socket: str | None = None,
    pidfd_socket: str | None = None,
    pid_file: str | None = None,
    preserve_fds: int = 0,
    config_file: str | None = None,
    new_keyring: bool = True,
    pivot: bool = True,
    keep: bool = False,
    strict: bool = False,
    manager: str = "cgroupfs",
    committed: Callable[[], object] | None = None,
    warn: Callable[[Sequence[str]], object] | None = None,
) -> int:
    """The program's exit code, or 128 + the signal that ended it; 0 with `detach`. Raises Error, leaving nothing.

    pivot, manager: as `create` has them. keep: leave it stopped when it has ended, for `delete`.
    committed: is called when the program runs, as `create` does. warn: is given the warnings, before anything is made,
    and those of hooks when they have run.
    """
    window = window_of_ours() if not detach else None
    creation = Creation(
        root,
        container_id,
        bundle,
        wait_for_start=False,
        console_socket=console_socket,
        pidfd_socket=pidfd_socket,
        terminal_is_ours=not detach,
        window=window,
        pid_file=pid_file,
        preserve_fds=preserve_fds,
        config_file=config_file,
        new_keyring=new_keyring,
        pivot=pivot,
        strict=strict,
        manager=manager,
        ahead=Creation.stdio,
    )
    try:
        if warn:
            warn(creation.warnings)
        creation.launch()
        creation.before_program()
        if not detach:
            block_signals()
        creation.release()
        creation.init.wait_for_program()
        warnings = creation.after_program()
        if committed:
            committed()
    except BaseException as error:
        raise creation.undone(error) from None
    creation.done()
    if creation.notify:
        if detach:
            creation.notify.wait(creation.pid)
        else:
            creation.notify.stay(creation.pid)
    if warn:
        warn(warnings)
    return 0 if detach else finish(creation, keep=keep, warn=warn)


def finish(creation: Creation, *, keep: bool = False, warn: Callable[[Sequence[str]], object] | None = None) -> int:
    """Wait for the end of a container in the foreground, whose signals are blocked, and remove it.

    Returns its exit code. keep, warn: as `run` has it.
    """
    if creation.has_terminal:
        from ocirt.host.relay import relay

        status = relay(creation.pid, creation.handing.master)
    else:
        status = wait(creation.pid)
    if creation.notify:
        creation.notify.finish()
    if not keep:
        warnings = _remove(creation)
        if warn:
            warn(warnings)
    return posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)


def _remove(creation: Creation) -> list[str]:
    try:
        with creation.store.lock(creation.id) as entry:
            creation.cgroups.remove(kill=not creation.state["privatePids"])
            if creation.resctrl:
                from ocirt.host.resctrl import remove

                remove(creation.resctrl.removes, creation.id)
            try:
                return creation.after_removal()
            finally:
                entry.remove()
    except NotFoundError:
        return []  # another `delete` was faster
