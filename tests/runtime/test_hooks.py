"""Hooks: in which order, at which moment, in which namespaces, and with what they run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime.hooks import KINDS, RUNTIME, Notes, create, note_order
from support import Bundle, Runtime

pytestmark = pytest.mark.root

NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time")
LOOK = "".join(f"echo {kind} $(readlink /proc/self/ns/{kind}); " for kind in NAMESPACES)


@pytest.fixture
def notes(bundle: Bundle, runtime: Runtime) -> Iterator[Notes]:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "echo program >> /notes/order"]
    yield Notes(bundle)
    runtime("delete", "--force", "h")


def until(condition: object) -> None:
    end = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


# Order and moments


def test_run_has_all_kinds_in_the_order_of_the_specification(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "echo program >> /notes/order; sleep 0.5"]
    note_order(notes)
    done = runtime("run", "--bundle", bundle.write().path, "h")
    assert (done.code, done.out, done.err) == (0, "", "")
    order = notes.lines()
    assert order[:4] == list(KINDS[:4])
    assert sorted(order[4:6]) == ["poststart", "program"], "poststart: once the program is executed"
    assert order[6:] == ["poststop"]


def test_each_command_has_its_own_kinds(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    note_order(notes)
    assert create(runtime, bundle).err == ""
    assert notes.lines() == ["prestart", "createRuntime", "createContainer"]
    assert runtime("start", "h").err == ""
    until(lambda: "program" in notes.lines())
    assert set(notes.lines()[3:]) == {"startContainer", "poststart", "program"}
    assert notes.lines()[3] == "startContainer"
    until(lambda: runtime.state("h")["status"] == "stopped")
    assert len(notes.lines()) == 6
    assert runtime("delete", "h").err == ""
    assert notes.lines()[6:] == ["poststop"]


def test_the_hooks_of_a_kind_run_in_the_listed_order(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    for number in range(5):
        notes.add("createRuntime", f"sleep 0.0{5 - number}; echo {number} >> {{notes}}/order")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    assert notes.lines()[:5] == list("01234")


def test_start_uses_the_copy_of_the_configuration(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    note_order(notes)
    assert create(runtime, bundle).code == 0
    (bundle.path / "config.json").unlink()
    assert runtime("start", "h").code == 0
    assert runtime("delete", "--force", "h").code == 0
    assert {"startContainer", "poststart", "poststop"} <= set(notes.lines())


@pytest.mark.parametrize("version", ["1.0.2", "1.0.2-dev"])
def test_strict_prestart_of_an_old_bundle_waits_for_start(
    runtime: Runtime, bundle: Bundle, notes: Notes, version: str
) -> None:
    bundle.config["ociVersion"] = version
    note_order(notes)
    notes.add("prestart", "cat > {notes}/state")
    assert create(runtime, bundle, "--strict").code == 0
    assert notes.lines() == ["createRuntime", "createContainer"]
    assert runtime("start", "h").code == 0
    assert notes.lines()[2:4] == ["prestart", "startContainer"]
    assert notes.state("state")["status"] == "created"
    assert runtime("delete", "--force", "h").code == 0


@pytest.mark.parametrize(("version", "flags"), [("1.0.2", ()), ("1.1.0", ("--strict",)), ("1.3.0", ())])
def test_prestart_runs_at_create_otherwise(
    runtime: Runtime, bundle: Bundle, notes: Notes, version: str, flags: tuple[str, ...]
) -> None:
    """docker attaches its networks there."""
    bundle.config["ociVersion"] = version
    note_order(notes)
    assert create(runtime, bundle, *flags).code == 0
    assert notes.lines() == ["prestart", "createRuntime", "createContainer"]
    assert runtime("delete", "h").code == 0


def test_poststop_runs_when_all_is_gone_but_the_state(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["linux"]["cgroupsPath"] = "/hooked"
    look = f"ls -d /sys/fs/cgroup/*/hooked > {{notes}}/cgroups 2>/dev/null; ls {runtime.root} > {{notes}}/ids"
    notes.add("poststop", look)
    assert create(runtime, bundle).code == 0
    assert runtime("delete", "h").code == 0
    assert (notes.read("cgroups"), notes.read("ids")) == ("", "h\n")
    assert not (runtime.root / "h").exists()


def test_createcontainer_comes_before_the_pivot_and_can_still_change_the_root(
    runtime: Runtime, bundle: Bundle, notes: Notes
) -> None:
    bundle.config["root"]["readonly"] = True
    rootfs = bundle.rootfs
    notes.add("createContainer", f"touch {rootfs}/made && mount -t tmpfs none {rootfs}/root && touch {rootfs}/root/in")
    done = runtime.sh(bundle, "ls /made /root; touch /other 2>/dev/null || echo readonly")
    assert done.out == "/made\n\n/root:\nin\nreadonly\n", done
    assert str(rootfs / "root") not in Path("/proc/self/mountinfo").read_text()


# Where


def namespaces(text: str) -> dict[str, str]:
    return dict(line.split() for line in text.splitlines())


def test_each_kind_runs_in_its_namespaces(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", f"({LOOK}) > /notes/program; sleep 100"]
    (bundle.rootfs / "bin/readlink").symlink_to("busybox")
    for kind in KINDS:
        notes.add(kind, f"({LOOK}) > {{notes}}/{kind}")
    assert create(runtime, bundle).err == ""
    assert runtime("start", "h").code == 0
    until(lambda: (notes.path / "program").exists() and len(notes.read("program").splitlines()) == len(NAMESPACES))
    assert runtime("delete", "--force", "h").code == 0
    ours = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES}
    program = namespaces(notes.read("program"))
    for kind in RUNTIME:
        assert namespaces(notes.read(kind)) == ours, kind
    for kind in ("createContainer", "startContainer"):
        assert namespaces(notes.read(kind)) == program, kind
    assert {kind for kind in NAMESPACES if program[kind] != ours[kind]} == {"mnt", "pid", "net", "ipc", "uts", "cgroup"}


def test_hooks_of_the_container_are_in_its_cgroups(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["linux"]["namespaces"] = [
        one for one in bundle.config["linux"]["namespaces"] if one["type"] != "cgroup"
    ]
    bundle.config["linux"]["cgroupsPath"] = "/hooked/one"
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "cat /proc/self/cgroup > /notes/program"]
    for kind in KINDS:
        notes.add(kind, f"cat /proc/self/cgroup > {{notes}}/{kind}")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    ours, program = Path("/proc/self/cgroup").read_text(), notes.read("program")
    assert "/hooked/one" in program and "/hooked" not in ours
    for kind in KINDS:
        assert notes.read(kind) == (ours if kind in RUNTIME else program), kind


def test_working_directories(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    """The bundle, as runc has it at `create`; the root file system; the program's own."""
    bundle.config["process"]["cwd"] = "/tmp"
    for kind in KINDS:
        notes.add(kind, f"pwd > {{notes}}/{kind}")
    assert runtime("run", "--bundle", bundle.write().path, "h", cwd="/usr").code == 0
    for kind in RUNTIME:
        assert notes.read(kind) == f"{bundle.path}\n", kind
    assert notes.read("createContainer") == f"{bundle.rootfs}\n"
    assert notes.read("startContainer") == "/tmp\n"


