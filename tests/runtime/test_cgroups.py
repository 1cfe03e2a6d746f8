"""The cgroups of a container on the hierarchies that the host has (v1, and hybrid under KEEP_UNIFIED=1), and what the
device rules let a payload do. Pure v2 is in test_v2.py."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import OCIRT, Bundle, Runtime, cgroup_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/fs/cgroup")
DEFAULT_RULES = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
]
WITHOUT_CAP_MKNOD = [{"allow": False, "access": "rwm"}]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif((ROOT / "cgroup.controllers").exists(), reason="a pure v2 host: test_v2.py is for it"),
]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = cgroup_folders()
    yield
    assert cgroup_folders() == before


@pytest.fixture
def waiting(runtime: Runtime, bundle: Bundle) -> Iterator[Bundle]:
    """A bundle to `create` as "c" after changes; deleted at the end."""
    yield bundle
    runtime("delete", "--force", "c")


def hierarchies() -> list[str]:
    return sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink())


def expected_in(hierarchy: str, cgroups_path: str) -> str:
    """An absolute path counts from the root; any other from our own cgroup, on v2 from the one around it."""
    own = paths_of(os.getpid())[hierarchy]
    base = own.rpartition("/")[0] if hierarchy == "unified" else own.rstrip("/")
    return cgroups_path if cgroups_path.startswith("/") else f"{base}/{cgroups_path}"


def folder_of(hierarchy: str, container_id: str = "c") -> Path:
    """A container's default cgroup."""
    return Path(f"{ROOT}/{hierarchy}{expected_in(hierarchy, container_id)}")


def paths_of(pid: int) -> dict[str, str]:
    """Hierarchy → this process's cgroup in it."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        found["unified" if number == "0" else controllers.removeprefix("name=")] = path
    return {name: path for name, path in found.items() if (ROOT / name).is_dir()}


def create(runtime: Runtime, bundle: Bundle, cgroups_path: str | None = None) -> int:
    if cgroups_path is not None:
        bundle.config["linux"]["cgroupsPath"] = cgroups_path
    bundle.write()
    done = runtime("create", "-b", bundle.path, "c")
    assert done.code == 0, done.err
    return int(runtime.state("c")["pid"])


@pytest.mark.parametrize(
    ("cgroups_path", "expected"),
    [
        (None, "c"),
        ("", "c"),
        ("/absolute", "/absolute"),
        ("relative", "relative"),
        ("/nested/deeply/one", "/nested/deeply/one"),
        ("relative/two", "relative/two"),
        ("/with space/ünï", "/with space/ünï"),
        ("//double//slashes/./", "/double/slashes"),
    ],
)
def test_the_container_is_in_its_cgroup_on_every_hierarchy(
    runtime: Runtime, waiting: Bundle, cgroups_path: str | None, expected: str
) -> None:
    pid = create(runtime, waiting, cgroups_path)
    assert paths_of(pid) == {name: expected_in(name, expected) for name in hierarchies()}
    for name, path in paths_of(pid).items():
        assert Path(f"{ROOT}/{name}{path}/cgroup.procs").read_text() == f"{pid}\n"


def test_a_path_with_dots_cannot_leave_the_hierarchy(runtime: Runtime, waiting: Bundle) -> None:
    waiting.config["linux"]["cgroupsPath"] = "/../../../../tmp/outside"
    waiting.write()
    done = runtime("create", "-b", waiting.path, "c")
    if done.code == 0:
        assert set(paths_of(runtime.state("c")["pid"]).values()) == {"/tmp/outside"}
    assert not Path("/tmp/outside").exists()
    assert not Path("/sys/tmp").exists()


def test_parents_that_were_made_for_it_go_with_it_and_others_stay(runtime: Runtime, waiting: Bundle) -> None:
    theirs = [ROOT / name / "theirs" for name in hierarchies()]
    for folder in theirs:
        folder.mkdir()
    try:
        create(runtime, waiting, "/theirs/ours/c")
        assert all((folder / "ours/c").is_dir() for folder in theirs)
        assert runtime("delete", "--force", "c").code == 0
        assert all(folder.is_dir() and not (folder / "ours").exists() for folder in theirs)
    finally:
        for folder in theirs:
            folder.rmdir()


def test_a_parent_that_another_container_uses_stays(runtime: Runtime, waiting: Bundle) -> None:
    create(runtime, waiting, "/pod/c")
    waiting.config["linux"]["cgroupsPath"] = "/pod/d"
    waiting.write()
    assert runtime("create", "-b", waiting.path, "d").code == 0
    try:
        assert runtime("delete", "--force", "c").code == 0
        assert all((ROOT / name / "pod/d").is_dir() for name in hierarchies())
    finally:
        assert runtime("delete", "--force", "d").code == 0
        for name in hierarchies():
            (ROOT / name / "pod").rmdir()  # c's, but it could not go with c


@pytest.mark.parametrize("made", ["/theirs", "/theirs/c"])
def test_cgroups_that_an_administrator_made_by_mkdir_are_fit_to_use(
    runtime: Runtime, waiting: Bundle, made: str
) -> None:
    """An empty cpuset takes no process, so it gets its parent's CPUs."""
    for name in hierarchies():
        (ROOT / name / made[1:]).mkdir(parents=True)
    try:
        pid = create(runtime, waiting, "/theirs/c")
        assert set(paths_of(pid).values()) == {"/theirs/c"}
    finally:
        runtime("delete", "--force", "c")
        for name in hierarchies():
            (ROOT / name / "theirs").rmdir()


