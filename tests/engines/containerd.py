"""containerd with its own folders, driven by ctr."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engines.engine import PATH, Engine, end, eventually, executable, require
from support import Done

CONFIGURATION = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{folder}/socket"
"""
"""The shims' sockets are below /run/containerd whatever one says."""
CGROUPS = "/sys/fs/cgroup"


class Containerd(Engine):
    """`ctr`, with the daemon that it talks to. `end` ends it."""

    configuration = CONFIGURATION
    namespace = "default"

    def __init__(self, folder: Path, runtime: str, archive: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.toml").write_text(self.configuration.format(folder=folder))
        client = [require("ctr", "containerd"), "--address", f"{folder}/socket", "--namespace", self.namespace]
        super().__init__(client, folder, runtime, {})
        self.run_flags = ["--runc-binary", executable(runtime)]
        self.start()
        self.ok("image", "import", archive)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            daemon = [require("containerd", "containerd"), "--config", self.folder / "config.toml"]
            self.daemon = subprocess.Popen(daemon, env={"PATH": PATH}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(lambda: self("version").code == 0)

    def end(self) -> None:
        end(self.daemon)

    def end_shims(self) -> None:
        """End the shims that are left, such as those of tests that failed. They outlive the daemon on purpose."""
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"\0-address\0{self.folder}/socket\0" in (entry / "cmdline").read_text():
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:  # it has ended
                continue

    def status(self, name: str) -> str:
        """What `ctr task ls` says: RUNNING, PAUSED, STOPPED; "" if there is no such task."""
        return self.statuses().get(name, "")

    def statuses(self) -> dict[str, str]:
        """The same of all tasks, by name."""
        lines = map(str.split, self.ok("task", "ls").splitlines()[1:])
        return {line[0]: line[2] for line in lines}

    def at_terminal(self, *args: str | Path) -> Done:
        """Run ctr at a terminal; it insists on one for --tty. `out` is what the terminal shows."""
        master, slave = os.openpty()
        process = subprocess.Popen(
            [*self.client, *map(str, args)], env=self.environment, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        shown = b""
        until = time.monotonic() + 60
        while time.monotonic() < until and select.select([master], [], [], 60)[0]:
            try:
                shown += os.read(master, 4096)
            except OSError:  # EIO: the last one has closed it
                break
        os.close(master)
        return Done(process.wait(60), shown.decode(), "")

    def clear(self) -> None:
        """Remove what a scenario has left."""
        tasks = self.ok("task", "ls", "-q").split()

        def remove(name: str) -> None:
            if name in tasks:
                self("task", "delete", "--force", name)
            self.ok("container", "rm", name)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(remove, self.ok("container", "ls", "-q").split()))