def test_poststop_runs_even_if_the_bundle_is_gone(
    runtime: Runtime, bundle: Bundle, notes: Notes, tmp_path: Path
) -> None:
    notes.add("poststop", f"pwd > {tmp_path}/cwd")
    assert create(runtime, bundle).code == 0
    bundle.path.rename(tmp_path / "moved")
    assert runtime("delete", "h").err == ""
    assert (tmp_path / "cwd").read_text() == "/\n"


def test_startcontainer_has_the_program_s_rights_and_no_more(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    """Its code is the image's."""
    look = "(id; umask; ulimit -n; ulimit -Hn; grep -E '^(Cap|NoNewPrivs|Groups|Seccomp)' /proc/self/status)"
    (bundle.rootfs / "tmp").chmod(0o777)
    process = bundle.config["process"]
    process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 7], "umask": 0o027}
    process["noNewPrivileges"] = True
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 6, "hard": 7}]
    process["args"] = ["/bin/sh", "-c", f"{look} > /notes/program"]
    notes.add("startContainer", f"{look} > /notes/hook")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    assert notes.read("hook") == notes.read("program")
    assert "uid=1000" in notes.read("hook")
    assert "NoNewPrivs:\t1" in notes.read("hook")


def test_startcontainer_cannot_see_or_reach_the_host(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    notes.add("startContainer", "(ls -d /proc/1; ls /proc/1/root/; ls /) > /notes/seen 2>&1")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    seen = notes.lines("seen")
    assert seen[0] == "/proc/1"
    assert "notes" in seen
    assert not {"usr", "home", "work"} & set(seen)


# What they are given


def test_the_state_on_stdin(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["annotations"] = {"one": "1", "two": "zwei\n"}
    bundle.config["process"]["args"] = ["/bin/sleep", "100"]
    for kind in KINDS:
        notes.add(kind, f"cat > {{notes}}/{kind}")
    assert create(runtime, bundle).code == 0
    pid = runtime.state("h")["pid"]
    assert runtime("start", "h").code == 0
    assert runtime("delete", "--force", "h").code == 0
    for kind, status in {
        "prestart": "creating",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }.items():
        text = notes.read(kind)
        assert text.count("\n") == 1 and text.endswith("\n"), "one line"
        state = json.loads(text)
        assert state.pop("pid", None) == {"poststop": None}.get(kind, pid if kind in RUNTIME else 1), kind
        assert state == {
            "ociVersion": bundle.config["ociVersion"],
            "id": "h",
            "status": status,
            "bundle": str(bundle.path),
            "annotations": bundle.config["annotations"],
        }, kind


def test_the_pid_of_a_container_in_our_own_pid_namespace(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["linux"]["namespaces"] = [one for one in bundle.config["linux"]["namespaces"] if one["type"] != "pid"]
    notes.add("createRuntime", "cat > {notes}/outside")
    notes.add("createContainer", "cat > {notes}/inside")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    assert notes.state("inside")["pid"] == notes.state("outside")["pid"] > 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_environment_is_as_given_and_nothing_else(
    runtime: Runtime, bundle: Bundle, notes: Notes, kind: str
) -> None:
    path = "/bin/busybox"
    hooks = [{"path": path, "args": ["env"], "env": ["ONE=1", "TWO=zwei drei"]}, {"path": path, "args": ["env"]}]
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(notes.path / "out")}
    bundle.config["hooks"][kind] = hooks
    assert runtime("run", "--bundle", bundle.write().path, "h", env={"LEAK": "1"}).code == 0
    assert notes.read("out") == "ONE=1\nTWO=zwei drei\n"


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_are_as_given(runtime: Runtime, bundle: Bundle, notes: Notes, kind: str) -> None:
    args = ["sh", "-c", 'cat /proc/self/comm; printf \'<%s>\' "$0" "$@"', "a b", "", "*"]
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(notes.path / "out")}
    bundle.config["hooks"][kind] = [{"path": "/bin/busybox", "args": args, "env": ["PATH=/bin"]}]
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    assert notes.read("out") == "cat\n<a b><><*>"


def test_no_arguments_and_no_environment(runtime: Runtime, bundle: Bundle, notes: Notes, tmp_path: Path) -> None:
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/busybox sh\n/bin/busybox env > {tmp_path}/env\necho "$0 $#" > {tmp_path}/args\n')
    script.chmod(0o755)
    bundle.config["hooks"] = {"createRuntime": [{"path": str(script)}]}
    assert runtime("run", "--bundle", bundle.write().path, "h", env={"LEAK": "1"}).code == 0
    assert (tmp_path / "args").read_text() == f"{script} 0\n"
    assert "LEAK" not in (tmp_path / "env").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_no_descriptor_of_ours_or_of_the_caller_reaches_a_hook(
    runtime: Runtime, bundle: Bundle, notes: Notes, kind: str, tmp_path: Path
) -> None:
    notes.add(kind, "ls -l /proc/self/fd > {notes}/fds")
    leaked = os.open(tmp_path, os.O_RDONLY)
    try:
        assert create(runtime, bundle, pass_fds=[leaked]).code == 0
        assert runtime("start", "h", pass_fds=[leaked]).code == 0
        assert runtime("delete", "--force", "h", pass_fds=[leaked]).code == 0
    finally:
        os.close(leaked)
    found = [line.split()[-3::2] for line in notes.lines("fds") if " -> " in line]
    numbers = {number for number, target in found if not target.endswith("/fd")}  # the folder that ls itself reads
    assert numbers == {"0", "1", "2"}, found


def test_signals_are_the_default_ones(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(notes.path / "out")}
    hook = {"path": "/bin/busybox", "args": ["grep", "-E", "^(SigBlk|SigIgn)", "/proc/self/status"]}
    bundle.config["hooks"] = {kind: [hook] for kind in KINDS}
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    assert notes.lines("out") == ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] * len(KINDS)


