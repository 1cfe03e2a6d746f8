"""cgroups.layout.detect on made-up hosts: their /proc/self/cgroup, their mountinfo, their /sys/fs/cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.cgroups.layout import Layout, detect
from ocirt.errors import Error


class FakeHost:
    """A host in a folder. Hierarchies are folders with the one file that detect looks for."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.process = folder / "process"
        self.root.mkdir()
        self.process.mkdir()
        self.lines("")
        self.mountinfo()

    def lines(self, text: str) -> None:
        (self.process / "cgroup").write_text(text)

    def mountinfo(self, *lines: str) -> None:
        (self.process / "mountinfo").write_text("".join(line + "\n" for line in lines))

    def mount(self, name: str, *cgroups: str) -> Path:
        for folder in ("", *cgroups):
            path = self.root / name / folder.strip("/")
            path.mkdir(parents=True, exist_ok=True)
            (path / "cgroup.procs").touch()
        return self.root / name

    def detect(self) -> Layout:
        return detect(str(self.root), str(self.process))

    def found(self) -> list[tuple[str, tuple[str, ...], str, bool]]:
        """(name, controllers, our own cgroup, v2) of each hierarchy."""
        return [(one.name, one.controllers, one.own, one.v2) for one in self.detect().hierarchies]


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def test_a_pure_v2_host_has_one_hierarchy(fake: FakeHost) -> None:
    fake.lines("0::/user.slice\n")
    fake.mount("", "user.slice")
    (fake.root / "cgroup.controllers").write_text("cpu memory\n")
    layout = fake.detect()
    assert layout.pure_v2
    (one,) = layout.hierarchies
    assert (one.name, one.mount, one.own, one.v2) == ("", str(fake.root), "/user.slice", True)


def test_v1_hierarchies_that_linger_beside_pure_v2_do_not_count(fake: FakeHost) -> None:
    fake.lines("1:name=systemd:/\n0::/\n")
    fake.mount("")
    (fake.root / "cgroup.controllers").touch()
    assert [one.v2 for one in fake.detect().hierarchies] == [True]


def test_a_v1_host_has_one_for_each_line(fake: FakeHost) -> None:
    fake.lines("12:cpu,cpuacct:/\n4:devices:/user\n1:name=systemd:/\n0::/\n")
    fake.mount("cpu,cpuacct")
    fake.mount("devices", "user")
    fake.mount("systemd")
    assert not fake.detect().pure_v2
    assert fake.found() == [
        ("cpu,cpuacct", ("cpu", "cpuacct"), "/", False),
        ("devices", ("devices",), "/user", False),
        ("systemd", ("name=systemd",), "/", False),
    ]


def test_a_hybrid_host_also_has_the_unified_one(fake: FakeHost) -> None:
    fake.lines("4:devices:/\n0::/a\n")
    fake.mount("devices")
    fake.mount("unified", "a")
    assert fake.found()[-1] == ("unified", (), "/a", True)


def test_a_hierarchy_that_is_not_mounted_is_left_out(fake: FakeHost) -> None:
    fake.lines("4:devices:/\n3:freezer:/\n")
    fake.mount("devices")
    assert [name for name, *_ in fake.found()] == ["devices"]


def test_a_hierarchy_at_an_unusual_place_is_found_in_mountinfo(fake: FakeHost, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "cpu-and-more"
    place.mkdir(parents=True)
    fake.lines("5:cpu,cpuacct:/\n4:devices:/\n")
    fake.mount("devices")
    fake.mountinfo(
        "20 1 0:19 / /proc rw,nosuid shared:1 - proc proc rw",
        f"30 25 0:26 / {place} rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct",
        "31 25 0:26 / /again rw - cgroup cgroup rw,cpu,cpuacct",
    )
    (cpu, _) = fake.detect().hierarchies
    assert (cpu.name, cpu.mount, cpu.controllers) == ("cpu-and-more", str(place), ("cpu", "cpuacct"))


def test_a_named_hierarchy_is_found_in_mountinfo_too(fake: FakeHost) -> None:
    fake.lines("5:name=elogind:/\n")
    fake.mountinfo("30 25 0:26 / /mnt/named rw - cgroup none rw,xattr,name=elogind")
    assert [one.mount for one in fake.detect().hierarchies] == ["/mnt/named"]


def test_our_cgroup_counts_from_the_mounts_root(fake: FakeHost) -> None:
    """In a container with the host's cgroup namespace, /proc/self/cgroup has more than its mount shows."""
    fake.lines("4:devices:/docker/0123/inner\n")
    mount = fake.mount("devices", "inner")
    fake.mountinfo(f"30 25 0:26 /docker/0123 {mount} ro - cgroup cgroup rw,devices")
    assert fake.found() == [("devices", ("devices",), "/inner", False)]


def test_our_cgroup_is_the_root_when_it_is_that_of_the_mount(fake: FakeHost) -> None:
    fake.lines("4:devices:/docker/0123\n")
    mount = fake.mount("devices")
    fake.mountinfo(f"30 25 0:26 /docker/0123 {mount} ro - cgroup cgroup rw,devices")
    assert fake.found() == [("devices", ("devices",), "/", False)]


@pytest.mark.parametrize("own", ["/..", "/../neighbour", "/../../far/away"])
def test_our_cgroup_is_the_root_when_it_is_out_of_sight(fake: FakeHost, own: str) -> None:
    """A path that leads out of the mount exists, but is no cgroup."""
    fake.lines(f"4:devices:{own}\n")
    fake.mount("devices")
    fake.mount("neighbour")
    assert fake.found() == [("devices", ("devices",), "/", False)]


def test_another_container_with_a_longer_name_is_not_taken_for_ours(fake: FakeHost) -> None:
    fake.lines("4:devices:/docker/01234\n")
    mount = fake.mount("devices")
    fake.mountinfo(f"30 25 0:26 /docker/0123 {mount} ro - cgroup cgroup rw,devices")
    assert fake.found() == [("devices", ("devices",), "/", False)]


def test_a_colon_in_a_cgroups_name_is_part_of_it(fake: FakeHost) -> None:
    fake.lines("4:devices:/a:b/c\n")
    fake.mount("devices", "a:b/c")
    assert fake.found() == [("devices", ("devices",), "/a:b/c", False)]


def test_a_host_without_cgroups_is_an_error_with_a_hint(fake: FakeHost) -> None:
    fake.lines("0::/\n")
    with pytest.raises(Error, match="no cgroup hierarchy is mounted") as refused:
        fake.detect()
    assert "cgroup2" in refused.value.hint


def test_this_host_is_understood() -> None:
    layout = detect()
    assert layout.hierarchies
    for one in layout.hierarchies:
        assert Path(one.mount, "cgroup.procs").exists()
        assert Path(one.mount + one.own).is_dir()
