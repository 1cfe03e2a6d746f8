"""A container as the programs of runtime-tools make it: the bundle's folder is the root, all calls have pipes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from container import RUNTIME, Container
from suite_config import suite_config
from suite_judge import complaints, facts_of, questions
from support import CACHE, OCIRT, Done, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite_judge import Facts

INSIDE = Path(__file__).resolve().parent / "inside.sh"
ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "OCIRT_CACHE": CACHE}
PATIENCE = 30
"""Seconds for one call; it only bounds a failure."""


class SuiteContainer(Container):
    """`prefix` is put before the runtime's name: nsenter and its arguments."""

    prefix: Sequence[str] = ()

    def __init__(self, bundle: Path, state_root: Path) -> None:
        self.bundle = self.rootfs = make_rootfs(bundle)
        self.state_root = state_root
        self.config = suite_config()
        shutil.copy(INSIDE, bundle)

    @property
    def words(self) -> list[str | Path]:
        """The suite takes the specification's word where engines do otherwise: ocirt has a flag for that."""
        strict = ["--strict"] if Path(RUNTIME).samefile(OCIRT) else []
        return [*self.prefix, RUNTIME, "--root", self.state_root, *strict]

    def __call__(self, *words: str | Path, **options: Any) -> Done:
        """With pipes: the call hangs if anything that outlives it holds them open."""
        done = subprocess.run(
            [*self.words, *words],
            **{"env": ENVIRONMENT, "stdin": subprocess.DEVNULL, "timeout": PATIENCE, **options},
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def create(self) -> Done:
        """The container writes to the bundle's files stdout and stderr."""
        self.write()
        out, err = self.bundle / "stdout", self.bundle / "stderr"
        with out.open("w") as stdout, err.open("w") as stderr:
            code = subprocess.run(
                [*self.words, "create", "--bundle", self.bundle, self.id],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                timeout=PATIENCE,
                check=False,
            ).returncode
        return Done(code, out.read_text(), err.read_text())

    def created(self) -> SuiteContainer:
        done = self.create()
        assert done.code == 0, done.err
        return self

    def started(self) -> SuiteContainer:
        done = self.created().start()
        assert done.code == 0, done.err
        return self

    def stopped(self) -> SuiteContainer:
        self.started().wait_for("stopped")
        return self

    def args(self, *words: str) -> SuiteContainer:
        self.process["args"] = list(words)
        return self

    def asks(self) -> SuiteContainer:
        """Its program answers what the configuration makes interesting."""
        return self.args("/bin/sh", "/inside.sh", *questions(self.config))

    def facts(self) -> Facts:
        """What the program has seen, once it has ended."""
        found = facts_of(self.read("stdout"))
        assert "end" in found, self.read("stderr") or found
        return found

    def judge(self) -> Facts:
        """Compare what the program has seen with the configuration."""
        facts = self.facts()
        assert complaints(self.config, facts) == []
        return facts

    def is_as_configured(self) -> Facts:
        """Run the program to its end, and judge."""
        return self.asks().stopped().judge()

    def read(self, name: str) -> str:
        """A file in the root, empty if it is not there."""
        path = self.bundle / name
        return path.read_text() if path.exists() else ""

    def remove(self) -> None:
        self("delete", "--force", self.id)
        below = [words[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if (words := line.split())]
        left = [place for place in below if place.startswith(f"{self.bundle}/")]
        for place in reversed(left):
            subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(self.bundle)
        assert left == []


def fails(done: Done) -> bool:
    """The runtime generated an error, in words."""
    return done.code != 0 and bool(done.err.strip() or done.out.strip())


def v1_folder(controller: str) -> Path:
    """Where this host has mounted a cgroup v1 controller; without it the test is skipped."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if "cgroup" in words and controller in words[-1].split(","):
            return Path(words[4])
    pytest.skip(f"the host has no cgroup v1 controller {controller}")