def test_a_large_state_is_written_whole(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    """More than a pipe holds."""
    bundle.config["annotations"] = {"large": "x" * 300_000}
    for kind in KINDS:
        notes.add(kind, f"sleep 0.05; cat > {{notes}}/{kind}")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    for kind in KINDS:
        assert len(notes.state(kind)["annotations"]["large"]) == 300_000


@pytest.mark.parametrize("script", ["exec 0<&-; sleep 0.2", "true", "head -c 10 >/dev/null"])
def test_a_hook_need_not_read_its_stdin(runtime: Runtime, bundle: Bundle, notes: Notes, script: str) -> None:
    bundle.config["annotations"] = {"large": "x" * 300_000}
    for kind in KINDS:
        notes.add(kind, script)
    done = runtime("run", "--bundle", bundle.write().path, "h")
    assert (done.code, done.err) == (0, "")


def test_the_annotations_of_crun_name_files_for_the_output(
    runtime: Runtime, bundle: Bundle, notes: Notes, tmp_path: Path
) -> None:
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(tmp_path / "o"), "run.oci.hooks.stderr": "hooks.err"}
    for kind in KINDS:
        notes.add(kind, f"echo {kind} out; echo {kind} err >&2")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    assert (tmp_path / "o").read_text() == "".join(f"{kind} out\n" for kind in KINDS)
    assert (bundle.path / "hooks.err").read_text() == "".join(f"{kind} err\n" for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_hook_leaves_running_with_its_output_open_holds_nobody_up(
    runtime: Runtime, bundle: Bundle, notes: Notes, kind: str, tmp_path: Path
) -> None:
    pids = notes.where(kind) / "pid"
    notes.add(kind, f"(while sleep 0.01; do echo more || exit; done) & (sleep 30 & echo $! > {pids}); true")
    start = time.monotonic()
    done = runtime("run", "--bundle", bundle.write().path, "h")
    assert (done.code, done.err) == (0, "")
    assert time.monotonic() - start < 10
    if kind in RUNTIME:
        os.kill(int(notes.read("pid")), 9)  # an engine's own background process: not ours to end


# Together with other properties


def in_user_namespace(bundle: Bundle) -> None:
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def test_in_a_user_namespace(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    """Hooks of the container are its root; startContainer is the program's user. None has an id of the host's."""
    in_user_namespace(bundle)
    (bundle.rootfs / "notes").mkdir()
    for place in (bundle.path, *bundle.path.parents):
        place.chmod(place.stat().st_mode | 0o111)
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    look = "id -u; id -g; cat /proc/self/uid_map | tr -s ' '; grep -E '^(CapEff|Groups)' /proc/self/status"
    bundle.config["process"]["args"] = ["/bin/sh", "-c", f"({look}; {LOOK}) > /notes/program"]
    (bundle.rootfs / "bin/readlink").symlink_to("busybox")
    (bundle.rootfs / "bin/tr").symlink_to("busybox")
    for kind in KINDS:
        notes.add(kind, f"({look}; {LOOK}) > {{notes}}/{kind}")
    done = runtime("run", "--bundle", bundle.write().path, "h")
    assert done.err == ""
    assert notes.lines("startContainer") == notes.lines("program")
    assert notes.lines("program")[:3] == ["1000", "1000", " 0 100000 65536"]
    inside = notes.lines("createContainer")
    assert inside[:3] == ["0", "0", " 0 100000 65536"]
    assert inside[-8:] == notes.lines("program")[-8:], "the namespaces"
    groups, rights = sorted(inside[3:5], reverse=True)
    assert groups.split() == ["Groups:"]
    assert int(rights.split()[1], 16) == (1 << 41) - 1, "all, over what is its own"
    for kind in RUNTIME:
        assert notes.lines(kind)[:3] == ["0", "0", " 0 0 4294967295"]


def test_joined_namespaces_and_none_of_its_own(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    """What the container shares with us cannot be joined, and need not be."""
    bundle.config.pop("hostname")
    bundle.config["linux"]["namespaces"] = [
        {"type": "mount"},
        {"type": "network", "path": "/proc/self/ns/net"},
        {"type": "uts", "path": f"/proc/{os.getpid()}/ns/uts"},
    ]
    bundle.config["mounts"] = [one for one in bundle.config["mounts"] if one["destination"] in ("/proc", "/notes")]
    bundle.config["mounts"][0] |= {"type": "bind", "source": "/proc", "options": ["rbind"]}
    (bundle.rootfs / "bin/readlink").symlink_to("busybox")
    bundle.config["process"]["args"] = ["/bin/sh", "-c", f"({LOOK}) > /notes/program"]
    for kind in ("createContainer", "startContainer"):
        notes.add(kind, f"({LOOK}) > {{notes}}/{kind}")
    done = runtime("run", "--bundle", bundle.write().path, "h")
    assert (done.code, done.err) == (0, "")
    assert notes.lines("createContainer") == notes.lines("startContainer") == notes.lines("program")


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_startcontainer_runs_under_the_seccomp_profile(
    runtime: Runtime, bundle: Bundle, notes: Notes, no_new_privileges: bool
) -> None:
    bundle.config["process"]["noNewPrivileges"] = no_new_privileges
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    look = "grep -E '^(Seccomp:|Cap|NoNew)' /proc/self/status; mkdir /notes/made 2>&1; true"
    bundle.config["process"]["args"] = ["/bin/sh", "-c", f"({look}) > /notes/program"]
    notes.add("startContainer", f"({look}) > /notes/hook")
    notes.add("createContainer", "grep ^Seccomp: /proc/self/status > {notes}/before")
    done = runtime("run", "--bundle", bundle.write().path, "h")
    assert (done.code, done.err) == (0, "")
    assert notes.read("hook") == notes.read("program")
    assert "Seccomp:\t2" in notes.read("hook") and "not supported" in notes.read("hook")
    assert notes.read("before") == "Seccomp:\t0\n"


def test_hooks_with_the_caller_s_rights_need_no_filter(
    runtime: Runtime, bundle: Bundle, notes: Notes, tmp_path: Path
) -> None:
    """One that has to be compiled again is for nobody, and may fail: libseccomp may be gone by then."""
    bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    bundle.config["linux"]["seccomp"]["syscalls"] = [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]
    note_order(notes, "poststart", "poststop")
    assert create(runtime, bundle).code == 0
    cache = tmp_path / "another-cache"
    for words in (["start", "h"], ["delete", "--force", "h"]):
        done = runtime(*words, env={"OCIRT_CACHE": str(cache)})
        assert (done.code, done.err) == (0, "")
    assert {"poststart", "poststop"} <= set(notes.lines())
    assert not cache.exists()


def test_oom_score_and_limits_are_the_container_s(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["process"]["oomScoreAdj"] = 777
    for kind in KINDS:
        notes.add(kind, f"cat /proc/self/oom_score_adj > {{notes}}/{kind}")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    own = Path("/proc/self/oom_score_adj").read_text()
    for kind in KINDS:
        assert notes.read(kind) == (own if kind in RUNTIME else "777\n"), kind


def test_a_terminal_and_hooks(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    """A hook has pipes, whatever the program has."""
    for kind in KINDS:
        notes.add(kind, f"for fd in 0 1 2; do readlink /proc/self/fd/$fd; done > {{notes}}/{kind}")
    (bundle.rootfs / "bin/readlink").symlink_to("busybox")
    assert runtime("run", "--bundle", bundle.write().path, "h").code == 0
    for kind in KINDS:
        first, out, err = notes.lines(kind)
        assert first.startswith("pipe:") and err.startswith("pipe:") and out.endswith(f"/{kind}")
