"""What the flags of checkpoint and restore mean."""

from __future__ import annotations

import os

from ocirt.errors import UsageError
from ocirt.runtime.checkpoint import Dump
from ocirt.runtime.criu import SWITCHES
from ocirt.runtime.restore import Restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DEFAULT_IMAGES = "checkpoint"
"""In the working directory, as runc has it."""


def dump_of(options: Mapping[str, Any]) -> Dump:
    """Raises UsageError."""
    return Dump(
        **_both(options),
        pre_dump=bool(options["pre_dump"]),
        parent=options["parent_path"] or "",
        page_server=page_server_of(options["page_server"]),
        status_fd=status_fd_of(options["status_fd"]),
    )


def restore_of(options: Mapping[str, Any]) -> Restore:
    """Raises UsageError."""
    return Restore(
        **_both(options),
        lsm_profile=options["lsm_profile"] or "",
        lsm_mount_context=options["lsm_mount_context"] or "",
    )


def _both(options: Mapping[str, Any]) -> dict[str, Any]:
    for kind in options["empty_ns"]:
        if kind != "network":
            raise UsageError(f'--empty-ns: expected network, got "{kind}"')
    return {
        "images": options["image_path"] or DEFAULT_IMAGES,
        "work": options["work_path"] or "",
        "cgroups": options["manage_cgroups_mode"] or "",
        "network_lock": options["network_lock"] or "",
        "switches": [name for name in SWITCHES if options.get(name)],
        "criu": options["criu"] or "",
    }


def page_server_of(text: str | None) -> tuple[str, int] | None:
    """ADDRESS:PORT; an IPv6 address in brackets."""
    if not text:
        return None
    address, _, port = text.rpartition(":")
    if not address or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise UsageError(f'--page-server: expected ADDRESS:PORT, got "{text}"')
    return address.removeprefix("[").removesuffix("]"), int(port)


def status_fd_of(text: str | None) -> int:
    if text is None:
        return -1
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UsageError(f'--status-fd: expected a descriptor, got "{text}"')
    try:
        os.fstat(int(text))
    except OSError:
        raise UsageError(f"--status-fd {text}: it is not open") from None
    return int(text)