def test_a_cgroup_with_processes_of_another_container_is_refused_and_left_alone(
    runtime: Runtime, waiting: Bundle
) -> None:
    pid = create(runtime, waiting, "/same")
    done = runtime("create", "-b", waiting.path, "d")
    assert done.code == 1
    assert "/linux/cgroupsPath" in done.err
    assert str(pid) in done.err
    assert paths_of(pid)["devices"] == "/same"
    assert runtime.state("c")["status"] == "created"


def test_of_many_that_are_made_at_once_in_one_cgroup_one_is(runtime: Runtime, waiting: Bundle, tmp_path: Path) -> None:
    waiting.config["linux"]["cgroupsPath"] = "/one/for/all"
    waiting.write()
    before = cgroup_folders()
    ids = [f"c{number}" for number in range(6)]

    def create(container_id: str) -> subprocess.Popen[bytes]:
        argv = [OCIRT, "--root", str(runtime.root), "create", "-b", str(waiting.path), container_id]
        with (tmp_path / container_id).open("wb") as said:
            return subprocess.Popen(argv, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)

    try:
        for _ in range(5):
            codes = [process.wait(60) for process in [create(one) for one in ids]]
            errors = [(tmp_path / one).read_text() for one in ids]
            assert sorted(codes) == [0, 1, 1, 1, 1, 1], errors
            assert all(code == 0 or "/linux/cgroupsPath: " in error for code, error in zip(codes, errors, strict=True))
            made = ids[codes.index(0)]
            assert runtime("list", "-q").out.split() == [made]
            pids = {procs.read_text() for procs in ROOT.rglob("one/for/all/cgroup.procs")}
            assert pids == {f"{runtime.state(made)['pid']}\n"}
            assert runtime("delete", "--force", made).code == 0
    finally:
        for one in ids:
            runtime("delete", "--force", one)
    assert cgroup_folders() == before


def test_deleting_a_stopped_container_spares_another_that_has_its_cgroup_by_now(
    runtime: Runtime, waiting: Bundle
) -> None:
    waiting.config["linux"]["cgroupsPath"] = "/shared"
    waiting.config["process"]["args"] = ["/bin/sleep", "100"]
    waiting.write()
    assert runtime("create", "--bundle", waiting.path, "c").code == 0
    runtime("kill", "c", "KILL")
    while runtime.state("c")["status"] != "stopped":
        pass
    assert runtime("run", "--detach", "--bundle", waiting.path, "second").code == 0
    done = runtime("delete", "c")
    assert done.code == 1
    assert f"has processes of others: {runtime.state('second')['pid']}" in done.err
    assert runtime.state("second")["status"] == "running"
    assert runtime("delete", "--force", "second").code == 0
    assert runtime("delete", "c").code == 0


