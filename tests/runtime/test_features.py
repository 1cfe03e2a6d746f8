"""features: the specification's document, true for this build; and, if asked, what this host offers."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support import OCIRT, REPOSITORY, Bundle, command

from ocirt.config.load import load
from ocirt.config.names import CAPABILITIES
from ocirt.errors import ConfigError, UnsupportedError
from ocirt.host.offers import LOWEST_KERNEL, idmap, mounts_by_type, offers, seccomp_flags
from ocirt.host.seccomp import compile_filter
from ocirt.plan.options import parse_options
from ocirt.runtime.features import HOST, features, implemented

SCHEMA = json.loads((REPOSITORY / "spec" / "features.schema.json").read_text())
MAPPING = [{"containerID": 0, "hostID": 1000, "size": 1}]
CLAIMS: dict[str, tuple[str, Any]] = {
    # what the document says → (the property of config.json that it is about, a value of it)
    "linux/seccomp/enabled": ("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW"}),
    "linux/apparmor/enabled": ("/process/apparmorProfile", "unconfined"),
    "linux/selinux/enabled": ("/linux/mountLabel", "system_u:object_r:container_file_t:s0"),
    "linux/intelRdt/enabled": ("/linux/intelRdt", {"closID": "x"}),
    "linux/intelRdt/schemata": ("/linux/intelRdt", {"schemata": ["MB:0=5"]}),
    "linux/intelRdt/monitoring": ("/linux/intelRdt", {"enableMonitoring": True}),
    "linux/mountExtensions/idmap/enabled": (
        "/mounts",
        [{"destination": "/x", "type": "tmpfs", "options": ["idmap"], "uidMappings": MAPPING, "gidMappings": MAPPING}],
    ),
    "linux/netDevices/enabled": ("/linux/netDevices", {"eth0": {}}),
    "linux/cgroup/rdma": ("/linux/resources", {"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
}


def errors(document: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(document)]


def is_taken(bundle: Bundle) -> bool:
    """Does `load` take the configuration? False if it says "not implemented yet"; other complaints are the test's."""
    bundle.write()
    try:
        load(str(bundle.path))
    except UnsupportedError:
        return False
    return True


def test_the_document_is_the_specifications_and_has_all_of_it() -> None:
    document = json.loads(command(OCIRT, "features").out)
    assert errors(document) == []
    assert document.keys() == SCHEMA["properties"].keys()
    assert document["linux"].keys() == SCHEMA["$defs"]["linux"]["properties"].keys()
    for name, definition in SCHEMA["$defs"]["linux"]["properties"].items():
        if "properties" in definition and document["linux"][name].get("enabled", True):
            assert document["linux"][name].keys() == definition["properties"].keys(), name


def test_the_library_says_what_the_command_line_says() -> None:
    assert json.loads(command(OCIRT, "features").out) == features()


def test_both_versions_can_be_run(bundle: Bundle) -> None:
    for name in ("ociVersionMin", "ociVersionMax"):
        bundle.config["ociVersion"] = features()[name]
        assert is_taken(bundle)


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_is_claimed_is_what_create_does(bundle: Bundle, claim: str) -> None:
    value: Any = features()
    for name in claim.split("/"):
        value = value[name]
    pointer, asked = CLAIMS[claim]
    *parents, last = pointer.split("/")[1:]
    place = bundle.config
    for name in parents:
        place = place[name]
    place[last] = asked
    assert is_taken(bundle) is value


@pytest.mark.parametrize(
    "kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
)
def test_a_kind_of_hook_is_listed_if_it_is_taken(bundle: Bundle, kind: str) -> None:
    bundle.config["hooks"] = {kind: [{"path": "/bin/true"}]}
    assert is_taken(bundle) is (kind in features()["hooks"])


