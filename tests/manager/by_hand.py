"""Containers made by hand: a record and a bundle, without images."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import default_config, make_rootfs

from ocirt.manager.containers import lifecycle, state
from ocirt.manager.containers.connection import Attachment
from ocirt.manager.site import Site

PATIENCE = 60.0
MONITOR: dict[str, Any] = {
    "tty": False,
    "open_stdin": False,
    "stdin_once": False,
    "stop_signal": 15,
    "stop_timeout": 10,
    "restart": {"policy": "no", "most": 0},
    "health": None,
    "log": {"driver": "file", "max_size": 10_000_000, "max_file": 5},
    "auto_remove": False,
}


@dataclass
class HandMade:
    """What lifecycle needs of a record."""

    id: str
    document: dict[str, Any] = field(default_factory=dict)


class Workshop:
    """A site, and containers in it that are stopped at the end."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder / "root", folder / "run")
        self.made: list[HandMade] = []

    def container(self, *args: str, config: dict[str, Any] | None = None, **monitor: Any) -> HandMade:
        """Of a command; `monitor` replaces parts of the record's "monitor", config of the configuration's process."""
        record = HandMade(uuid.uuid4().hex * 2, {"monitor": MONITOR | monitor})
        bundle = self.site.container(record.id)
        bundle.mkdir(parents=True)
        make_rootfs(bundle / "rootfs")
        found = default_config(args=list(args), terminal=bool(monitor.get("tty")))
        found["root"]["readonly"] = False
        found["process"].update(config or {})
        found["ociVersion"] = "1.0.2"  # of which older runtimes know too
        found["linux"]["cgroupsPath"] = f"/ocim-test/{record.id}"
        (bundle / "config.json").write_text(json.dumps(found))
        self.made.append(record)
        return record

    def sh(self, script: str, **options: Any) -> HandMade:
        return self.container("/bin/sh", "-c", script, **options)

    def state(self, record: HandMade) -> state.State:
        return state.read(self.site, record)

    def close(self) -> None:
        for record in self.made:
            lifecycle.stop(self.site, record, 0)
            with state.locked(self.site, record):
                lifecycle.clean(self.site, record)


def collected(attachment: Attachment) -> tuple[bytes, bytes, int]:
    """All that comes until the container has ended: stdout, stderr, exit code."""
    parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    while True:
        what, value = attachment.receive()
        if what == "exit":
            attachment.close()
            return b"".join(parts["stdout"]), b"".join(parts["stderr"]), value
        if what in parts:
            parts[what].append(value)


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something that comes of itself."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.02)
    return found


def monitor_pid(pid: int) -> int:
    """The parent of a container's first process."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat[stat.rindex(")") :].split()[2])


def counts_memory() -> bool:
    """Has this host a memory controller where containers get theirs?"""
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    return (
        "memory" in controllers.read_text().split() if controllers.exists() else Path("/sys/fs/cgroup/memory").exists()
    )
