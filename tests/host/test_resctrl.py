"""linux.intelRdt against a made-up resctrl: no processor at hand has the real one.

The tree is a folder; `Kernel` does what the kernel's resctrl does at mkdir(2) and rmdir(2), as its documentation has it
(Documentation/filesystems/resctrl.rst). What a write does to the kernel is not imitated.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import Bundle, Runtime

from ocirt.errors import ConfigError, ContainerError, Error, KernelError
from ocirt.host import resctrl
from ocirt.host.resctrl import Resctrl, Schemata, class_folder, mount_point, remove

SCHEMATA = "    L3:0=00fff;1=00fff\n    MB:0= 100;1=  50\n"


class Kernel:
    """posix for the module under test: groups come and go with their files, and there are only so many."""

    O_WRONLY = os.O_WRONLY

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left = 2
        self.monitors = True
        self.writes: list[tuple[str, str]] = []
        self._files(root, monitoring=True)
        (root / "info").mkdir()
        (root / "info/last_cmd_status").write_text("ok\n")

    def _files(self, group: Path, *, monitoring: bool) -> None:
        (group / "tasks").write_text("")
        if monitoring:
            (group / "schemata").write_text(SCHEMATA)
            (group / "mon_groups").mkdir()

    def mkdir(self, path: str, mode: int) -> None:
        parent = os.path.basename(os.path.dirname(path))
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os.mkdir(path, mode)
        self.left -= 1
        self._files(Path(path), monitoring=parent != "mon_groups")

    def rmdir(self, path: str) -> None:
        if not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        shutil.rmtree(path)
        self.left += 1

    def write(self, path: str, value: str) -> None:
        if value.startswith("L9:"):
            (self.root / "info/last_cmd_status").write_text("Unknown or unsupported resource name 'L9'\n")
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        assert os.path.exists(path), path
        Path(path).write_text(value)
        self.writes.append((os.path.relpath(path, self.root), value))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    (tmp_path / "resctrl").mkdir()
    kernel = Kernel(tmp_path / "resctrl")
    monkeypatch.setattr(resctrl, "posix", kernel)
    monkeypatch.setattr(resctrl, "write", kernel.write)
    return kernel


def made(kernel: Kernel, rdt: dict[str, Any]) -> Resctrl:
    group = Resctrl(rdt, "c", str(kernel.root))
    group.create()
    group.attach(42)
    return group


def test_without_closid_the_class_is_the_containers_own(kernel: Kernel) -> None:
    group = made(kernel, {"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=1", "L3:0=3"]})
    assert kernel.writes == [
        ("c/schemata", "L3:0=f\n"),
        ("c/schemata", "MB:0=20\n"),
        ("c/schemata", "L2:0=1\n"),
        ("c/schemata", "L3:0=3\n"),
        ("c/tasks", "42"),
    ]
    remove(group.removes, "c")
    assert not (kernel.root / "c").exists()


def test_monitoring_alone_needs_a_class_of_its_own_too(kernel: Kernel) -> None:
    group = made(kernel, {"enableMonitoring": True})
    assert kernel.writes == [("c/tasks", "42"), ("c/mon_groups/c/tasks", "42")]
    remove(group.removes, "c")
    assert kernel.left == 2


def test_closid_alone_joins_a_class_that_is_there_and_writes_no_schemata(kernel: Kernel) -> None:
    kernel.mkdir(str(kernel.root / "gold"), 0o755)
    group = made(kernel, {"closID": "gold"})
    assert kernel.writes == [("gold/tasks", "42")]
    assert (group.makes, group.removes) == ([], [])


def test_closid_alone_is_refused_without_that_class(kernel: Kernel) -> None:
    with pytest.raises(ConfigError, match="no class of service gold") as caught:
        made(kernel, {"closID": "gold"})
    assert caught.value.pointer == "/linux/intelRdt/closID"


def test_closid_with_schemata_makes_the_class_and_leaves_it_when_the_container_goes(kernel: Kernel) -> None:
    group = made(kernel, {"closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": True})
    assert kernel.writes == [("gold/schemata", "L3:0=f\n"), ("gold/tasks", "42"), ("gold/mon_groups/c/tasks", "42")]
    remove(group.removes, "c")
    assert (kernel.root / "gold").exists()
    assert not (kernel.root / "gold/mon_groups/c").exists()


@pytest.mark.parametrize(
    ("rdt", "wrong"),
    [
        ({"l3CacheSchema": "L3:0=fff;1=0fff"}, None),
        ({"l3CacheSchema": "L3:1=fff"}, None),
        ({"memBwSchema": "MB:0=100;1=50"}, None),
        ({"l3CacheSchema": "L3:0=ff"}, "l3CacheSchema"),
        ({"memBwSchema": "MB:0=10"}, "memBwSchema"),
        ({"memBwSchema": "MB:2=100"}, "memBwSchema"),
        ({"l3CacheSchema": "L3:0=fff", "memBwSchema": "MB:1=100"}, "memBwSchema"),
    ],
    ids=str,
)
@pytest.mark.parametrize("clos", ["gold", "/"])
def test_a_class_that_is_there_has_to_have_the_same_values(
    kernel: Kernel, clos: str, rdt: dict[str, str], wrong: str | None
) -> None:
    kernel.mkdir(str(kernel.root / "gold"), 0o755)
    if wrong is None:
        assert not made(kernel, {"closID": clos, **rdt}).makes
    else:
        with pytest.raises(ConfigError, match=r"is not what .*/schemata has for") as caught:
            made(kernel, {"closID": clos, **rdt})
        assert caught.value.pointer == f"/linux/intelRdt/{wrong}"


def test_the_default_class_is_the_root_and_is_never_removed(kernel: Kernel) -> None:
    group = made(kernel, {"closID": "/", "enableMonitoring": True})
    assert kernel.writes == [("tasks", "42"), ("mon_groups/c/tasks", "42")]
    assert group.removes == [f"{kernel.root}/mon_groups/c"]
    remove(group.removes, "c")
    assert (kernel.root / "schemata").exists()


def test_an_own_class_or_group_that_is_there_is_anothers(kernel: Kernel) -> None:
    kernel.mkdir(str(kernel.root / "c"), 0o755)
    with pytest.raises(ContainerError, match="exists already"):
        made(kernel, {"schemata": ["L3:0=f"]})
    kernel.mkdir(str(kernel.root / "mon_groups/c"), 0o755)
    with pytest.raises(ContainerError, match="exists already"):
        made(kernel, {"closID": "/", "enableMonitoring": True})


@pytest.mark.parametrize(
    ("left", "pointer", "words"),
    [(0, "/linux/intelRdt/closID", "no more classes"), (1, "/linux/intelRdt/enableMonitoring", "no more monitoring")],
)
def test_an_exhausted_processor_is_an_error(kernel: Kernel, left: int, pointer: str, words: str) -> None:
    kernel.left = left
    group = Resctrl({"enableMonitoring": True}, "c", str(kernel.root))
    with pytest.raises(KernelError) as caught:
        group.create()
    assert (caught.value.pointer, caught.value.errno) == (pointer, errno.ENOSPC)
    assert words in caught.value.hint
    remove(group.makes, "c")
    assert not (kernel.root / "c").exists()


def test_the_kernels_own_words_are_in_the_error_of_a_schema(kernel: Kernel) -> None:
    with pytest.raises(KernelError) as caught:
        made(kernel, {"schemata": ["L3:0=f", "L9:0=1"]})
    assert str(caught.value) == (
        f'/linux/intelRdt/schemata/1: write "L9:0=1" to {kernel.root}/c/schemata: Invalid argument '
        "(Unknown or unsupported resource name 'L9')"
    )


def test_a_creation_that_fails_takes_its_class_away_unless_others_have_joined_it(kernel: Kernel) -> None:
    group = made(kernel, {"closID": "gold", "schemata": ["L3:0=f"]})
    (kernel.root / "gold/tasks").write_text("77\n")
    remove(group.makes, "c")
    assert (kernel.root / "gold").exists()
    (kernel.root / "gold/tasks").write_text("")
    remove(group.makes, "c")
    assert not (kernel.root / "gold").exists()
    remove(group.makes, "c")


def test_the_mount_is_found_wherever_it_is(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(
        "22 1 0:21 / / rw - ext4 /dev/resctrl rw\n40 22 0:35 / /mnt/rdt rw,relatime shared:9 - resctrl resctrl rw\n"
    )
    assert mount_point(str(tmp_path / "mountinfo")) == "/mnt/rdt"
    (tmp_path / "mountinfo").write_text("22 1 0:21 / /sys/fs/resctrl rw - tmpfs resctrl rw\n")
    with pytest.raises(Error, match="resctrl is not mounted"):
        mount_point(str(tmp_path / "mountinfo"))


@pytest.mark.root
@pytest.mark.skipif("resctrl" in Path("/proc/self/mountinfo").read_text(), reason="this host has resctrl")
def test_without_resctrl_a_container_that_asks_for_it_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["intelRdt"] = {"enableMonitoring": True}
    done = runtime("create", "-b", bundle.write().path, "c")
    assert done.code == 1
    assert "/linux/intelRdt: resctrl is not mounted (mount -t resctrl" in done.err
    assert runtime("state", "c").code == 1


@pytest.mark.parametrize(
    ("rdt", "expected"),
    [({}, "/r/c"), ({"closID": "gold"}, "/r/gold"), ({"closID": "/"}, "/r"), ({"closID": ""}, "/r/c")],
)
def test_a_containers_class_is_found_again(rdt: dict[str, Any], expected: str) -> None:
    assert class_folder(rdt, "c", "/r") == expected


def test_schemata_change_and_come_back(kernel: Kernel) -> None:
    made(kernel, {"l3CacheSchema": "L3:0=f"})
    kernel.writes.clear()
    (kernel.root / "c/schemata").write_text(SCHEMATA)
    change = Schemata(str(kernel.root), str(kernel.root / "c"), [("/linux/intelRdt/l3CacheSchema", "L3:0=3")])
    change.apply()
    assert kernel.writes == [("c/schemata", "L3:0=3\n")]
    change.undo()
    assert kernel.writes[1:] == [("c/schemata", "L3:0=00fff;1=00fff\n"), ("c/schemata", "MB:0= 100;1=  50\n")]


def test_schemata_that_are_refused_take_the_others_back(kernel: Kernel) -> None:
    made(kernel, {"l3CacheSchema": "L3:0=f"})
    (kernel.root / "c/schemata").write_text(SCHEMATA)
    lines = [("/linux/intelRdt/l3CacheSchema", "L3:0=3"), ("/linux/intelRdt/memBwSchema", "L9:0=3")]
    with pytest.raises(KernelError) as failed:
        Schemata(str(kernel.root), str(kernel.root / "c"), lines).apply()
    assert failed.value.pointer == "/linux/intelRdt/memBwSchema"
    assert failed.value.hint == "Unknown or unsupported resource name 'L9'"
    assert kernel.writes[-2:] == [("c/schemata", "L3:0=00fff;1=00fff\n"), ("c/schemata", "MB:0= 100;1=  50\n")]