def test_processes_that_left_their_parent_are_killed_with_the_container(runtime: Runtime, waiting: Bundle) -> None:
    """Without a pid namespace nothing but the cgroup ties them to it."""
    waiting.config["root"]["readonly"] = False
    waiting.config["linux"]["namespaces"] = [
        one for one in waiting.config["linux"]["namespaces"] if one["type"] != "pid"
    ]
    done = runtime.sh(waiting, "(sleep 1000 & sleep 1000 &) ; exit 4", "c", stderr=None)
    assert done.code == 4
    assert [one for one in cgroup_folders() if one.endswith("/c")] == []


def test_inside_the_cgroup_namespace_its_cgroup_is_the_root(runtime: Runtime, waiting: Bundle) -> None:
    shown = runtime.sh(waiting, "cat /proc/self/cgroup", "c").out.splitlines()
    own = [line for line in shown if not line.startswith("0::") or (ROOT / "unified").is_dir()]
    assert {line.split(":", 2)[2] for line in own} == {"/"}


@pytest.mark.parametrize("namespace", [True, False])
def test_the_cgroup_mount_shows_every_hierarchy_readonly_and_with_the_own_cgroup_as_root(
    runtime: Runtime, waiting: Bundle, namespace: bool
) -> None:
    if not namespace:
        waiting.config["linux"]["namespaces"] = [
            one for one in waiting.config["linux"]["namespaces"] if one["type"] != "cgroup"
        ]
    script = (
        "ls /sys/fs/cgroup; for h in /sys/fs/cgroup/*; do cat $h/cgroup.procs; mkdir $h/x || echo refused;"
        " done; mkdir /sys/fs/cgroup/x || echo refused"
    )
    words = runtime.sh(waiting, script, "c").out.split()
    names = {*hierarchies(), *(alias for name in hierarchies() if "," in name for alias in name.split(","))}
    count = len(names)
    assert set(words[:count]) == names
    rest = words[count:]
    assert rest.count("refused") == count + 1
    assert "1" in rest  # our own pid in each, and cat's


def test_a_writable_cgroup_mount_lets_the_payload_make_cgroups_below_its_own(runtime: Runtime, waiting: Bundle) -> None:
    for mount in waiting.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", "rw"]
    script = (
        "mkdir /sys/fs/cgroup/pids/x && echo 5 > /sys/fs/cgroup/pids/x/pids.max && cat /sys/fs/cgroup/pids/x/pids.max"
    )
    done = runtime.sh(waiting, script, "c")
    assert (done.code, done.out) == (0, "5\n"), done.err


# Device rules


def rules_of(runtime: Runtime, bundle: Bundle, devices: list[dict[str, Any]] | None) -> list[str]:
    """devices.list of a container with these rules (None: no resources at all)."""
    if devices is None:
        bundle.config["linux"].pop("resources", None)
    else:
        bundle.config["linux"]["resources"] = {"devices": devices}
    create(runtime, bundle)
    return (folder_of("devices") / "devices.list").read_text().splitlines()


@pytest.mark.parametrize("devices", [None, [], WITHOUT_CAP_MKNOD])
def test_whatever_the_configuration_leaves_out_a_container_starts_from_nothing_and_the_defaults(
    runtime: Runtime, waiting: Bundle, devices: list[dict[str, Any]] | None
) -> None:
    assert rules_of(runtime, waiting, devices) == DEFAULT_RULES


def test_the_configurations_rules_come_first_and_in_order(runtime: Runtime, waiting: Bundle) -> None:
    devices = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        {"allow": True, "type": "b", "major": 8, "access": "r"},
        {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"},
    ]
    assert rules_of(runtime, waiting, devices) == ["c 10:229 rwm", "b 8:* r", "c 10:200 rw", *DEFAULT_RULES]


def test_an_allow_rule_for_everything_is_written_as_such(runtime: Runtime, waiting: Bundle) -> None:
    assert rules_of(runtime, waiting, [{"allow": True, "access": "rwm"}]) == ["a *:* rwm"]


def use_devices(runtime: Runtime, bundle: Bundle, devices: list[dict[str, Any]] | None) -> list[str]:
    """Nodes of the image for a device that is denied by default (kmsg, 1:11) and one that is not; what opening says."""
    for name, minor in (("kmsg", 11), ("zero2", 5)):
        os.mknod(bundle.rootfs / name, 0o020666, os.makedev(1, minor))
    if devices is None:
        bundle.config["linux"].pop("resources", None)
    else:
        bundle.config["linux"]["resources"] = {"devices": devices}
    script = (
        "for f in /kmsg /zero2 /dev/null /dev/urandom /dev/full; do"
        " (exec 3< $f) 2>/dev/null && echo yes || echo no; done; (exec 3> /kmsg) 2>/dev/null && echo yes || echo no"
    )
    return runtime.sh(bundle, script, "c").out.split()


