"""explain over a bundle: what it compiles is what create compiles, and nothing comes of it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support import Bundle, Runtime

from ocirt.cgroups.layout import detect
from ocirt.cgroups.rules import Rule
from ocirt.errors import ConfigError
from ocirt.plan.encode import encode
from ocirt.plan.explain import AFTERWARDS, SECTIONS
from ocirt.runtime.creation import Creation
from ocirt.runtime.explain import explain, id_for
from ocirt.runtime.host_steps import host_steps, rule_text


def test_the_plan_that_is_explained_is_the_one_that_create_runs(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocirt.runtime.preparation.Init", lambda plan, encoded, ahead: None)  # nothing is started
    explanation = explain(str(bundle.path))
    creation = Creation(str(tmp_path / "state"), bundle.path.name, str(bundle.path), wait_for_start=True)
    assert encode(explanation.plan).content == creation.encoded.content
    assert explanation.prepared.size == len(creation.encoded.content)


def test_the_document_has_what_tools_need(bundle: Bundle) -> None:
    found: dict[str, Any] = json.loads(json.dumps(explain(str(bundle.path)).document()))
    assert {"bundle", "rootfs", "steps", "warnings", "cgroups"} <= found.keys()
    assert (found["bundle"], found["rootfs"]) == (str(bundle.path), str(bundle.rootfs))
    assert found["steps"][0]["call"] == "close_range"
    assert found["steps"][-1]["call"] == "execve"
    for cgroup in found["cgroups"]:
        assert cgroup["path"].endswith("/" + bundle.path.name)
        assert cgroup["path"] in cgroup["create"]


def test_the_text_has_a_header_and_the_plan_under_headings(bundle: Bundle) -> None:
    explanation = explain(str(bundle.path))
    lines = explanation.lines(everything=False, colour=False)
    assert lines[0] == f"bundle  {bundle.path}"
    assert lines[1] == f"rootfs  {bundle.rootfs}"
    assert lines[2].startswith(f"plan    {len(explanation.plan.steps)} steps, {explanation.prepared.size} bytes, for ")
    headings = [line.strip("─ ") for line in lines if line.startswith("── ")]
    titles = [SECTIONS[name][0] for _, name in explanation.plan.sections]
    assert headings == [*titles, AFTERWARDS[0]]
    assert len(lines) < len(explanation.lines(everything=True, colour=False))
    assert all(name in SECTIONS for _, name in explanation.plan.sections)


def place(lines: list[str], words: str) -> int:
    """The one line that has these words."""
    (found,) = [index for index, line in enumerate(lines) if words in line]
    return found


def test_what_the_host_does_stands_where_init_waits_for_it(bundle: Bundle) -> None:
    bundle.config["process"]["oomScoreAdj"] = 0
    bundle.config["linux"]["resources"] = {
        "devices": [
            {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"},
            {"allow": False, "type": "b", "major": 8, "access": "w"},
        ],
        "pids": {"limit": 77},
    }
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["chroot", "reboot"], "action": "SCMP_ACT_ERRNO"}],
    }
    bundle.write()
    lines = explain(str(bundle.path)).lines(everything=False, colour=False)
    order = [
        "on the host: compile the profile",
        "SCMP_ACT_ALLOW but for 2 names in 1 rules: ",
        "on the host: note what is about to be made",
        "close the descriptors that the caller leaked",
        "/proc/PID/oom_score_adj ← 0",
        "on the host: look for user 0",
        "pids.max ← 77",
        "▸  deny a *:* rwm",
        "▸  allow c 10:200 rw",
        "▸  deny b 8:* w",
        "▸  allow the default devices",
        "set RLIMIT_NOFILE",
        "sync(SYNC_READY)",
        "on the host: write the pid file",
        "report to($fifo)",
        "on the host, at start: let init go on",
        "  execve(",
        "on the host, at delete: ",
    ]
    places = [place(lines, words) for words in order]
    assert places == sorted(places)
    assert lines[place(lines, "pids.max ← 77") - 1].startswith("/linux/resources/pids/limit ")
    made = [line for line in lines if "mkdir /sys/fs/cgroup/" in line]
    assert len([line for line in lines if "rmdir /sys/fs/cgroup/" in line]) == len(made) > 0
    if not detect().pure_v2:
        assert place(lines, "on the host: put init into the cgroups") < place(lines, "sync(SYNC_ATTACHED)")


def test_the_listener_is_sent_while_init_waits(bundle: Bundle) -> None:
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent.sock",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    bundle.write()
    lines = explain(str(bundle.path)).lines(everything=False, colour=False)
    order = [
        "on the host, at start: let init go on",
        "seccomp(SECCOMP_SET_MODE_FILTER",
        "on the host, at start: send the listener to the agent",
        "▸  /run/agent.sock",
        "  wait(",
        "  execve(",
    ]
    places = [place(lines, words) for words in order]
    assert places == sorted(places)


def test_limits_come_last_where_no_home_is_looked_up(bundle: Bundle) -> None:
    bundle.config["process"]["env"].append("HOME=/")
    bundle.config["linux"]["resources"]["pids"] = {"limit": 77}
    bundle.write()
    lines = explain(str(bundle.path)).lines(everything=False, colour=False)
    order = ["sync(SYNC_READY)", "pids.max ← 77", "▸  deny a *:* rwm", "on the host: write the pid file"]
    places = [place(lines, words) for words in order]
    assert places == sorted(places)


def test_in_a_user_namespace_the_host_makes_the_cgroups_first_and_writes_the_maps(bundle: Bundle) -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}, {"containerID": 70000, "hostID": 5, "size": 1}]
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    bundle.config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping[:1]}
    bundle.write()
    lines = explain(str(bundle.path)).lines(everything=False, colour=False)
    order = [
        "on the host: make the cgroups",
        "close the descriptors that the caller leaked",
        "── What is the host's ",
        "  clone3(",
        "/proc/PID/uid_map ← 0 100000 65536; 70000 5 1",
        "/proc/PID/gid_map ← 0 100000 65536",
        "sync(SYNC_MAPPED)",
    ]
    places = [place(lines, words) for words in order]
    assert places == sorted(places)


def test_what_the_host_does_only_if_need_be_is_folded_with_it(bundle: Bundle) -> None:
    """A destination that is a symlink to nothing is made by the host; usually it is not."""
    bundle.config["mounts"].append({"destination": "/x/y", "source": "/tmp", "options": ["bind"]})
    bundle.write()
    explanation = explain(str(bundle.path))
    making = [one for one in explanation.document()["host"] if one["doing"].startswith("make what the symlink")]
    assert {"/mounts/7"} <= {one["pointer"] for one in making}
    assert all(one["pointer"] in [f"/mounts/{index}" for index in range(8)] for one in making)
    folded, whole = (explanation.lines(everything=everything, colour=False) for everything in (False, True))
    assert not any("make what the symlink" in line for line in folded)
    assert sum("on the host: make what the symlink" in line for line in whole) == len(making)


def test_hooks_are_shown_where_they_run(bundle: Bundle) -> None:
    kinds = ("poststop", "poststart", "startContainer", "createContainer", "createRuntime", "prestart")
    bundle.config["hooks"] = {kind: [{"path": "/bin/true", "args": ["x", kind]}] for kind in kinds}
    bundle.config["hooks"]["prestart"].append({"path": "/bin/sh", "timeout": 7})
    bundle.write()
    explanation = explain(str(bundle.path))
    lines = explanation.lines(everything=False, colour=False)
    order = [
        "on the host: put init into the cgroups" if not detect().pure_v2 else "clone3(",
        "▸  /bin/true prestart",
        "▸  /bin/sh (at most 7 s)",
        "▸  /bin/true createRuntime",
        "on the host: run the createContainer hook in the container's namespaces",
        "sync(SYNC_HOOKS)",
        "pivot_root(",
        "sync(SYNC_READY)",
        "on the host, at start: run the startContainer hook in the container's namespaces",
        "on the host, at start: let init go on",
        "  execve(",
        "on the host, at start: run the poststart hook",
        "on the host, at delete: end what is left",
        "on the host, at delete: run the poststop hook",
    ]
    places = [place(lines, words) for words in order]
    assert places == sorted(places)
    assert lines[places[2] - 1].startswith("/hooks/prestart/1 ")
    assert [one["pointer"] for one in explanation.document()["host"] if one["pointer"].startswith("/hooks")] == [
        "/hooks/prestart/0",
        "/hooks/prestart/1",
        "/hooks/createRuntime/0",
        "/hooks/createContainer/0",
        "/hooks/startContainer/0",
        "/hooks/poststart/0",
        "/hooks/poststop/0",
    ]


@pytest.mark.root
def test_a_cached_filter_is_said_to_be_cached(bundle: Bundle, runtime: Runtime, tmp_path: Path) -> None:
    """And explaining makes no cache."""
    folder = tmp_path / "cache"
    environment = {"OCIRT_CACHE": str(folder)}
    bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    bundle.write()
    assert "on the host: compile the profile" in runtime("explain", bundle.path, env=environment).out
    assert not folder.exists()
    assert runtime("run", "-b", bundle.path, "c", env=environment).code == 0
    assert "on the host: take the filter from the cache" in runtime("explain", bundle.path, env=environment).out


def test_classes_of_service_and_network_devices_are_shown(bundle: Bundle) -> None:
    """Made by hand: this host has neither."""
    prepared = explain(str(bundle.path)).prepared
    linux = prepared.config.spec["linux"] | {
        "intelRdt": {"closID": "gold", "schemata": ["MB:0=5"], "enableMonitoring": True},
        "netDevices": {"eth/7": {"name": "net0"}, "wlan0": {}},
    }
    steps = host_steps(
        prepared.config.spec | {"linux": linux}, prepared.facts, prepared.cgroups, prepared.compiled.plan
    )
    found = {step.pointer: step.actions for step in steps if step.pointer.startswith(("/linux/i", "/linux/n"))}
    assert found == {
        "/linux/intelRdt": [
            "gold/schemata ← MB:0=5",
            "gold/tasks ← PID",
            f"gold/mon_groups/{bundle.path.name}/tasks ← PID",
        ],
        "/linux/netDevices/eth~17": ["eth/7 → net0, up"],
        "/linux/netDevices/wlan0": ["wlan0 → wlan0, up"],
    }


def test_the_document_has_the_hosts_steps_and_the_sections(bundle: Bundle) -> None:
    explanation = explain(str(bundle.path))
    found = json.loads(json.dumps(explanation.document()))
    count = len(found["steps"])
    assert [section["first"] for section in found["sections"]] == sorted({s["first"] for s in found["sections"]})
    assert found["sections"][0]["first"] == 0
    assert {step["operation"] for step in found["host"]} == {"create", "start", "delete"}
    assert all(0 <= step["before"] <= count and step["doing"] for step in found["host"])
    shown = explanation.lines(everything=True, colour=False)
    for step in found["host"]:
        assert any(step["doing"] in line for line in shown)
        assert all(f"▸  {action}" in "\n".join(shown) for action in step["actions"])


def test_warnings_stand_at_the_end(bundle: Bundle) -> None:
    bundle.config["process"]["capabilities"]["bounding"].append("CAP_NOTHING")
    bundle.write()
    explanation = explain(str(bundle.path))
    assert explanation.document()["warnings"] == explanation.warnings != []
    last = explanation.lines(everything=False, colour=False)[-1]
    assert last.startswith("warning: ")
    assert any('unknown capability "CAP_NOTHING"' in warning for warning in explanation.warnings)


def test_a_config_that_fails_to_compile_is_placed_in_its_file(bundle: Bundle) -> None:
    bundle.config["mounts"].append({"destination": "/x", "type": "ramfs", "options": ["ro", "tmpcopyup"]})
    bundle.write()
    with pytest.raises(ConfigError) as caught:
        explain(str(bundle.path))
    assert caught.value.pointer == "/mounts/7/options/1"
    assert caught.value.place.startswith(f"{bundle.path}/config.json:")


@pytest.mark.parametrize(("folder", "name"), [("/a/b-1", "b-1"), ("/a/b c", "container"), ("/", "container")])
def test_the_id_is_the_folders_name_where_that_can_be_one(folder: str, name: str) -> None:
    assert id_for(folder) == name


def test_rules_are_written_as_the_kernel_has_them() -> None:
    assert rule_text(Rule(True, "c", 1, -1, "rwm")) == "allow c 1:* rwm"
    assert rule_text(Rule(False, "a", -1, -1, "m")) == "deny a *:* m"


def as_nobody(bundle: Path) -> tuple[int, str]:
    """explain, in a child that has given up all rights: its exit code and what it would print.

    In a child of ours, since the installed executable may lie where nobody can read it.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is our own again
            text = "\n".join(explain(str(bundle)).lines(everything=False, colour=False))
            code = 0
        except BaseException as error:
            text = repr(error)
        with open(writing, "w") as pipe:
            pipe.write(text)
        os._exit(code)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


