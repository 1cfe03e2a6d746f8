"""What kind of cgroups this host has, and marks for tests that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")
PURE_V2 = (ROOT / "cgroup.controllers").exists()


def has(controller: str) -> bool:
    if PURE_V2:
        return controller in (ROOT / "cgroup.controllers").read_text().split()
    return any(controller in entry.name.split(",") for entry in ROOT.iterdir())


def needs(*controllers: str) -> pytest.MarkDecorator:
    missing = [name for name in controllers if not has(name)]
    return pytest.mark.skipif(bool(missing), reason=f"no controller {', '.join(missing)}")


on_v1 = pytest.mark.skipif(PURE_V2, reason="a pure v2 host")
on_v2 = pytest.mark.skipif(not PURE_V2, reason="not a pure v2 host")
