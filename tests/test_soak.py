"""A short soak: what thousands of containers would leave shows after a few (bench/soak.py counts it)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import OCIRT, REPOSITORY

pytestmark = pytest.mark.root


def test_nothing_grows_by_containers_in_sequence_and_at_a_time() -> None:
    program = [sys.executable, str(REPOSITORY / "bench" / "soak.py"), "--ocirt", OCIRT]
    # A mount namespace of its own: an empty /run is mounted in it.
    done = subprocess.run(
        ["unshare", "--mount", *program, "--sequence", "150", "--at-once", "25", "--rounds", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "25 of 25 at a time" in done.stdout and "commands that failed: 0" in done.stdout
    assert "| cgroups |" in done.stdout
