"""Profiles to filters: what is refused, what is ignored, and what the specification leaves open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from host.bpf import run
from host.profile_meaning import AUDIT, RETURNS, X32, numbers

from ocirt.config.seccomp import ACTIONS, FLAGS, OPERATORS
from ocirt.errors import ConfigError
from ocirt.host.seccomp import compile_filter
from ocirt.plan.facts import Filter

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.json"))
FILTERED = [path for path in CONFIGS if '"seccomp"' in path.read_text()]
X86_64, X86 = AUDIT["SCMP_ARCH_X86_64"], AUDIT["SCMP_ARCH_X86"]
READ, GETPPID, SOCKET_X86, SOCKETCALL = 0, 110, 359, 102
ERRNO = RETURNS["SCMP_ACT_ERRNO"]
ALLOW = RETURNS["SCMP_ACT_ALLOW"]


def rule(*names: str, action: str = "ERRNO", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def compiled(*rules: dict[str, Any], default: str = "ALLOW", machine: str = "x86_64", **more: Any) -> Filter:
    profile = {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(rules), **more}
    return compile_filter(profile, machine, lowers=False, strict=False)


def refusal(*rules: dict[str, Any], lowers: bool = False, strict: bool = False, **more: Any) -> ConfigError:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules)} | more
    with pytest.raises(ConfigError) as refused:
        compile_filter(profile, "x86_64", lowers=lowers, strict=strict)
    return refused.value


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action(action: str) -> None:
    more = {"listenerPath": "/agent"} if action == "SCMP_ACT_NOTIFY" else {}
    found = compiled(rule("getppid", action=action.removeprefix("SCMP_ACT_")), default="LOG", **more)
    wanted = RETURNS[action] + (1 if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else 0)
    assert run(found.program, X86_64, GETPPID) == wanted
    assert run(found.program, X86_64, READ) == RETURNS["SCMP_ACT_LOG"]
    assert found.listens == (action == "SCMP_ACT_NOTIFY")


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_sees_all_64_bits(operator: str) -> None:
    value = (5 << 32) + 7
    condition = {"index": 3, "value": value, "valueTwo": value, "op": operator}
    found = compiled(rule("getppid", args=[condition]))
    holds = {
        number
        for number in (value, value - 1, value + 1, 7, (6 << 32) + 7, (4 << 32) + 7)
        if run(found.program, X86_64, GETPPID, (0, 0, 0, number)) == ERRNO + 1
    }
    less, greater = {value - 1, 7, (4 << 32) + 7}, {value + 1, (6 << 32) + 7}
    wanted = {
        "NE": less | greater,
        "LT": less,
        "LE": less | {value},
        "EQ": {value},
        "GE": greater | {value},
        "GT": greater,
        "MASKED_EQ": {number for number in less | greater | {value} if number & value == value},
    }
    assert holds == wanted[operator.removeprefix("SCMP_CMP_")]


def test_an_errno_of_0_is_a_value() -> None:
    found = compiled(rule("getppid", errnoRet=0), default="ERRNO", defaultErrnoRet=38)
    assert run(found.program, X86_64, GETPPID) == ERRNO
    assert run(found.program, X86_64, READ) == ERRNO + 38


def test_without_rules_there_is_only_the_default() -> None:
    for more in ({}, {"syscalls": None}, {"syscalls": []}):
        profile = {"defaultAction": "SCMP_ACT_ERRNO"} | more
        found = compile_filter(profile, "x86_64", lowers=False, strict=False)
        assert run(found.program, X86_64, 5000) == ERRNO + 1, "no profile knows a newest call here"


def test_the_machines_own_architecture_is_always_there() -> None:
    found = compiled(rule("getppid"), architectures=["SCMP_ARCH_X86"])
    assert run(found.program, X86_64, GETPPID) == ERRNO + 1
    assert run(found.program, X86, numbers("SCMP_ARCH_X86")["getppid"]) == ERRNO + 1
    assert run(found.program, X86_64, GETPPID | X32) == RETURNS["SCMP_ACT_KILL"], "x32 is not listed"


def test_architectures_that_the_machine_does_not_run_are_ignored() -> None:
    found = compiled(rule("getppid"), architectures=["SCMP_ARCH_S390X", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_SHEB"])
    assert len(found.warnings) == 3
    assert found.warnings[1].startswith("/linux/seccomp/architectures/1: SCMP_ARCH_LOONGARCH64: ignored")
    assert found.program == compiled(rule("getppid")).program


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_other_machines_are_refused_only_where_libseccomp_cannot(machine: str) -> None:
    """libseccomp compiles for other machines than the one it runs on."""
    found = compiled(rule("getppid"), machine=machine)
    audit = {"aarch64": 0xC00000B7, "riscv64": 0xC00000F3}[machine]
    assert run(found.program, audit, 173) == ERRNO + 1


def test_newer_calls_by_architecture() -> None:
    """The highest number that is named differs: statx is 332 on x86_64, 383 on x86."""
    found = compiled(rule("statx", action="ALLOW"), default="KILL", architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    enosys = ERRNO + 38
    assert [run(found.program, X86_64, number) for number in (331, 332, 333, 0x3FFFFFFF)] == [0, ALLOW, enosys, enosys]
    assert [run(found.program, X86, number) for number in (382, 383, 384)] == [0, ALLOW, enosys]
    assert [run(found.program, X86_64, X32 + number) for number in (331, 332, 333)] == [0, ALLOW, enosys]


@pytest.mark.parametrize(
    "more", [{"default": "LOG"}, {"default": "TRACE"}, {"default": "ERRNO", "defaultErrnoRet": 38}]
)
def test_no_enosys_where_the_default_is_permissive_or_enosys(more: dict[str, Any]) -> None:
    found = compiled(rule("statx", action="ALLOW"), **more)
    wanted = RETURNS[f"SCMP_ACT_{more['default']}"] + {"LOG": 0, "TRACE": 1, "ERRNO": 38}[more["default"]]
    assert run(found.program, X86_64, 5000) == wanted


def test_socket_through_socketcall_on_x86() -> None:
    """The old way has its arguments in memory, which no filter sees: the first says which call it is."""
    found = compiled(rule("socket", "connect"), architectures=["SCMP_ARCH_X86"])
    assert run(found.program, X86, SOCKET_X86) == ERRNO + 1
    assert run(found.program, X86, SOCKETCALL, (1,)) == ERRNO + 1
    assert run(found.program, X86, SOCKETCALL, (2,)) == ALLOW


def test_a_long_profile_is_refused_before_the_kernel_does() -> None:
    names = [name for name in numbers("SCMP_ARCH_X86_64") if numbers("SCMP_ARCH_X86_64")[name] < 330]
    args = [{"index": index, "value": 1 << 40, "op": "SCMP_CMP_GT"} for index in range(6)]
    error = refusal(rule(*names, args=args))
    assert "the kernel takes 4096" in error.message and error.pointer == "/linux/seccomp"


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (None, 4),
        ([], 0),
        (["SECCOMP_FILTER_FLAG_LOG"], 2),
        (["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], 5),
    ],
)
def test_flags(flags: list[str] | None, wanted: int) -> None:
    assert compiled(flags=flags).flags == wanted
    if flags is None:
        assert compiled().flags == wanted


def test_a_listener_brings_its_flags() -> None:
    ask = rule("getppid", action="NOTIFY")
    every = compiled(ask, flags=list(FLAGS), listenerPath="/agent").flags
    assert every == 0b111111
    assert compiled(ask, listenerPath="/agent").flags == 0b1100


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if '"seccomp"' in path.read_text()], ids=lambda path: path.stem
)
def test_what_engines_write_compiles(path: Path) -> None:
    profile = json.loads(path.read_text())["linux"]["seccomp"]
    found = compile_filter(profile, "x86_64", lowers=True, strict=False)
    assert run(found.program, X86_64, READ) == ALLOW
    assert not found.blocks


def test_engines_profiles_are_there() -> None:
    assert len(FILTERED) > 10


def test_a_profile_that_may_forbid_the_start_says_so() -> None:
    assert not compiled(rule("execve", "capset", action="LOG"), default="KILL").warnings
    found = compiled(rule("execve", args=[{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]))
    assert found.blocks
    assert found.warnings == ("/linux/seccomp: SCMP_ACT_ERRNO for execve, which the program's start needs",)


CONDITION = {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"defaultAction": "SCMP_ACT_NOTIFY"}, "/defaultAction", "cannot be the default"),
    ({"defaultErrnoRet": 1}, "/defaultErrnoRet", "SCMP_ACT_ALLOW has no errno"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4095}, "/defaultErrnoRet", "at most 4094"),
    ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": "1"}, "/defaultErrnoRet", "an integer"),
    ({"defaultAction": None}, "/defaultAction", "a string"),
    ({"defaultAction": "SCMP_ACT_ALOW"}, "/defaultAction", "did you mean SCMP_ACT_ALLOW?"),
    ({"architectures": ["x86_64"]}, "/architectures/0", "unknown architecture"),
    ({"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X68"]}, "/architectures/1", "did you mean SCMP_ARCH_X86?"),
    ({"flags": ["SECCOMP_FILTER_FLAG_LOGS"]}, "/flags/0", "did you mean SECCOMP_FILTER_FLAG_LOG?"),
    ({"flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}, "/flags/0", "unknown seccomp flag"),
    ({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, "/flags/0", "needs a rule with SCMP_ACT_NOTIFY"),
    ({"listenerMetadata": "x"}, "/listenerPath", "listenerMetadata needs it"),
    ({"syscalls": {}}, "/syscalls", "an array"),
    ({"syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}, "/syscalls/0/names", "must not be empty"),
    ({"syscalls": [{"action": "SCMP_ACT_LOG"}]}, "/syscalls/0/names", "required"),
    ({"syscalls": [{"names": ["read"]}]}, "/syscalls/0/action", "required"),
    ({"syscalls": [rule("read", action="KILL", errnoRet=1)]}, "/syscalls/0/errnoRet", "SCMP_ACT_KILL has no errno"),
    ({"syscalls": [rule("read", errnoRet=1 << 20)]}, "/syscalls/0/errnoRet", "at most 4094"),
    ({"syscalls": [rule("read", action="TRACE", errnoRet=1 << 16)]}, "/syscalls/0/errnoRet", "at most 65535"),
    (
        {"syscalls": [rule("read"), rule("read", args=[CONDITION | {"op": "SCMP_CMP_MASK_EQ"}])]},
        "/syscalls/1/args/0/op",
        "did you mean SCMP_CMP_MASKED_EQ?",
    ),
    ({"syscalls": [rule("read", args=[CONDITION | {"index": 6}])]}, "/syscalls/0/args/0/index", "from 0 to 5"),
    ({"syscalls": [rule("read", args=[CONDITION | {"value": -1}])]}, "/syscalls/0/args/0/value", "from 0 to"),
    ({"syscalls": [rule("read", args=[CONDITION | {"value": True}])]}, "/syscalls/0/args/0/value", "an integer"),
    ({"syscalls": [rule("read", action="NOTIFY")]}, "/listenerPath", "absolute path"),
    ({"syscalls": [rule("read", action="NOTIFY")], "listenerPath": "agent"}, "/listenerPath", "absolute path"),
    ({"syscalls": [rule("read", action="NOTIFY")], "listenerPath": "/" * 108}, "/listenerPath", "at most 107"),
    (
        {"syscalls": [rule("read", "execve", action="NOTIFY")], "listenerPath": "/a"},
        "/syscalls/0/names/1",
        "cannot be for execve",
    ),
]


@pytest.mark.parametrize(("more", "pointer", "words"), BAD)
def test_what_is_wrong_is_refused_with_its_place(more: dict[str, Any], pointer: str, words: str) -> None:
    error = refusal(**more)
    assert error.pointer == "/linux/seccomp" + pointer
    assert words in str(error)


def test_capset_cannot_be_asked_about_where_init_needs_it() -> None:
    ask = rule("capset", action="NOTIFY")
    assert refusal(ask, lowers=True, listenerPath="/a").pointer == "/linux/seccomp/syscalls/0/names/0"
    assert compiled(ask, listenerPath="/a").listens


def test_unknown_names_are_ignored_or_errors() -> None:
    found = compiled(rule("read", "no_such_call"))
    assert found.warnings == ('/linux/seccomp/syscalls/0/names/1: unknown system call "no_such_call": ignored',)
    error = refusal(rule("read", "no_such_call"), strict=True)
    assert error.pointer == "/linux/seccomp/syscalls/0/names/1"
