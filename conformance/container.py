"""The runtime under test, as the OCI runtime specification sees it: a program with five operations.

$RUNTIME names it (default: the ocirt of this environment), and $OCI_VERSION the version that the bundles claim, for
runtimes that refuse newer ones. The tests know nothing else of it, so that they can be run
against runc and crun too; docs/conformance.md says what differs there.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from support import CACHE, OCIRT, Done, command, default_config, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "OCIRT_CACHE": CACHE}
RUNTIME = os.environ.get("RUNTIME") or OCIRT


class Container:
    """One container `c`: change `config`, then use an operation. Each returns how the command ended."""

    id = "c"

    def __init__(self, path: Path) -> None:
        self.bundle = path / "bundle"
        self.rootfs = make_rootfs(self.bundle / "rootfs")
        self.state_root = path / "state"
        self.config: dict[str, Any] = default_config()
        self.config["ociVersion"] = os.environ.get("OCI_VERSION") or self.config["ociVersion"]
        self.config["root"]["readonly"] = False

    @property
    def words(self) -> list[str | Path]:
        """The runtime's name and its global options."""
        return [RUNTIME, "--root", self.state_root]

    @property
    def process(self) -> dict[str, Any]:
        return self.config["process"]

    @property
    def linux(self) -> dict[str, Any]:
        return self.config["linux"]

    def write(self) -> None:
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def __call__(self, *words: str | Path, **options: Any) -> Done:
        return command(*self.words, *words, **options)

    def create(self) -> Done:
        """The container gets no pipe of ours, which it would hold open."""
        self.write()
        errors = self.bundle.parent / "errors"
        with errors.open("wb") as stderr:
            code = subprocess.run(
                [*self.words, "create", "--bundle", self.bundle, self.id],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                timeout=60,
                check=False,
            ).returncode
        return Done(code, "", errors.read_text())

    def start(self) -> Done:
        return self("start", self.id)

    def kill(self, signal: str) -> Done:
        return self("kill", self.id, signal)

    def delete(self, *flags: str) -> Done:
        return self("delete", *flags, self.id)

    def state(self) -> dict[str, Any]:
        done = self("state", self.id)
        assert done.code == 0, done.err
        return json.loads(done.out)

    @property
    def status(self) -> str:
        return str(self.state()["status"])

    def run(self, script: str) -> Done:
        """Create, start and wait for a shell script."""
        self.process["args"] = ["/bin/sh", "-c", script]
        return self.run_program()

    def run_program(self) -> Done:
        self.write()
        return self("run", "--bundle", self.bundle, self.id, env=ENVIRONMENT)

    def wait_for(self, status: str) -> None:
        wait_until(lambda: self.status == status)

    def sleeping(self) -> Container:
        """Its program only waits, and says in /tmp/ready that it runs."""
        self.process["args"] = ["/bin/sh", "-c", "echo > /tmp/ready; while :; do sleep 0.05; done"]
        return self

    def wait_for_program(self) -> None:
        wait_until((self.rootfs / "tmp/ready").exists)


def wait_until(what: Callable[[], Any], patience: float = 20) -> None:
    """The patience only bounds a failure."""
    until = time.monotonic() + patience
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)
