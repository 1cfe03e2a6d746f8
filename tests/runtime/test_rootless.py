"""Containers of an ordinary user: of the user without a name or a capability that `ordinary` has.

Any host will do. Where ranges of ids are needed, newuidmap and newgidmap are (Debian: uidmap), and the user has them in
private copies of /etc/subuid and /etc/subgid.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.ordinary import UID, Ordinary, as_user, instead, ordinary_users
from support import inits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.root

SUBORDINATE = 700000
"""The first of the 65536 ids that the user is granted."""
RANGE = f"0 {UID} 1\n1 {SUBORDINATE} 65536\n"
PASSWD = f"root:x:0:0::/root:/bin/sh\nlisa:x:{UID}:{UID}::/:/bin/sh\n"
TOOL = Path("/usr/bin/newuidmap")


@pytest.fixture(scope="module")
def users() -> Iterator[Ordinary]:
    yield from ordinary_users()


@pytest.fixture
def user(users: Ordinary) -> Iterator[Ordinary]:
    """With the default bundle, and nothing left of a container afterwards."""
    before = inits()
    config = json.dumps(users.bundle.config)
    users.bundle.config["root"]["readonly"] = False
    yield users
    users("delete", "--force", "c")
    users.bundle.config = json.loads(config)
    assert inits() == before
    assert not any((users.home / "state").glob("c*"))


@pytest.fixture
def granted() -> Iterator[None]:
    """The user has ranges of ids: those of users by number, those of groups, too."""
    assert TOOL.exists(), "apt-get install uidmap"
    line = f"someone:1:5\n{UID}:{SUBORDINATE}:65536\n"
    with instead({"/etc/passwd": PASSWD, "/etc/subuid": line, "/etc/subgid": line}):
        yield


def words(text: str) -> str:
    """A map as /proc shows it, without its columns."""
    return "".join(" ".join(line.split()) + "\n" for line in text.splitlines())


def with_user_namespace(config: dict[str, Any], *maps: tuple[int, int, int]) -> None:
    linux = config["linux"]
    linux["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        linux[kind] = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in maps]


def without(config: dict[str, Any], *kinds: str) -> None:
    linux = config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] not in kinds]


def mount(config: dict[str, Any], destination: str, source: Path | str, *options: str, kind: str = "bind") -> None:
    entry = {"destination": destination, "source": str(source), "type": kind, "options": list(options)}
    config["mounts"].append(entry)


def test_a_bundle_without_a_user_namespace_gets_one_with_the_users_ranges(user: Ordinary, granted: None) -> None:
    done = user.run("id -u; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups", "--debug")
    assert done.code == 0, done.err
    assert words(done.out) == f"0\n{RANGE}{RANGE}allow\n"
    assert "Mappings" not in done.err


def test_ranges_are_granted_by_name_too(user: Ordinary, granted: None) -> None:
    with instead({"/etc/subuid": "lisa:800000:10\n"}):
        done = user.run("cat /proc/self/uid_map")
    assert words(done.out) == f"0 {UID} 1\n1 800000 10\n", done.err


def test_a_user_inside_with_groups_is_one_of_the_range(user: Ordinary, granted: None) -> None:
    user.bundle.config["process"]["user"] = {"uid": 5, "gid": 6, "additionalGids": [7, 65536]}
    done = user.run("id -u; id -G; touch /tmp/mine")
    assert done.out == "5\n6 7 65536\n", done.err


@pytest.mark.parametrize("inside", [{"uid": 65537, "gid": 0}, {"uid": 0, "gid": 65537}])
def test_an_id_that_is_not_mapped_is_refused_with_its_place(
    user: Ordinary, granted: None, inside: dict[str, int]
) -> None:
    user.bundle.config["process"]["user"] = inside
    done = user.run("true")
    name = "uid" if inside["uid"] else "gid"
    assert done.code == 1
    assert f"/process/user/{name}: 65537 is not mapped: the container of an ordinary user has the ids 0 to" in done.err
    assert f"the ranges of /etc/sub{name}" in done.err


def test_a_user_without_a_name_has_one_id(user: Ordinary) -> None:
    done = user.run("cat /proc/self/uid_map", "--debug")
    assert words(done.out) == f"0 {UID} 1\n", done.err
    assert f"the user {UID} has no name in /etc/passwd, which newuidmap demands" in done.err


def test_without_ranges_there_is_one_id_and_a_warning_names_the_fix(user: Ordinary) -> None:
    user.bundle.config["process"]["user"]["additionalGids"] = [5]
    with instead({"/etc/passwd": PASSWD}):
        done = user.run("cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id -G", "--debug")
    assert done.code == 0, done.err
    assert words(done.out) == f"0 {UID} 1\n0 {UID} 1\ndeny\n0\n"
    assert f"/linux/uidMappings: the container has only one id, {UID} of the host: lisa has no range in" in done.err
    assert "`usermod --add-subgids 100000-165535 lisa` as root grants one" in done.err
    assert "/process/user/additionalGids: ignored: setgroups(2) is denied" in done.err


@pytest.mark.parametrize("problem", ["no rights", "no new privileges"])
def test_programs_without_rights_leave_one_id_and_a_reason(user: Ordinary, granted: None, problem: str) -> None:
    user.script("cat /proc/self/uid_map")
    run = (user.executable, "--debug", "--root", user.home / "state", "run", "-b", user.bundle.path, "c")
    if problem == "no rights":
        with instead({str(TOOL): ""}):
            TOOL.chmod(0o755)
            done = as_user(*run)
        reason = "/usr/bin/newuidmap has no rights: chmod u+s /usr/bin/newuidmap"
    else:
        done = as_user("setpriv", "--no-new-privs", *run)
        reason = "no_new_privs is set, so newuidmap gets no rights"
    assert words(done.out) == f"0 {UID} 1\n", done.err
    assert reason in done.err


def test_what_newuidmap_refuses_is_told_in_its_words_and_leaves_nothing(user: Ordinary, granted: None) -> None:
    with_user_namespace(user.bundle.config, (0, 100, 2))
    done = user.run("true")
    assert done.code == 1
    assert "/linux/" in done.err
    assert "Mappings: /usr/bin/new" in done.err
    assert "range [0-2) -> [100-102) not allowed (the ranges have to be the caller's in /etc/sub" in done.err


def test_maps_of_ones_own_id_need_no_program(user: Ordinary) -> None:
    assert user("spec", "--rootless", "-b", user.home / "state").code == 0
    file = user.home / "state" / "config.json"
    user.bundle.config |= json.loads(file.read_text())
    file.unlink()
    user.bundle.config["process"]["terminal"] = False
    done = user.run("id -u; cat /proc/self/uid_map; ls /sys/kernel > /dev/null && echo seen > /dev/null")
    assert words(done.out) == f"0\n0 {UID} 1\n", done.err


@pytest.mark.parametrize("uid", [0, 5])
def test_create_start_exec_kill_delete(user: Ordinary, granted: None, uid: int) -> None:
    """Also of a user inside who is another one outside, whom /proc would hide."""
    user.bundle.config["process"]["user"] = {"uid": uid, "gid": uid}
    assert user("create", "-b", user.script("exec sleep 1000"), "c").code == 0
    assert json.loads(user("state", "c").out)["status"] == "created"
    assert user("exec", "c", "id", "-u").out == f"{uid}\n"
    assert user("start", "c").code == 0
    assert json.loads(user("state", "c").out)["status"] == "running"
    done = user(
        "exec", "-u", "3:4", "c", "sh", "-c", "id -u; id -g; cat /proc/self/uid_map; grep NoNew /proc/self/status"
    )
    assert words(done.out) == f"3\n4\n{RANGE}NoNewPrivs: 1\n", done.err
    assert user("kill", "c", "KILL").code == 0
    assert user("delete", "--force", "c").code == 0
    assert "does not exist" in user("state", "c").err


def test_hooks_run_as_the_user_or_inside(user: Ordinary, granted: None) -> None:
    said = user.home / "state"
    inside = user.bundle.rootfs / "tmp"

    def hook(text: str) -> list[dict[str, Any]]:
        return [{"path": "/bin/sh", "args": ["sh", "-c", text]}]

    where = f"exec >>{said}/hooks; read -r state; id -u"
    user.bundle.config["hooks"] = {
        "createRuntime": hook(f"{where}; echo createRuntime"),
        "createContainer": hook(f"exec >{inside}/created; id -u; cat /proc/self/uid_map"),
        "startContainer": hook("id -u > /tmp/started"),
        "poststart": hook(f"{where}; echo poststart"),
        "poststop": hook(f"{where}; echo poststop"),
    }
    try:
        done = user.run("cat /tmp/created /tmp/started")
        assert words(done.out) == f"0\n{RANGE}0\n", done.err
        assert (said / "hooks").read_text() == f"{UID}\ncreateRuntime\n{UID}\npoststart\n{UID}\npoststop\n"
    finally:
        (said / "hooks").unlink(missing_ok=True)


def test_what_only_the_user_may_reach_can_be_bound_even_if_the_root_is_somebody_else(
    user: Ordinary, granted: None
) -> None:
    """The folder is closed to all others, and the container's root is one of the range."""
    private = user.home / "state" / "private"
    (private / "below").mkdir(parents=True)
    (private / "below" / "file").write_text("mine\n")
    for path in (private / "below" / "file", private / "below", private):
        os.chown(path, UID, UID)
    private.chmod(0o700)
    with_user_namespace(user.bundle.config, (0, SUBORDINATE, 1000))
    user.bundle.config["root"]["readonly"] = True
    for name in ("mnt", "dev/pts"):
        (user.bundle.rootfs / name).mkdir(exist_ok=True)
    mount(user.bundle.config, "/mnt", private / "below", "rbind", "ro")
    done = user.run("cat /mnt/file; id -u; cat /proc/self/uid_map")
    assert words(done.out) == f"mine\n0\n0 {SUBORDINATE} 1000\n", done.err


