"""create: make a container that waits for `start` (runtime.md, "Create")."""

from __future__ import annotations

from ocirt.runtime.creation import Creation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def create(
    root: str,
    container_id: str,
    bundle: str,
    *,
    console_socket: str | None = None,
    pidfd_socket: str | None = None,
    pid_file: str | None = None,
    preserve_fds: int = 0,
    config_file: str | None = None,
    new_keyring: bool = True,
    pivot: bool = True,
    strict: bool = False,
    manager: str = "cgroupfs",
    committed: Callable[[], object] | None = None,
) -> list[str]:
    """Returns warnings. Raises Error; then nothing of the container is left.

    strict: prestart hooks of a bundle of spec 1.0 wait for `start`, as that version has it.

    pivot: change the root by pivot_root(2)? It is what keeps the host out of the container's mount namespace.

    manager: who makes its cgroups, one of cgroups.manager.MANAGERS.

    committed: is called when the container is made for good. An exception that a signal handler raises undoes
    everything before, and nothing after.
    """
    creation = Creation(
        root,
        container_id,
        bundle,
        wait_for_start=True,
        console_socket=console_socket,
        pidfd_socket=pidfd_socket,
        pid_file=pid_file,
        preserve_fds=preserve_fds,
        config_file=config_file,
        new_keyring=new_keyring,
        pivot=pivot,
        strict=strict,
        manager=manager,
    )
    try:
        creation.launch()
        creation.release()
        if committed:
            committed()
    except BaseException as error:
        raise creation.undone(error) from None
    creation.done()
    return creation.warnings + creation.late_warnings
