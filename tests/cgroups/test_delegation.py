"""cgroups.delegation on made-up trees: where a cgroup may be, which controllers it will have, whom the host sees in us.

What a caller may write is asked of the kernel, and root may everything: that is in runtime/test_delegation.py."""

from __future__ import annotations

import posix
from pathlib import Path
from typing import Any

import pytest

from ocirt.cgroups import delegation
from ocirt.cgroups.delegation import delegated, host_uid, lack, may_join, obstacle, offered
from ocirt.cgroups.layout import Layout, Mounted
from ocirt.cgroups.manager import Cgroups
from ocirt.cgroups.resources import Resources
from ocirt.errors import ConfigError

CONTROLLERS = "cpuset cpu io memory pids"


class Tree:
    """A v2 hierarchy of plain folders. closed: what the caller may not write to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.closed: set[str] = set()
        self.cgroup("", CONTROLLERS, CONTROLLERS)

    def cgroup(self, name: str, controllers: str = "", handed: str = "", processes: str = "") -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.controllers").write_text(controllers + "\n")
        (folder / "cgroup.subtree_control").write_text(handed + "\n")
        (folder / "cgroup.procs").write_text(processes)
        if name:
            (folder / "cgroup.type").write_text("domain\n")
        return folder

    def layout(self, own: str) -> Layout:
        return Layout([Mounted("", (), str(self.root), own, v2=True)], pure_v2=True)

    def close(self, *names: str) -> None:
        self.closed.update(str(self.root / name) for name in names)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    one = Tree(tmp_path / "cgroup")
    one.close(".", "cgroup.procs", "cgroup.subtree_control")
    monkeypatch.setattr(delegation.posix, "access", lambda path, *_, **__: str(Path(path)) not in one.closed)
    return one


def place_of(cgroups: Cgroups) -> str:
    ((_, _, _, mount, path),) = cgroups.places
    return path[len(mount) :]


def test_on_v2_it_is_beside_our_own_cgroup_where_it_can_have_limits(tree: Tree) -> None:
    tree.cgroup("service", CONTROLLERS, "pids")
    tree.cgroup("service/leaf", "pids", processes="7\n")
    cgroups = delegated(tree.layout("/service/leaf"), "", "c")
    assert (place_of(cgroups), cgroups.delegated, cgroups.follow) == ("/service/c", True, False)
    assert Cgroups.from_state(cgroups.to_state()).delegated


def test_and_below_it_where_that_is_all_that_is_ours(tree: Tree) -> None:
    tree.cgroup("service", CONTROLLERS, processes="7\n")
    cgroups = delegated(tree.layout("/service"), "", "c")
    assert place_of(cgroups) == "/service/c"
    with pytest.raises(
        ConfigError, match=r"/linux/resources/pids/limit: .*/service cannot hand down its pids"
    ) as caught:
        cgroups.limit({"pids": {"limit": 3}})
    assert "DelegateSubgroup=" in caught.value.hint


def test_an_absolute_path_is_taken_as_it_is_or_refused(tree: Tree) -> None:
    tree.cgroup("service", CONTROLLERS)
    tree.cgroup("service/leaf")
    tree.cgroup("other", CONTROLLERS)
    layout = tree.layout("/service/leaf")
    assert place_of(delegated(layout, "/service/a/b", "c")) == "/service/a/b"
    with pytest.raises(ConfigError, match=r'/linux/cgroupsPath: no cgroup "/other/c": .* write to .*/cgroup\.procs'):
        delegated(layout, "/other/c", "c")  # its folder is ours, but we may not move a process from here to there


def test_one_that_is_there_already_has_to_take_processes(tree: Tree) -> None:
    tree.cgroup("service")
    tree.cgroup("service/c")
    (one,) = tree.layout("/service/leaf").hierarchies
    assert obstacle(one, "/service/c") == ""
    tree.close("service/c/cgroup.procs")
    assert "service/c/cgroup.procs" in obstacle(one, "/service/c")


def test_nothing_is_no_cgroup(tree: Tree) -> None:
    cgroups = delegated(tree.layout("/"), "", "c")
    assert (cgroups.places, cgroups.manager) == ((), "disabled")
    (warning,) = cgroups.limit({"devices": [], "pids": {"limit": -1}})
    assert f"may not write to {tree.root}" in warning
    with pytest.raises(ConfigError, match="/linux/resources/pids/limit: a limit needs a cgroup"):
        cgroups.limit({"pids": {"limit": 0}})


def test_of_v1_hierarchies_each_is_looked_at(tmp_path: Path, tree: Tree) -> None:
    hierarchies = []
    for name in ("pids", "memory", "cpuset"):
        (tmp_path / name).mkdir()
        hierarchies.append(Mounted(name, (name,), f"{tmp_path}/{name}", "/", v2=False))
    (tmp_path / "cpuset/cpuset.cpus").write_text("\n")
    tree.closed.add(str(tmp_path / "memory"))
    cgroups = delegated(Layout(hierarchies, pure_v2=False), "", "c")
    assert [place[0] for place in cgroups.places] == ["pids"]
    # A cgroup mount shows our own place in the others.
    assert [place[0] for place in cgroups.shown()] == ["pids", "memory", "cpuset"]
    with pytest.raises(ConfigError, match="no cgroup with the memory controller is delegated to the user"):
        cgroups.limit({"memory": {"limit": 5}})


@pytest.mark.parametrize(
    ("handed", "processes", "closed", "expected"),
    [
        ("pids", "", False, CONTROLLERS),  # the rest we can enable
        ("pids", "", True, "pids"),
        ("pids", "7\n", False, "pids"),
        ("", "7\n", False, ""),
    ],
)
def test_a_new_cgroup_has_what_those_above_it_hand_down(
    tree: Tree, handed: str, processes: str, closed: bool, expected: str
) -> None:
    tree.cgroup("service", CONTROLLERS, handed, processes)
    if closed:
        tree.close("service/cgroup.subtree_control")
    found = offered(str(tree.root), f"{tree.root}/service/new/c")
    assert sorted(found) == sorted(expected.split())
    tree.cgroup("service/new", "memory")
    assert offered(str(tree.root), f"{tree.root}/service/new") == ["memory"]


def test_who_moves_a_process_has_to_own_what_both_places_share(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegation, "read", lambda path: "1:name=systemd:/\n0::/service/leaf\n")
    assert may_join(f"{tree.root}/service/c", str(tree.root))
    assert not may_join(f"{tree.root}/services", str(tree.root))
    tree.close("service/c/cgroup.procs")
    assert not may_join(f"{tree.root}/service/c", str(tree.root))


@pytest.mark.parametrize(
    ("uid", "uid_map", "expected"),
    [(0, "0 1000 1\n1 100000 65536\n", 1000), (5, "0 1000 1\n1 100000 65536\n", 100004), (7, "0 1000 1\n", 7)],
)
def test_the_hosts_word_for_us(monkeypatch: pytest.MonkeyPatch, uid: int, uid_map: str, expected: int) -> None:
    monkeypatch.setattr(posix, "geteuid", lambda: uid)
    monkeypatch.setattr(delegation, "read", lambda path: uid_map)
    assert host_uid() == expected


@pytest.mark.parametrize(
    ("unified", "error"), [({"memory.max": "5"}, True), ({"cgroup.max.depth": "3"}, False), ({"pids.max": "3"}, False)]
)
def test_unified_needs_the_controller_too(tree: Tree, unified: dict[str, Any], error: bool) -> None:
    tree.cgroup("service", "pids", "pids", processes="7\n")
    places = [("", (), True, str(tree.root), f"{tree.root}/service/c")]
    if error:
        with pytest.raises(ConfigError, match=r"/unified/memory\.max: the memory controller is not delegated"):
            Resources(places, {"unified": unified}, delegated=True)
    else:
        assert Resources(places, {"unified": unified}, delegated=True).unified


def test_the_hint_names_the_service_where_there_is_systemd(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.cgroup("service", "pids")
    monkeypatch.setattr(delegation, "host_uid", lambda: 1000)
    there = {"/run/systemd/system"}
    made = delegation.exists
    monkeypatch.setattr(
        delegation, "exists", lambda path: path in there or (path.startswith(str(tree.root)) and made(path))
    )
    assert "Delegate= of user@1000.service" in lack("/x", "memory", f"{tree.root}/service/c").hint
    assert "`loginctl enable-linger 1000`" in delegation.fix()
    there.add("/run/user/1000/bus")
    assert delegation.fix().startswith("`--systemd-cgroup`")
    there.clear()
    assert "have root make a cgroup" in delegation.fix()