def test_nodes_are_binds_and_options_that_do_not_fit_are_left_out(user: Ordinary) -> None:
    mount(user.bundle.config, "/tmp", "tmpfs", "uid=1000", "mode=700", kind="tmpfs")
    done = user.run(
        "echo x > /dev/null && head -c 4 /dev/zero | wc -c; stat -c %t:%T /dev/full /dev/tty;"
        " grep -c devpts /proc/mounts; stat -c '%a %u' /tmp",
        "--debug",
    )
    assert done.out == "4\n1:7\n5:0\n1\n700 0\n", done.err
    assert "/mounts/2/options: gid=5 is not mapped in the user namespace: ignored" in done.err
    assert "/mounts/7/options: uid=1000 is not mapped in the user namespace: ignored" in done.err


@pytest.mark.parametrize("verb", ["create", "run"])
def test_namespaces_that_stay_the_users_are_shown_as_the_host_has_them(
    user: Ordinary, granted: None, verb: str
) -> None:
    """No procfs can be mounted for another's pid namespace, and no sysfs for another's network."""
    without(user.bundle.config, "pid", "network")
    user.bundle.config["linux"]["sysctl"] = {"kernel.msgmax": "4321"}
    out = user.home / "state" / "out"
    mount(user.bundle.config, "/out", user.home / "state", "bind")
    folder = user.script(
        "{ cat /proc/sys/kernel/msgmax; ls /proc/1/ns > /dev/null; ls -d /sys/class/net; } > /out/out 2>&1"
    )
    if verb == "run":
        done = user("run", "-b", folder, "c")
        assert done.code == 0, done.err
    else:
        assert user("create", "-b", folder, "c").code == 0
        assert user("start", "c").code == 0
        subprocess.run(["timeout", "60", "sh", "-c", f"until grep -q class {out}; do sleep 0.05; done"], check=True)
    assert out.read_text().splitlines()[::2][:1] == ["4321"]
    out.unlink()