@pytest.mark.root
def test_explain_works_for_an_ordinary_user_and_has_the_user_namespace_that_is_made(bundle: Bundle) -> None:
    """In a folder of its own, because pytest's are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="ocirt-explain-"))
    try:
        shutil.copytree(bundle.path, folder / "bundle", symlinks=True)
        folder.chmod(0o755)
        code, text = as_nobody(folder / "bundle")
        assert code == 0, text
        assert text.startswith(f"bundle  {folder}/bundle\n")
        assert "clone3(CLONE_PARENT|CLONE_NEWNS|CLONE_NEWUTS|CLONE_NEWUSER|" in text
        assert "uid_map ← 0 65534 1\n" in text
        assert "warning: /linux/uidMappings: the container has only one id, 65534 of the host" in text
    finally:
        shutil.rmtree(folder)


@pytest.mark.root
def test_a_running_containers_bundle_can_be_explained(bundle: Bundle, runtime: Runtime) -> None:
    """Its cgroup is in use, which is no reason not to show the plan."""
    created = runtime("create", "--bundle", bundle.path, bundle.path.name)
    assert created.code == 0, created.err
    try:
        done = runtime("explain", bundle.path)
        assert done.code == 0, done.err
        assert "has processes already" in done.out
    finally:
        assert runtime("delete", "--force", bundle.path.name).code == 0


@pytest.mark.root
def test_limits_stand_with_their_files_in_the_text_and_in_the_document(bundle: Bundle) -> None:
    if not Path("/sys/fs/cgroup/pids").is_dir():
        pytest.skip("no v1 controller pids")
    bundle.config["linux"]["cgroupsPath"] = "/limits/c"
    bundle.config["linux"]["resources"]["pids"] = {"limit": 9}
    bundle.write()
    explanation = explain(str(bundle.path))
    assert explanation.document()["limits"] == [
        {"pointer": "/linux/resources/pids/limit", "file": "/sys/fs/cgroup/pids/limits/c/pids.max", "value": "9"}
    ]
    text = "\n".join(explanation.lines(everything=False, colour=False))
    assert "/sys/fs/cgroup/pids/limits/c/pids.max ← 9" in text
    assert not Path("/sys/fs/cgroup/pids/limits").exists()