@pytest.mark.parametrize("devices", [None, [], WITHOUT_CAP_MKNOD])
def test_a_device_that_nobody_allowed_cannot_be_opened_and_default_devices_can(
    runtime: Runtime, waiting: Bundle, devices: list[dict[str, Any]] | None
) -> None:
    assert use_devices(runtime, waiting, devices) == ["no", "yes", "yes", "yes", "yes", "no"]


@pytest.mark.parametrize(
    ("access", "reading", "writing"), [("r", "yes", "no"), ("w", "no", "yes"), ("rw", "yes", "yes")]
)
def test_an_allow_rule_opens_a_device_for_what_it_names(
    runtime: Runtime, waiting: Bundle, access: str, reading: str, writing: str
) -> None:
    devices = [*WITHOUT_CAP_MKNOD, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": access}]
    waiting.config["process"]["capabilities"] = {
        name: ["CAP_SYSLOG", "CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")
    }  # what the kernel itself asks of a reader of kmsg
    assert use_devices(runtime, waiting, devices) == [reading, "yes", "yes", "yes", "yes", writing]


def test_nodes_can_be_made_with_the_capability_but_not_opened(runtime: Runtime, waiting: Bundle) -> None:
    waiting.config["root"]["readonly"] = False
    waiting.config["process"]["capabilities"] = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    (waiting.rootfs / "bin/mknod").symlink_to("busybox")
    done = runtime.sh(waiting, "mknod /k c 1 11 && (exec 3< /k) 2>/dev/null || echo denied", "c")
    assert done.out == "denied\n"


# Memory


@pytest.mark.skipif(not (ROOT / "memory").is_dir(), reason="no v1 memory hierarchy here")
def test_a_container_that_waits_for_start_holds_at_most_256_kib(
    runtime: Runtime, waiting: Bundle, record_property: Any
) -> None:
    create(runtime, waiting)
    folder = folder_of("memory")
    undrained = int((folder / "memory.usage_in_bytes").read_text())
    for _ in range(100):  # what a busy processor has in reserve for it, up to 256 KiB, is given back in its own time
        (folder / "memory.force_empty").write_text("0")
        held = int((folder / "memory.usage_in_bytes").read_text())
        if held <= 256 << 10:
            break
        time.sleep(0.05)
    print(f"charged to a container that waits for start: {held >> 10} KiB drained, {undrained >> 10} KiB before")
    record_property("held_kib", held >> 10)
    assert held <= 256 << 10


@pytest.mark.parametrize("place", ["frozen", "frozen/c", "frozen/deeper/c"])
def test_a_frozen_cgroup_is_refused(runtime: Runtime, waiting: Bundle, place: str) -> None:
    folder = ROOT / "freezer/frozen"
    deeper = folder / "deeper"
    deeper.mkdir(parents=True)
    try:
        (folder / "freezer.state").write_text("FROZEN")
        waiting.config["linux"]["cgroupsPath"] = f"/{place}"
        done = runtime("create", "-b", waiting.write().path, "c")
        assert done.code == 1
        assert "/linux/cgroupsPath: the cgroup" in done.err and "is frozen (thaw it first" in done.err
        assert not any((ROOT / name / "frozen").exists() for name in hierarchies() if name != "freezer")
    finally:
        deeper.rmdir()
        folder.rmdir()


def test_cgroups_that_a_container_has_nested_deeply_go_with_it(runtime: Runtime, bundle: Bundle) -> None:
    """More than a stack or a path takes."""
    for mount in bundle.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"].remove("ro")
    nest = "while [ $i -lt 1500 ]; do mkdir d && cd d && i=$((i+1)); done; echo $i"
    done = runtime.sh(bundle, f"cd /sys/fs/cgroup/systemd || exit; i=0; {nest}")
    assert (done.code, done.out, done.err) == (0, "1500\n", "")
    assert runtime("delete", "--force", "sh").code == 0
