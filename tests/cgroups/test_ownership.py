"""Who a container's cgroup is given to: decided from the configuration alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ocirt.cgroups.ownership import give, owner

MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}
MAPPINGS = [{"containerID": 0, "hostID": 100000, "size": 10}, {"containerID": 10, "hostID": 5, "size": 1}]


def spec_of(uid: int = 7, **mount: Any) -> dict[str, Any]:
    return {
        "process": {"user": {"uid": uid}},
        "mounts": [{"destination": "/proc", "type": "proc"}, {**MOUNT, **mount}],
        "linux": {"uidMappings": MAPPINGS},
    }


@pytest.mark.parametrize(
    ("spec", "new", "joined", "expected"),
    [
        (spec_of(), {"cgroup"}, set(), 7),
        (spec_of(), {"cgroup", "user"}, set(), 100007),
        (spec_of(10), {"cgroup", "user"}, set(), 5),
        (spec_of(11), {"cgroup", "user"}, set(), 0),
        (spec_of(), {"cgroup"}, {"user"}, 0),
        (spec_of(), {"user"}, set(), 0),
        (spec_of(options=["nosuid", "ro"]), {"cgroup"}, set(), 0),
        (spec_of(options=None), {"cgroup"}, set(), 7),
        (spec_of(source="none"), {"cgroup"}, set(), 0),
        (spec_of(destination="/cgroup"), {"cgroup"}, set(), 0),
        ({**spec_of(), "mounts": None}, {"cgroup"}, set(), 0),
    ],
    ids=str,
)
def test_the_owner_is_the_programs_user_on_the_host(
    spec: dict[str, Any], new: set[str], joined: set[str], expected: int
) -> None:
    assert owner(spec, new, joined) == expected


@pytest.mark.skipif(os.getuid() != 0, reason="gives files away")
@pytest.mark.parametrize("listed", [None, "cgroup.procs\nabsent\n"])
def test_only_what_is_safe_is_given(tmp_path: Path, listed: str | None) -> None:
    folder = tmp_path / "cgroup"
    folder.mkdir()
    for name in ("cgroup.procs", "cgroup.threads", "memory.max"):
        (folder / name).touch()
    if listed:
        (tmp_path / "delegate").write_text(listed)
    give(str(folder), 7, str(tmp_path / "delegate"))
    owned = {file.name for file in folder.iterdir() if file.stat().st_uid == 7}
    assert owned == ({"cgroup.procs"} if listed else {"cgroup.procs", "cgroup.threads"})
    assert folder.stat().st_uid == 7
