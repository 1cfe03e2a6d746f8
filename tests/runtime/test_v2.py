"""Pure cgroup v2: the life cycle there, and the device rules, which are a BPF program.

On a host with v1 this file runs itself again in namespaces where the v2 tree, and in it a new cgroup, is all of
/sys/fs/cgroup. That tree may have no controllers, but devices need none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import Bundle, Runtime, cgroup_folders, inits

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/fs/cgroup")
PURE = (ROOT / "cgroup.controllers").exists()

OUTSIDE = """
mount -t cgroup2 cgroup2 "$1" || exit 125
group=$1/ocirt-v2-$$
mkdir "$group" || exit 125
shift
sh -c 'echo $$ >"$0/cgroup.procs" && exec unshare --cgroup --mount "$@"' "$group" "$@"
status=$?
find "$group" -depth -type d -exec rmdir {} + || status=125
exit $status
"""
INSIDE = """
umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 125
mkdir /sys/fs/cgroup/tests && echo $$ >/sys/fs/cgroup/tests/cgroup.procs || exit 125
exec "$@"
"""

pytestmark = pytest.mark.root
on_v2 = pytest.mark.skipif(not PURE, reason="runs inside the first test of this file, or on a pure v2 host")


@pytest.mark.skipif(PURE, reason="this is a pure v2 host already")
def test_everything_in_this_file_passes_where_v2_is_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    pytest_ = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider", f"--basetemp={tmp_path}/inner"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", OUTSIDE, "sh", tmp_path / "v2", "sh", "-c", INSIDE, "sh", *pytest_],
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout, done.stdout


@pytest.fixture
def waiting(runtime: Runtime, bundle: Bundle) -> Iterator[Bundle]:
    """A bundle to `create` as "c" after changes. At the end it is deleted, and nothing is left."""
    before = cgroup_folders()
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    yield bundle.write()
    assert runtime("delete", "--force", "c").code == 0
    assert cgroup_folders() == before
    assert not inits()


def create(runtime: Runtime, bundle: Bundle) -> int:
    bundle.write()
    done = runtime("create", "-b", bundle.path, "c")
    assert done.code == 0, done.err
    return int(runtime.state("c")["pid"])


def unified(shown: str) -> str:
    """The v2 cgroup in what /proc/PID/cgroup says; an imitated v2 host has v1 lines there too."""
    return next(line.removeprefix("0::") for line in shown.splitlines() if line.startswith("0::"))


def own_parent() -> str:
    """The cgroup that ours is in: a relative path counts from there, because ours has processes."""
    return unified(Path("/proc/self/cgroup").read_text()).rpartition("/")[0]


@on_v2
def test_a_container_lives_and_dies(runtime: Runtime, waiting: Bundle) -> None:
    create(runtime, waiting)
    assert runtime.state("c")["status"] == "created"
    assert runtime("start", "c").code == 0
    assert runtime.state("c")["status"] == "running"
    assert runtime("delete", "c").code == 1
    assert runtime("kill", "c", "KILL").code == 0
    while runtime.state("c")["status"] == "running":
        os.sched_yield()
    assert runtime("start", "c").code == 1
    assert runtime("delete", "c").code == 0


@on_v2
@pytest.mark.parametrize(
    ("cgroups_path", "expected"),
    [
        (None, "{own}/c"),
        ("relative/two", "{own}/relative/two"),
        ("/nested/deeply/one", "/nested/deeply/one"),
        ("//double//slashes/./", "/double/slashes"),
    ],
)
def test_the_container_is_in_its_cgroup_and_its_parents_go_with_it(
    runtime: Runtime, waiting: Bundle, cgroups_path: str | None, expected: str
) -> None:
    if cgroups_path is not None:
        waiting.config["linux"]["cgroupsPath"] = cgroups_path
    pid = create(runtime, waiting)
    expected = expected.format(own=own_parent())
    assert unified(Path(f"/proc/{pid}/cgroup").read_text()) == expected
    assert Path(f"{ROOT}{expected}/cgroup.procs").read_text() == f"{pid}\n"


@on_v2
def test_processes_that_left_their_parent_are_killed_with_the_container(runtime: Runtime, waiting: Bundle) -> None:
    waiting.config["linux"]["namespaces"] = [
        one for one in waiting.config["linux"]["namespaces"] if one["type"] != "pid"
    ]
    assert runtime.sh(waiting, "sleep 1000 >/dev/null 2>&1 & exit 4", "c").code == 4


@on_v2
@pytest.mark.parametrize("option", ["ro", "rw"])
def test_inside_there_is_one_hierarchy_whose_root_is_the_containers_cgroup(
    runtime: Runtime, waiting: Bundle, option: str
) -> None:
    for mount in waiting.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", option]
    script = (
        "cat /proc/self/cgroup; head -1 /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x"
    )
    done = runtime.sh(waiting, script, "c")
    assert unified(done.out) == "/"
    assert done.out.splitlines()[-1] == "1"
    assert done.code == (0 if option == "rw" else 1)


@on_v2
def test_without_a_cgroup_namespace_the_mount_still_shows_only_the_own_cgroup(
    runtime: Runtime, waiting: Bundle
) -> None:
    waiting.config["linux"]["namespaces"] = [
        one for one in waiting.config["linux"]["namespaces"] if one["type"] != "cgroup"
    ]
    done = runtime.sh(waiting, "cat /proc/self/cgroup; head -1 /sys/fs/cgroup/cgroup.procs", "c")
    assert unified(done.out) == f"{own_parent()}/c"
    assert done.out.splitlines()[-1] == "1"


# Device rules

DENY = {"allow": False, "access": "rwm"}


def rule(allow: bool, access: str, major: int | None = 1, minor: int | None = 11, kind: str = "c") -> dict[str, Any]:
    numbers = {name: number for name, number in (("major", major), ("minor", minor)) if number is not None}
    return {"allow": allow, "type": kind, "access": access, **numbers}


@on_v2
@pytest.mark.parametrize(
    ("rules", "reading", "writing"),
    [
        (None, "no", "no"),
        ([], "no", "no"),
        ([DENY], "no", "no"),
        ([DENY, rule(True, "r")], "yes", "no"),
        ([DENY, rule(True, "w")], "no", "yes"),
        ([DENY, rule(True, "rw")], "yes", "yes"),
        ([DENY, rule(True, "r"), rule(True, "w")], "yes", "yes"),
        ([DENY, rule(True, "rw", minor=None)], "yes", "yes"),
        ([DENY, rule(True, "rw", kind="b")], "no", "no"),
        ([DENY, rule(True, "rw", minor=12)], "no", "no"),
        ([rule(True, "rwm", 10, 229)], "no", "no"),
        ([{"allow": True, "access": "rwm"}], "yes", "yes"),
        ([{"allow": True, "access": "rwm"}, rule(False, "w")], "yes", "no"),
        ([{"allow": True, "access": "rwm"}, DENY], "no", "no"),
        ([DENY, rule(True, "rw"), rule(False, "w")], "yes", "no"),
        ([DENY, rule(True, "rw"), DENY], "no", "no"),
    ],
    ids=str,
)
def test_a_device_opens_for_what_the_rules_allow(
    runtime: Runtime, waiting: Bundle, rules: list[dict[str, Any]] | None, reading: str, writing: str
) -> None:
    """kmsg, 1:11, by a node of the image; and the default devices work whatever the rules are."""
    os.mknod(waiting.rootfs / "kmsg", 0o020666, os.makedev(1, 11))
    if rules is None:
        waiting.config["linux"].pop("resources")
    else:
        waiting.config["linux"]["resources"] = {"devices": rules}
    waiting.config["process"]["capabilities"] = {
        name: ["CAP_SYSLOG", "CAP_SYS_ADMIN"] for name in ("bounding", "effective", "permitted")
    }  # what the kernel itself asks of a reader of kmsg
    script = (
        "for f in /kmsg /dev/null /dev/zero /dev/full /dev/random /dev/urandom; do"
        " (exec 3< $f) 2>/dev/null && echo yes || echo no; done;"
        " (exec 3> /kmsg) 2>/dev/null && echo yes || echo no; (exec 3> /dev/null) && echo yes"
    )
    done = runtime.sh(waiting, script, "c")
    assert done.out.split() == [reading, "yes", "yes", "yes", "yes", "yes", writing, "yes"], done.err


@on_v2
def test_nodes_can_be_made_with_the_capability_but_not_opened(runtime: Runtime, waiting: Bundle) -> None:
    waiting.config["root"]["readonly"] = False
    waiting.config["process"]["capabilities"] = {name: ["CAP_MKNOD"] for name in ("bounding", "effective", "permitted")}
    (waiting.rootfs / "bin/mknod").symlink_to("busybox")
    done = runtime.sh(waiting, "mknod /k c 1 11 && (exec 3< /k) 2>/dev/null || echo denied", "c")
    assert done.out == "denied\n"


@on_v2
def test_a_terminal_opens_under_the_device_rules(runtime: Runtime, waiting: Bundle) -> None:
    """/dev/pts has 136:*, and /dev/tty 5:0."""
    done = runtime.sh(waiting, "(exec 3< /dev/pts/ptmx) && echo yes", "c")
    assert done.out == "yes\n", done.err


def delegated(runtime: Runtime, waiting: Bundle, *options: str) -> dict[str, int]:
    """File → owner in the container's cgroup ("" is the folder), where a user of uid 1000 runs."""
    waiting.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    for mount in waiting.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["nosuid", "noexec", "nodev", *options]
    create(runtime, waiting)
    folder = Path(f"{ROOT}{own_parent()}/c")
    return {"": folder.stat().st_uid} | {file.name: file.stat().st_uid for file in folder.iterdir()}


