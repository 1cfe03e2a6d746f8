"""compile: what depends on the configuration and the facts, decision by decision. The golden plans have the rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from plan.cases import CASES, ON_V1, ON_V2, V1, compile_case, config_of, no_terminal

from ocirt.errors import ConfigError
from ocirt.plan.compile import Compiled, compile_plan
from ocirt.plan.facts import Facts
from ocirt.plan.inherited import inherited
from ocirt.plan.kernel import (
    CLONE_INTO_CGROUP,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    CLONE_PARENT,
    MOUNT_ATTR,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
)
from ocirt.plan.options import parse_options, recognized
from ocirt.plan.paths import parts_of
from ocirt.plan.step import Own, Slot, Step, Vector
from ocirt.runtime.spec import default_spec


def spec(**process: Any) -> dict[str, Any]:
    made = copy.deepcopy(default_spec())
    no_terminal(made)
    made["process"] |= process
    return made


def compiled(config: dict[str, Any], **facts: Any) -> Compiled:
    return compile_plan(config_of(config), Facts(**(ON_V1 | facts)))


def steps(plan: Compiled, call: str, pointer: str = "") -> list[Step]:
    return [step for step in plan.plan.steps if step.call == call and step.pointer.startswith(pointer)]


def environment(plan: Compiled) -> list[str]:
    vector = plan.plan.steps[-1].args[2]
    assert isinstance(vector, Vector)
    return [item.prefix + "[slot]" if isinstance(item, Slot) else item for item in vector.items]


def candidates(plan: Compiled) -> list[object]:
    return [step.args[0] for step in steps(plan, "load", "/process/args")]


# Namespaces.


def test_each_namespace_is_its_flag_and_the_cgroup_namespace_comes_later() -> None:
    plan = compiled(spec())
    (clone,) = steps(plan, "clone3")
    expected = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_PARENT
    assert clone.args == (expected, -1)
    assert [step.args for step in steps(plan, "unshare")] == [(CLONE_NEWCGROUP,)]


def test_on_v2_init_starts_in_its_cgroup() -> None:
    plan = compiled(spec(), **ON_V2)
    (clone,) = steps(plan, "clone3")
    flags, descriptor = clone.args
    assert isinstance(flags, int)
    assert flags & CLONE_INTO_CGROUP
    assert descriptor == inherited(Facts(**ON_V2))["cgroup"]


def test_lo_is_brought_up_in_a_new_network_namespace_only() -> None:
    config = spec()
    assert steps(compiled(config), "socket")
    config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "uts"}]
    assert not steps(compiled(config), "socket")


# Descriptors.


@pytest.mark.parametrize("facts", [{}, {"wait_for_start": False}, ON_V2, ON_V2 | {"wait_for_start": False}])
def test_init_starts_with_consecutive_descriptors_and_the_plan_last(facts: dict[str, Any]) -> None:
    numbers = inherited(Facts(**facts))
    assert list(numbers.values()) == list(range(3, 3 + len(numbers)))
    assert list(numbers)[-1] == "plan"
    assert ("fifo" in numbers) == Facts(**facts).wait_for_start


# Credentials.


def test_the_bounding_set_drops_what_is_not_kept() -> None:
    plan = compiled(spec(), last_capability=40)
    dropped = {step.args[1] for step in steps(plan, "prctl") if step.args[0] == PR_CAPBSET_DROP}
    kept = {5, 10, 29}  # CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE
    assert dropped == set(range(41)) - kept


def test_no_capabilities_means_none() -> None:
    config = spec()
    del config["process"]["capabilities"]
    plan = compiled(config)
    (capset,) = steps(plan, "capset")
    assert capset.args[1] == bytes(24)
    assert len([step for step in steps(plan, "prctl") if step.args[0] == PR_CAPBSET_DROP]) == 41


def test_an_effective_capability_has_to_be_permitted() -> None:
    config = spec()
    config["process"]["capabilities"] = {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]}
    plan = compiled(config)
    assert "/process/capabilities/effective: CAP_KILL left out: not in the permitted set" in plan.warnings


def test_an_inheritable_capability_has_to_be_in_the_bounding_set() -> None:
    """capset(2) refuses the whole set otherwise."""
    config = spec()
    config["process"]["capabilities"] = {"permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"]}
    plan = compiled(config)
    assert "/process/capabilities/inheritable: CAP_KILL left out: not in the bounding set" in plan.warnings
    (data,) = [step.args[1] for step in steps(plan, "capset")]
    assert isinstance(data, bytes)
    assert data[8:12] == bytes(4)  # inheritable, its low word


def test_an_ambient_capability_has_to_be_permitted_and_inheritable() -> None:
    plan = compile_case("user")
    raised = [step.args[2] for step in steps(plan, "prctl") if step.args[:2] == (PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)]
    assert raised == [10]
    assert any("/process/capabilities/ambient" in warning and "CAP_KILL" in warning for warning in plan.warnings)


def test_what_the_caller_lacks_is_left_out_with_a_warning() -> None:
    plan = compiled(spec(), permitted=1 << 5)
    (capset,) = steps(plan, "capset")
    data = capset.args[1]
    assert isinstance(data, bytes)
    assert int.from_bytes(data[4:8], "little") == 1 << 5
    assert any("CAP_AUDIT_WRITE" in warning for warning in plan.warnings)


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privs_is_set_when_it_is_asked_for(wanted: bool) -> None:
    plan = compiled(spec(noNewPrivileges=wanted))
    assert any(step.args[0] == PR_SET_NO_NEW_PRIVS for step in steps(plan, "prctl")) == wanted


# The program.


def test_a_name_is_looked_for_in_the_absolute_folders_of_the_containers_path() -> None:
    plan = compiled(spec(args=["prog"], env=["PATH=/a:b::./c:/d/"]))
    assert candidates(plan) == ["/a/prog", "/d/prog"]


def test_without_a_path_the_usual_folders_are_searched() -> None:
    plan = compiled(spec(args=["prog"], env=[]))
    assert candidates(plan)[0] == "/usr/local/sbin/prog"
    assert len(candidates(plan)) == 6


@pytest.mark.parametrize("name", ["/bin/prog", "./prog", "a/prog"])
def test_a_name_with_a_slash_is_not_looked_for(name: str) -> None:
    assert candidates(compiled(spec(args=[name]))) == [name]


def test_of_two_variables_with_one_name_the_last_counts() -> None:
    plan = compiled(spec(env=["A=1", "HOME=/x", "A=2", "PATH=/first", "PATH=/last"], args=["p"]))
    assert environment(plan) == ["A=2", "HOME=/x", "PATH=/last"]
    assert candidates(plan) == ["/last/p"]
    assert plan.home is None


def test_home_is_a_slot_unless_it_is_given() -> None:
    plan = compiled(spec(env=["A=1"]))
    assert environment(plan) == ["A=1", "HOME=[slot]"]
    assert plan.home is not None
    assert steps(plan, "send descriptor", "/process/env")


def test_the_umask_is_the_callers_unless_it_is_given() -> None:
    plan = compiled(spec())
    first, last = steps(plan, "umask")
    assert last.args == (first.result,)
    given = compiled(spec(user={"uid": 0, "gid": 0, "umask": 0o77}))
    assert steps(given, "umask")[-1].args == (0o77,)


# Mounts.


def test_a_relative_bind_source_is_the_bundles() -> None:
    plan = compile_case("binds")
    assert [step.args[1] for step in steps(plan, "open_tree", "/mounts/8")] == ["/bundle/resolv.conf"]
    assert [step.args[1] for step in steps(plan, "open_tree", "/mounts/7")] == ["/data"]


def test_a_destination_that_is_the_root_is_refused() -> None:
    config = spec()
    config["mounts"].append({"destination": "/a/..", "type": "tmpfs"})
    with pytest.raises(ConfigError) as refused:
        compiled(config)
    assert refused.value.pointer == "/mounts/7/destination"


def test_proc_and_sysfs_are_not_mounted_through_symlinks() -> None:
    plan = compiled(spec())
    for pointer in ("/mounts/0", "/mounts/5"):
        (how,) = {step.args[2] for step in steps(plan, "openat2", pointer)}
        assert isinstance(how, bytes)
        assert how[16] & 0x04


def test_a_container_without_a_cgroup_namespace_sees_a_copy_of_its_own_cgroup() -> None:
    plan = compile_case("v1-without-cgroup-namespace")
    sources = [step.args[1].content for step in steps(plan, "open_tree", "/mounts/6") if isinstance(step.args[1], Own)]
    assert sources == [hierarchy.source for hierarchy in V1]
    assert not steps(plan, "unshare")


def test_a_controller_of_a_shared_hierarchy_is_a_link_to_it() -> None:
    links = {step.args[2]: step.args[0] for step in steps(compiled(spec()), "symlinkat", "/mounts/6")}
    assert links == {"cpu": "cpu,cpuacct", "cpuacct": "cpu,cpuacct"}


def test_a_bound_dev_gets_no_nodes() -> None:
    plan = compile_case("privileged")
    assert not steps(plan, "mknodat", "/linux/devices")
    assert not steps(plan, "symlinkat", "/linux/devices")


def test_the_last_option_of_a_kind_wins() -> None:
    options = parse_options(["ro", "nosuid", "rw", "noatime", "strictatime"], "/mounts/0")
    # The kernel wants the whole field of the access time cleared.
    assert (options.set, options.clear) == (
        0x02 | 0x20,
        0x01 | 0x70,
    )


def test_a_bind_mount_ignores_the_flags_of_a_file_system_with_a_warning() -> None:
    config = spec()
    options = ["ro", "bind", "silent", "sync", "async", "iversion"]
    config["mounts"].append({"destination": "/m", "source": "/data", "options": options})
    plan = compiled(config, directories={"/data": True})
    assert [warning.split()[:2] for warning in plan.warnings] == [
        ["/mounts/7/options/3:", '"sync"'],
        ["/mounts/7/options/5:", '"iversion"'],
    ]
    assert not steps(plan, "fsconfig", "/mounts/7")


def test_an_r_before_a_flag_is_for_all_that_is_mounted_below() -> None:
    flags = "ro nosuid nodev noexec nodiratime relatime noatime strictatime nosymfollow"
    opposite = "rw suid dev exec diratime norelatime atime nostrictatime symfollow"
    for name in f"{flags} {opposite}".split():
        alone, below = parse_options([name, "bind"], ""), parse_options([f"r{name}", "bind"], "")
        assert (below.below_set, below.below_clear) == (alone.set, alone.clear) != (0, 0)
        assert (below.set, below.clear) == (0, 0) == (alone.below_set, alone.below_clear)
        new = parse_options([f"r{name}"], "")  # nothing is below a new mount
        assert (new.set, new.clear) == (alone.set, alone.clear)


def test_every_option_of_the_specification_is_known() -> None:
    table = """async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime
        noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev
        rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro
        rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave
        strictatime suid symfollow sync tmpcopyup unbindable"""
    assert set(table.split()) <= set(recognized())


@pytest.mark.parametrize(
    ("option", "pairs"),
    [
        ("size=1m", [("size", "1m")]),
        ("size=1m,mode=755,,huge", [("size", "1m"), ("mode", "755"), ("huge", None)]),
        ('context="a:b:c0,c1"', [("context", "a:b:c0,c1")]),
        ("lowerdir=/a\\,b:/c", [("lowerdir", "/a\\,b:/c")]),
        (",", []),
        ("x=", [("x", "")]),
    ],
)
def test_an_option_of_a_file_system(option: str, pairs: list[tuple[str, str | None]]) -> None:
    assert parse_options([option], "").data == pairs


def test_mount2_is_asked_only_for_what_fsconfig_cannot_say() -> None:
    assert not parse_options(
        ["sync", "dirsync", "lazytime", "mand", "loud", "noiversion", "a=" + "x" * 255], ""
    ).needs_mount2("")
    for option in ("iversion", "silent", "a=" + "x" * 256, "a=" + "é" * 128, "x" * 256):
        assert parse_options([option], "").needs_mount2("")
    assert parse_options([], "").needs_mount2("/" * 256)
    assert parse_options(["a=1", "b", 'context="u:c0,c1"'], "").for_mount2() == 'a=1,b,context="u:c0,c1"'


@pytest.mark.parametrize("value", ["", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable"])
def test_the_propagation_of_the_root(value: str) -> None:
    config = spec()
    config["linux"]["rootfsPropagation"] = value
    names = [call.doing for call in steps(compiled(config), "mount_setattr", "/linux/rootfsPropagation")]
    assert (
        names
        == {
            "": ["make the root private"],
            "private": ["make the root private"],
            "rprivate": ["make the root private"],
            "slave": [],
            "rslave": [],
            "shared": ["make the root private", "make the root shared"],
            "rshared": ["make the root private", "make the root rshared"],
            "unbindable": ["make the root private", "make the root unbindable"],
        }[value]
    )


LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


@pytest.mark.parametrize("name", ["context", "fscontext", "defcontext", "rootcontext"])
def test_the_label_of_mounts_is_an_option_of_their_file_systems(name: str) -> None:
    config = spec()
    config["linux"]["mountLabel"] = LABEL
    if name != "context":
        config["annotations"] = {"run.oci.mount_context_type": name}
    config["mounts"] += [
        {"destination": "/own", "type": "tmpfs", "options": ["context=mine", "mode=700"]},
        {"destination": "/quiet", "type": "tmpfs", "options": ["silent", "mode=700"]},
        {"destination": "/bound", "source": "/data", "options": ["bind"]},
    ]
    plan = compiled(config, directories={"/data": True}, security_modules=("selinux",))
    labelled = {step.pointer: step.args[3] for step in steps(plan, "fsconfig") if step.args[2] == name}
    own = {"/mounts/7": "mine"} if name == "context" else {}
    assert labelled == dict.fromkeys(("/mounts/1", "/mounts/2", "/mounts/3"), LABEL) | own
    (quiet,) = steps(plan, "mount", "/mounts/8")
    assert quiet.args[4] == f'mode=700,{name}="{LABEL}"'
    assert not plan.warnings


def test_without_selinux_a_label_is_ignored_with_a_warning() -> None:
    config = spec()
    config["linux"]["mountLabel"] = LABEL
    plan = compiled(config)
    assert not [step for step in steps(plan, "fsconfig") if step.args[2] == "context"]
    assert plan.warnings == ["/linux/mountLabel: SELinux is not enabled on this host: ignored"]


def in_user_namespace(*namespaces: str, size: int = 65536) -> dict[str, Any]:
    config = spec()
    config["linux"]["namespaces"] = [{"type": kind} for kind in ("user", "mount", *namespaces)]
    config["linux"] |= {
        name: [{"containerID": 0, "hostID": 100000, "size": size}] for name in ("uidMappings", "gidMappings")
    }
    config["hostname"] = ""
    return config


def test_proc_and_sysfs_of_namespaces_that_are_not_the_user_namespaces_own() -> None:
    plan = compiled(in_user_namespace("ipc"))
    kinds = {step.args[0] for step in steps(plan, "fsopen", "/mounts")}
    assert not kinds & {"proc", "sysfs"}
    (proc,), (sysfs,) = steps(plan, "open_tree", "/mounts/0"), steps(plan, "open_tree", "/mounts/5")
    assert (proc.args[1], sysfs.args[1]) == ("/proc", "/sys")
    changes = [step.args[2:4] for step in steps(plan, "mount_setattr", "/mounts/5")]
    assert (0x9000, MOUNT_ATTR.pack(1, 0, 0, 0)) in changes
    assert [warning.partition(":")[0] for warning in plan.warnings] == ["/mounts/0", "/mounts/5"]
    own = compiled(in_user_namespace("pid", "network", "ipc"))
    assert {"proc", "sysfs"} <= {step.args[0] for step in steps(own, "fsopen", "/mounts")}
    assert not own.warnings


def test_the_group_of_terminals_has_to_be_mapped() -> None:
    given = [
        [step.args[2:4] for step in steps(plan, "fsconfig", "/mounts/2") if step.args[2] == "gid"]
        for plan in (compiled(in_user_namespace("pid", "network", "ipc", size=size)) for size in (5, 6))
    ]
    assert given == [[], [("gid", "5")]]


@pytest.mark.parametrize(
    ("path", "parts"),
    [("/a/b", ["a", "b"]), ("//a/./b/", ["a", "b"]), ("../../a", ["a"]), ("/a/../..", []), ("a", ["a"])],
)
def test_a_path_is_resolved_in_the_text(path: str, parts: list[str]) -> None:
    assert parts_of(path) == parts


@pytest.mark.parametrize("name", CASES)
def test_every_failure_has_something_to_say(name: str) -> None:
    for step in compile_case(name).plan.steps:
        assert step.doing, step.call
        assert step.pointer == "" or step.pointer.startswith("/")


# Security modules.


@pytest.mark.parametrize(("name", "module"), [("apparmorProfile", "AppArmor"), ("selinuxLabel", "SELinux")])
def test_a_profile_that_nothing_would_enforce_is_refused(name: str, module: str) -> None:
    others = tuple({"apparmor", "selinux"} - {module.lower()})
    with pytest.raises(ConfigError) as refused:
        compiled(spec(**{name: "one"}), security_modules=others)
    assert refused.value.pointer == f"/process/{name}"
    assert f"{module} is not enabled on this host" in refused.value.message


def test_without_apparmor_everything_is_unconfined() -> None:
    assert not steps(compiled(spec(apparmorProfile="unconfined")), "write")
    plan = compiled(spec(apparmorProfile="unconfined"), security_modules=("apparmor",))
    assert [step.args[1] for step in steps(plan, "write")] == ["exec unconfined"]


def test_only_the_session_keyring_is_made_with_the_label() -> None:
    """And not the keys that anything else makes."""
    plan = compiled(spec(selinuxLabel="u:r:t:s0"), security_modules=("selinux",))
    calls = [(step.call, step.args[1]) for step in plan.plan.steps if step.call in ("write", "keyctl")]
    assert [text for call, text in calls if call == "write"] == ["u:r:t:s0", "\n", "u:r:t:s0"]
    assert [call for call, _ in calls] == ["write", "keyctl", "write", "write"]


# Descriptors that are handed on.


def test_the_program_is_told_of_what_is_handed_on() -> None:
    """Whatever the configuration said of it; and under which pid only the host knows, outside a pid namespace."""
    plan = compiled(spec(env=["LISTEN_FDS=9", "LISTEN_PID=77", "A=1"]), preserved=2, listened=2)
    assert environment(plan)[:3] == ["A=1", "LISTEN_FDS=2", "LISTEN_PID=1"]
    assert plan.listen_pid is None
    plan = compile_case("handed-over")
    assert environment(plan)[:3] == ["A=1", "LISTEN_FDS=2", "LISTEN_PID=[slot]"]
    assert plan.listen_pid


def test_what_is_handed_on_keeps_its_numbers() -> None:
    assert inherited(Facts(preserved=2))["control"] == 5
    plan = compile_case("handed-over").plan
    assert plan.control == 5
    assert [step.args[0] for step in plan.steps if step.call == "close_range"] == [plan.inherited + 1, 8, 5]


def test_only_one_value_keeps_the_groups() -> None:
    config = spec()
    config["annotations"] = {"run.oci.keep_original_groups": "0"}
    assert steps(compiled(config), "setgroups")
    config["annotations"] = {"run.oci.keep_original_groups": "1"}
    assert not steps(compiled(config), "setgroups")
