"""create: make a container that waits for `start` (runtime.md, "Create")."""

from __future__ import annotations

from ocirt.runtime.creation import Creation


def create(
    root: str,
    container_id: str,
    bundle: str,
    *,
    console_socket: str | None = None,
    pid_file: str | None = None,
) -> list[str]:
    """Returns warnings. Raises Error; then nothing of the container is left."""
    creation = Creation(
        root, container_id, bundle, wait_for_start=True, console_socket=console_socket, pid_file=pid_file
    )
    try:
        creation.launch()
        creation.release()
    except BaseException as error:
        raise creation.undone(error) from None
    creation.init.close()
    assert creation.entry
    creation.entry.close()
    return creation.warnings