@pytest.mark.parametrize("kind", ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"])
def test_a_namespace_is_listed_if_it_is_made(bundle: Bundle, kind: str) -> None:
    namespaces = bundle.config["linux"]["namespaces"]
    if kind not in [one["type"] for one in namespaces]:
        namespaces.append({"type": kind})
    if kind == "user":
        bundle.config["linux"] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    assert is_taken(bundle) is (kind in features()["linux"]["namespaces"])


def test_every_mount_option_that_is_listed_is_ours() -> None:
    """None of them becomes an option of the file system, but the two that are both."""
    options = features()["mountOptions"]
    assert len(set(options)) == len(options) > 25
    for option in options:
        try:
            left = parse_options([option], "/mounts/0").data
        except ConfigError as error:
            assert not isinstance(error, UnsupportedError), option
            continue
        assert left in ([], [(option, None)]) and (not left or option in ("sync", "dirsync")), option


def test_every_name_of_seccomp_that_is_listed_compiles() -> None:
    """In the place where the specification has it; NOTIFY needs a listener, which is another test's."""
    listed = features()["linux"]["seccomp"]
    profiles: list[dict[str, Any]] = [{"defaultAction": name} for name in listed["actions"] if "NOTIFY" not in name]
    profiles += [{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [name]} for name in listed["archs"]]
    profiles += [
        {"defaultAction": "SCMP_ACT_ALLOW", "flags": [name]} for name in listed["knownFlags"] if "WAIT" not in name
    ]
    for name in listed["operators"]:
        condition = {"index": 0, "value": 1, "valueTwo": 1, "op": name}
        rule = {"names": ["personality"], "action": "SCMP_ACT_LOG", "args": [condition]}
        profiles.append({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    for profile in profiles:
        assert compile_filter(profile, os.uname().machine, lowers=False, strict=True).program, profile
    assert [len(listed[name]) for name in ("actions", "operators", "archs", "knownFlags")] == [9, 7, 23, 4]
    assert set(listed["supportedFlags"]) <= set(listed["knownFlags"])


def test_every_memory_policy_that_is_listed_is_taken(bundle: Bundle) -> None:
    listed = features()["linux"]["memoryPolicy"]
    needless = ("MPOL_DEFAULT", "MPOL_LOCAL")
    policies: list[dict[str, Any]] = [
        {"mode": mode} | ({} if mode in needless else {"nodes": "0"}) for mode in listed["modes"]
    ]
    policies += [{"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]} for flag in listed["flags"]]
    for policy in policies:
        bundle.config["linux"]["memoryPolicy"] = policy
        assert is_taken(bundle)
    assert (len(listed["modes"]), len(listed["flags"])) == (7, 3)


def test_capabilities_are_those_that_the_compiler_knows() -> None:
    assert features()["linux"]["capabilities"] == list(CAPABILITIES)


def test_the_annotations_say_which_build_this_is() -> None:
    annotations = features()["annotations"]
    lines = dict(line.split(": ") for line in command(OCIRT, "--version").out.splitlines()[1:])
    assert annotations["org.ocirt.commit"] == lines["commit"]
    assert annotations.get("io.github.seccomp.libseccomp.version", "not installed") == lines["libseccomp"]
    assert annotations["org.opencontainers.runc.checkpoint.enabled"] == "true"


def test_every_annotation_that_the_code_looks_at_is_listed() -> None:
    named = set()
    for path in (REPOSITORY / "ocirt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= set(re.findall(r"^(?:run\.oci|org\.systemd|org\.criu)\.[a-z_.]+$", node.value))
    assert named == set(features()["potentiallyUnsafeConfigAnnotations"])


def test_a_property_is_implemented_if_its_value_is_looked_at() -> None:
    assert implemented("/process/cwd") and implemented("/mounts/*/destination") and implemented("/linux/maskedPaths")
    assert not implemented("/process/nothing") and not implemented("/vm")


def test_host_adds_one_property_and_changes_none() -> None:
    document = json.loads(command(OCIRT, "features", "--host").out)
    assert document.pop(HOST).keys() == offers().keys()
    assert document == features()


def test_what_the_host_offers_is_what_it_has() -> None:
    found = offers()
    name = os.uname()
    assert (found["kernel"]["release"], found["kernel"]["machine"]) == (name.release, name.machine)
    assert found["kernel"]["newEnough"] is (tuple(map(int, name.release.split(".")[:2])) >= LOWEST_KERNEL)
    kind = subprocess.run(["stat", "-f", "-c", "%T", "/sys/fs/cgroup"], capture_output=True, text=True, check=True)
    assert (found["cgroup"]["mode"] == "v2") is (kind.stdout.strip() == "cgroup2fs")
    assert found["cgroup"]["v1"] or found["cgroup"]["v2"]
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    assert set(found["filesystems"]) == known
    assert {"mount", "network", "pid", "uts", "ipc"} <= found["namespaces"]["limits"].keys()
    assert set(found["seccomp"]["actions"]) == set(Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split())
    assert found["seccomp"]["flags"] == seccomp_flags()
    assert "SECCOMP_FILTER_FLAG_TSYNC" in seccomp_flags()
    assert set(found["capabilities"]["permitted"]) <= set(found["capabilities"]["kernel"]) <= set(CAPABILITIES)


@pytest.mark.root
def test_id_mapped_mounts_are_tried_and_leave_nothing() -> None:
    before = Path("/proc/self/mountinfo").read_text(), set(os.listdir("/proc/self/fd"))
    found = idmap()
    assert found["reason"] == ""
    assert found["filesystems"]["proc"] is False
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 3) and "tmpfs" in mounts_by_type():
        assert found["filesystems"]["tmpfs"] is True
    assert (Path("/proc/self/mountinfo").read_text(), set(os.listdir("/proc/self/fd"))) == before


@pytest.mark.root
def test_for_a_user_without_rights_there_is_a_reason_instead() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import json; from ocirt.host.offers import offers; print(json.dumps(offers()))"],
        capture_output=True,
        text=True,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["idmap"]["filesystems"] is None and found["idmap"]["reason"]
    assert found["capabilities"]["permitted"] == []