@on_v2
def test_a_writable_cgroup_belongs_to_the_user_but_for_its_limits(runtime: Runtime, waiting: Bundle) -> None:
    owners = delegated(runtime, waiting, "rw")
    assert {name for name, uid in owners.items() if uid == 1000} == {
        "",
        *(set(Path("/sys/kernel/cgroup/delegate").read_text().split()) & set(owners)),
    }
    assert owners["cgroup.procs"] == 1000 and owners["cgroup.max.depth"] == 0
    assert "on the host: give the cgroup to the user 1000" in runtime("explain", waiting.path).out


@on_v2
def test_a_readonly_cgroup_stays_roots(runtime: Runtime, waiting: Bundle) -> None:
    assert set(delegated(runtime, waiting, "ro").values()) == {0}


@on_v2
def test_a_writable_cgroup_of_the_hosts_namespace_stays_roots(runtime: Runtime, waiting: Bundle) -> None:
    waiting.config["linux"]["namespaces"] = [
        one for one in waiting.config["linux"]["namespaces"] if one["type"] != "cgroup"
    ]
    assert set(delegated(runtime, waiting, "rw").values()) == {0}


@on_v2
@pytest.mark.parametrize("place", ["frozen", "frozen/c"])
def test_a_frozen_cgroup_is_refused(runtime: Runtime, waiting: Bundle, place: str) -> None:
    folder = ROOT / "frozen"
    folder.mkdir()
    try:
        (folder / "cgroup.freeze").write_text("1")
        waiting.config["linux"]["cgroupsPath"] = f"/{place}"
        done = runtime("create", "-b", waiting.write().path, "c")
        assert done.code == 1
        assert f"/linux/cgroupsPath: the cgroup {folder} is frozen (thaw it first" in done.err
        assert not (folder / "c").exists()
    finally:
        folder.rmdir()
