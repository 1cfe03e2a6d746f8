"""What is below a cgroup is found and removed, however a container has nested it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.cgroups.files import processes, remove

DEEP = 3000
"""More than descriptors, stacks and PATH_MAX allow."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Ordinary folders stand in for cgroups: they, too, go by rmdir(2), if nothing is in them."""
    folder = tmp_path / "cgroup"
    folder.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    yield folder
    subprocess.run(["rm", "-r", "-f", folder], check=True)  # which shutil cannot do
    assert len(os.listdir("/proc/self/fd")) == before


def nest(folder: Path, depth: int) -> int:
    """Folders in one another; returns a descriptor of the innermost."""
    fd = os.open(folder, os.O_PATH)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def procs(folder: Path | int, *pids: int) -> None:
    fd = os.open(folder, os.O_PATH) if isinstance(folder, Path) else folder
    with open(os.open("cgroup.procs", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd), "w") as file:
        file.writelines(f"{pid}\n" for pid in pids)
    os.close(fd)


def test_processes_of_a_tree_and_of_what_is_not_there(folder: Path) -> None:
    for name, pid in (("", 1), ("a", 2), ("a/b", 3), ("c/d/e", 4), ("f", 5)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        procs(folder / name, pid, pid + 10)
    assert sorted(processes(str(folder))) == [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]
    assert processes(f"{folder}/none") == []


def test_a_deep_tree(folder: Path) -> None:
    procs(nest(folder, DEEP), 7)
    assert processes(str(folder)) == [7]


def test_a_deep_tree_is_removed(folder: Path) -> None:
    os.close(nest(folder, DEEP))
    (folder / "wide").mkdir()
    for number in range(50):
        (folder / "wide" / str(number) / "x").mkdir(parents=True)
    remove(str(folder))
    assert not folder.exists()
    remove(str(folder))


def test_what_is_busy_is_said(folder: Path) -> None:
    procs(nest(folder, 3), 7)
    with pytest.raises(OSError, match="not empty"):
        remove(str(folder), patience=0.01)