@pytest.mark.parametrize("verb", ["create", "run"])
def test_moved_clocks(user: Ordinary, granted: None, verb: str) -> None:
    user.bundle.config["linux"]["namespaces"].append({"type": "time"})
    user.bundle.config["linux"]["timeOffsets"] = {"boottime": {"secs": 10**7}}
    if verb == "run":
        done = user.run("cat /proc/self/timens_offsets /proc/self/uid_map")
        assert words(done.out) == f"monotonic 0 0\nboottime 10000000 0\n{RANGE}", done.err
        return
    assert user("create", "-b", user.script("exec sleep 1000"), "c").code == 0
    assert user("start", "c").code == 0
    assert "boottime 10000000 0" in words(user("exec", "c", "cat", "/proc/self/timens_offsets").out)


def test_a_user_namespace_of_the_users_is_joined_and_what_it_owns(user: Ordinary, granted: None) -> None:
    """As the containers of a pod share what the first one has."""
    user.started("exec sleep 1000", container_id="cfirst")
    try:
        pid = json.loads(user("state", "cfirst").out)["pid"]
        linux = user.bundle.config["linux"]
        linux["namespaces"] = [{"type": "mount"}]
        for kind, name in (("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("user", "user")):
            linux["namespaces"].append({"type": kind, "path": f"/proc/{pid}/ns/{name}"})
        del user.bundle.config["hostname"]
        user.bundle.config["mounts"] = user.bundle.config["mounts"][:4]
        done = user.run("id -u; cat /proc/self/uid_map; ls -d /proc/1/ns > /dev/null && readlink /proc/self/ns/pid")
        assert done.code == 0, done.err
        inside = os.readlink(f"/proc/{pid}/ns/pid")
        assert words(done.out) == f"0\n{RANGE}{inside}\n"
    finally:
        assert user("delete", "--force", "cfirst").code == 0


def test_a_folder_with_mounts_below_is_bound_with_them_or_the_error_says_so(user: Ordinary) -> None:
    mount(user.bundle.config, "/mnt", "/", "bind")
    done = user.run("true")
    assert done.code == 1
    assert "/mounts/7: take / from the host: Invalid argument (in a user namespace what is mounted below" in done.err
    user.bundle.config["mounts"][-1]["options"] = ["rbind", "ro"]
    done = user.run("ls -d /mnt/proc/1 /mnt/etc")
    assert done.out == "/mnt/etc\n/mnt/proc/1\n", done.err


def test_flags_of_the_sources_mount_stay_and_a_warning_says_so(user: Ordinary) -> None:
    source = user.home / "locked"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,nosuid,nodev,noexec,noatime", "tmpfs", source], check=True)
    try:
        mount(user.bundle.config, "/mnt", source, "rbind", "rw", "exec", "strictatime")
        done = user.run("grep ' /mnt ' /proc/mounts", "--debug")
    finally:
        subprocess.run(["umount", source], check=True)
        source.rmdir()
    assert "ro,nosuid,nodev,noexec,noatime" in done.out, done.err
    assert f"/mounts/7/options: ro, noexec, the way of access times stay as {source} has it" in done.err


def test_a_tmpfs_is_filled_and_a_dangling_destination_made_from_inside(user: Ordinary, granted: None) -> None:
    """Of files with other owners, which the user has no right to make."""
    folder = user.bundle.rootfs / "filled"
    folder.mkdir()
    (folder / "file").write_text("content\n")
    for path, uid in ((folder, SUBORDINATE + 4), (folder / "file", SUBORDINATE + 6)):
        os.chown(path, uid, uid)
    (user.bundle.rootfs / "etc" / "link").symlink_to("../run/somewhere/file")
    source = user.home / "state" / "source"
    source.write_text("bound\n")
    mount(user.bundle.config, "/filled", "tmpfs", "tmpcopyup", kind="tmpfs")
    mount(user.bundle.config, "/etc/link", source, "bind")
    done = user.run("cat /filled/file /run/somewhere/file; stat -c %u /filled /filled/file")
    assert done.out == "content\nbound\n5\n7\n", done.err


def test_mounts_are_added_and_removed(user: Ordinary, granted: None) -> None:
    source = user.home / "state" / "added"
    source.mkdir()
    (source / "file").write_text("added\n")
    os.chown(source, UID, UID)
    source.chmod(0o700)
    user.started("exec sleep 1000")
    file = user.home / "state" / "mounts.json"
    file.write_text(json.dumps([{"destination": "/mnt", "type": "bind", "source": str(source), "options": ["rbind"]}]))
    done = user("mounts", "add", "c", file)
    assert done.code == 0, done.err
    assert user("exec", "c", "cat", "/mnt/file").out == "added\n"
    assert user("mounts", "remove", "c", file).code == 0
    assert user("exec", "c", "cat", "/mnt/file").code == 1


def test_a_terminal_goes_to_the_console_socket(user: Ordinary, granted: None) -> None:
    path = user.home / "state" / "console"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o777)
        listening.listen()
        user.bundle.config["process"]["terminal"] = True
        folder = user.script("tty; stat -c %u $(tty); exec sleep 1000")
        done = user("run", "-d", "-b", folder, "--console-socket", path, "c")
        assert done.code == 0, done.err
        connection, _ = listening.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        with open(fds[0], "rb", buffering=0) as master:
            said = b""
            while said.count(b"\n") < 2:
                said += master.read(100)
    path.unlink()
    assert said.split() == [b"/dev/pts/0", b"0"]


def test_the_oom_score_is_raised_but_not_lowered(user: Ordinary, granted: None) -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    raised = min(own + 100, 1000)
    user.bundle.config["process"]["oomScoreAdj"] = raised
    user.started("exec sleep 1000")
    assert user("exec", "c", "cat", "/proc/1/oom_score_adj", "/proc/self/oom_score_adj").out == f"{raised}\n" * 2
    assert user("delete", "--force", "c").code == 0
    if own > -1000:
        user.bundle.config["process"]["oomScoreAdj"] = -1000
        done = user.run("cat /proc/self/oom_score_adj", "--debug")
        assert done.out == f"{own}\n", done.err
        assert "warning: /process/oomScoreAdj: -1000 is not set, the caller's stays" in done.err


def test_explain_and_check_know_what_would_be_done(user: Ordinary, granted: None) -> None:
    folder = user.script("true")
    done = user("explain", folder)
    assert done.code == 0, done.err
    assert f"/usr/bin/newuidmap PID 0 {UID} 1 1 {SUBORDINATE} 65536" in done.out
    assert done.out.index("clone3(") < done.out.index("mount_setattr(") < done.out.index("open_tree(")
    assert user("check", folder).code == 0


NEST = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ready, go = os.pipe(), os.pipe()
child = os.fork()
if not child:
    assert not libc.unshare(0x10000000)
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    assert not libc.unshare(0x20020000)
    inner = os.fork()
    if not inner:
        assert not libc.mount(b"proc", b"/proc", b"proc", 0, 0)
        os.execv(sys.argv[2], sys.argv[2:])
    os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
os.read(ready[0], 1)
for file in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{file}", "w") as opened:
        opened.write(f"0 {sys.argv[1]} 65536")
os.write(go[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Become root of a user namespace with 65536 ids, and own pid and mount namespaces; then execute."""


def nested(user: Ordinary, *args: str | Path, uid: int = 0) -> Sequence[str | Path]:
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
    python, setpriv = "/usr/bin/python3", shutil.which("setpriv")
    assert setpriv
    words = [setpriv, *become[1:], user.executable] if uid else [user.executable]
    return [python, "-IS", "-c", NEST, str(UID), *words, "--debug", "--root", user.home / "state", *args]


@pytest.mark.parametrize("case", ["its own network", "the outer network", "a user namespace", "an ordinary user"])
def test_inside_a_user_namespace(user: Ordinary, case: str) -> None:
    """Root there, whom the kernel lets make no device nodes, and an ordinary user there."""
    from support import command

    config = user.bundle.config
    uid = 0
    if case == "the outer network":
        without(config, "network")
        config["process"]["oomScoreAdj"] = -1000
    elif case == "a user namespace":
        with_user_namespace(config, (0, 0, 1000))
    elif case == "an ordinary user":
        uid = 1000
        config["root"]["readonly"] = True
    folder = user.script("id -u; echo x > /dev/null && stat -c %t:%T /dev/zero; ls /sys > /dev/null && echo sys")
    if uid:
        for path in (user.home / "state", folder / "rootfs", *(folder / "rootfs").iterdir(), folder / "rootfs/dev"):
            os.chown(path, UID + uid, UID + uid, follow_symlinks=False)
    try:
        done = command(*nested(user, "run", "-b", folder, "c", uid=uid))
        assert done.code == 0, done.err
        assert done.out == "0\n1:5\nsys\n"
        if case == "the outer network":
            assert "warning: /mounts/5: sysfs in a user namespace needs a new network namespace" in done.err
            assert "warning: /process/oomScoreAdj: -1000 is not set" in done.err
    finally:
        if uid:
            for path in (user.home / "state", folder / "rootfs", *(folder / "rootfs").iterdir()):
                os.chown(path, UID, UID, follow_symlinks=False)
