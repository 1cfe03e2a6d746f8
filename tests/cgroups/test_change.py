"""A change of several files that is undone: what is written back, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.cgroups.setting import Change, Setting, former
from ocirt.errors import KernelError


@pytest.mark.parametrize(
    ("file", "content", "key", "expected"),
    [
        ("pids.max", "max\n", "5", "max"),
        ("cpu.max", "max 100000\n", "5000", "max 100000"),
        ("cpuset.cpus", "\n", "0-1", "\n"),
        ("cpuset.cpus", "", "0-1", "\n"),
        ("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n", "0", "1"),
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max\n", "8:0", "8:0 rbps=5 wbps=max riops=max wiops=max"),
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max\n", "8:1", "8:1 rbps=max wbps=max riops=max wiops=max"),
        ("io.max", "", "8:0", "8:0 rbps=max wbps=max riops=max wiops=max"),
        ("io.weight", "default 100\n8:0 50\n", "8:0", "8:0 50"),
        ("io.weight", "default 100\n8:0 50\n", "300", "default 100"),
        ("io.weight", "default 100\n", "8:0", "8:0 default"),
        ("blkio.throttle.read_bps_device", "8:0 1048576\n8:16 3\n", "8:16", "8:16 3"),
        ("blkio.throttle.read_bps_device", "", "8:0", "8:0 0"),
        ("net_prio.ifpriomap", "lo 0\neth0 3\n", "eth0", "eth0 3"),
        ("rdma.max", "mlx4_0 hca_handle=max hca_object=max\nmlx4_1 hca_handle=2\n", "mlx4_1", "mlx4_1 hca_handle=2"),
    ],
)
def test_what_makes_a_file_what_it_was(file: str, content: str, key: str, expected: str) -> None:
    assert former(file, content, key) == expected


def setting(folder: Path, file: str, value: str, **more: object) -> Setting:
    made = Setting("/p", file, value, **more)  # type: ignore[arg-type]
    made.folder = str(folder)
    return made


def test_a_change_is_written_and_can_be_undone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    (tmp_path / "b").write_text("2\n")
    change = Change([setting(tmp_path, "a", "3"), setting(tmp_path, "b", "4")])
    change.apply()
    assert ((tmp_path / "a").read_text()[0], (tmp_path / "b").read_text()[0]) == ("3", "4")
    change.undo()
    assert ((tmp_path / "a").read_text()[0], (tmp_path / "b").read_text()[0]) == ("1", "2")


def test_what_fails_takes_the_rest_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    with pytest.raises(KernelError, match=r'write "4" to .*/missing: No such file'):
        Change([setting(tmp_path, "a", "3"), setting(tmp_path, "missing", "4")]).apply()
    assert (tmp_path / "a").read_text()[0] == "1"


def test_the_file_that_stands_in_for_another_is_taken_back_too(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("1\n")
    change = Change([setting(tmp_path, "old", "3", instead=("new", "9"))])
    change.apply()
    assert (tmp_path / "new").read_text()[0] == "9"
    change.undo()
    assert (tmp_path / "new").read_text()[0] == "1"


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    change = Change([setting(tmp_path, "a", "1\n")])
    change.apply()
    (tmp_path / "a").chmod(0o400)
    before = (tmp_path / "a").stat().st_mtime_ns
    change.undo()
    assert (tmp_path / "a").stat().st_mtime_ns == before
