"""explain --seccomp: a profile in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import OCIRT, REPOSITORY, Bundle, command

from ocirt.cli.seccomp import profile_lines
from ocirt.errors import ConfigError
from ocirt.host.seccomp_table import conditions, seccomp_table

ALLOW = "SCMP_ACT_ALLOW"


def one(op: str, value: int, index: int = 0, **more: int) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, **more}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ""),
        ([one("EQ", 8)], "argument 0 is 8"),
        ([one("NE", 0x20000, 3)], "argument 3 is not 0x20000"),
        ([one("GE", 1), one("LT", 5, 1)], "argument 0 is at least 1 and argument 1 is less than 5"),
        ([one("GT", 1), one("LE", 5)], "argument 0 is greater than 1 or argument 0 is at most 5"),
        ([one("MASKED_EQ", 0x7E020000, valueTwo=0)], "argument 0 has no bit of 0x7e020000"),
        ([one("MASKED_EQ", 2, valueTwo=2)], "argument 0 has all bits of 2"),
        ([one("MASKED_EQ", 3, valueTwo=2)], "argument 0 & 3 is 2"),
    ],
)
def test_conditions_are_words(args: list[dict[str, Any]], words: str) -> None:
    assert conditions(args) == words


PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_MIPS"],
    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
    "syscalls": [
        {"names": ["execve", "read", "send", "no_such_call"], "action": ALLOW},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["personality"], "action": ALLOW, "args": [one("EQ", 8)]},
        {"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"},
    ],
}


def test_a_profile_is_a_table_of_what_comes_of_its_calls() -> None:
    table = seccomp_table(PROFILE, lowers=False)
    assert table["default"]["means"] == "fails with EPERM"
    assert table["newer"]["errnoName"] == "ENOSYS"
    assert [rule["counts"] for rule in table["rules"]] == [True, True, False, True, True]
    assert [unknown["name"] for unknown in table["unknown"]][-1] == "no_such_call"
    assert table["unknown"][-1]["pointer"] == "/linux/seccomp/syscalls/0/names/3"
    assert {one["name"]: one["used"] for one in table["architectures"]}["SCMP_ARCH_MIPS"] is False
    lines = profile_lines(table)
    assert lines[0].split(None, 1) == ["default", "ERRNO EPERM: a call fails with EPERM"]
    text = "\n".join(lines)
    at = [
        text.index(part)
        for part in (
            "ALLOW: happens\n  /linux/seccomp/syscalls/0\n    execve read send no_such_call\n",
            "  /linux/seccomp/syscalls/3  if argument 0 is 8\n    personality\n",
            "ERRNO ENOSYS: fails with ENOSYS\n  /linux/seccomp/syscalls/1\n    clone3\n",
            "KILL_PROCESS: the process ends with SIGSYS\n  /linux/seccomp/syscalls/4\n    reboot\n",
            "the default's own action, and left out: /linux/seccomp/syscalls/2\n",
            "not known here:\n",
        )
    ]
    assert at == sorted(at)


def test_what_is_wrong_or_hostile_in_a_profile_is_said_safely() -> None:
    with pytest.raises(ConfigError) as caught:
        seccomp_table({"defaultAction": "SCMP_ACT_DENY"}, lowers=False)
    assert caught.value.pointer == "/linux/seccomp/defaultAction"
    hostile = {"defaultAction": ALLOW, "syscalls": [{"names": ["\x1b[31m"], "action": "SCMP_ACT_LOG"}]}
    assert "\x1b" not in "".join(profile_lines(seccomp_table(hostile, lowers=False)))


def test_the_verb_prints_a_table_or_json_and_needs_a_profile(bundle: Bundle) -> None:
    config = json.loads((REPOSITORY / "tests" / "configs" / "docker-00.json").read_text())
    bundle.config["linux"]["seccomp"] = config["linux"]["seccomp"]
    bundle.write()
    done = command(OCIRT, "explain", "--seccomp", bundle.path)
    assert (done.code, done.err) == (0, "")
    assert "  /linux/seccomp/syscalls/9  if argument 0 has no bit of 0x7e020000\n    clone\n" in done.out
    done = command(OCIRT, "explain", "--seccomp", "--json", bundle.path)
    assert json.loads(done.out)["default"]["errnoName"] == "EPERM"
    assert command(OCIRT, "explain", "--seccomp", "--all", bundle.path).code == 1
    del bundle.config["linux"]["seccomp"]
    bundle.write()
    done = command(OCIRT, "explain", "--seccomp", bundle.path)
    assert done.code == 1
    assert "/linux/seccomp: there is no profile" in done.err


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "tests" / "configs").glob("docker-0*.json")), ids=lambda p: p.stem
)
def test_engines_profiles_have_nothing_unknown_but_what_other_architectures_have(path: Path) -> None:
    seccomp = json.loads(path.read_text())["linux"].get("seccomp")
    if seccomp:
        table = seccomp_table(seccomp, lowers=False)
        assert [one["name"] for one in table["unknown"] if not one["known"]] == []
        assert (table["actions"], table["warnings"]) == ([], [])
