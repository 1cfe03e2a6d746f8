"""Cases: seccomp profiles that are refused; tests/host/test_seccomp.py has a table of all that the compiler refuses."""

from __future__ import annotations

from typing import Any

from bad_values import Case, put

_ASK = {"names": ["mkdir", "execve"], "action": "SCMP_ACT_NOTIFY"}


def _case(name: str, where: str, profile: Any, *words: str) -> Case:
    return Case(f"seccomp {name}", put("/linux/seccomp", profile), "/linux/seccomp" + where, words)


def _rule(**more: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO"} | more]}


SECCOMP = [
    _case("an array", "", [], "expected an object, got an empty array"),
    _case("false", "", False, "expected an object, got false"),
    _case("without a default", "/defaultAction", {"syscalls": []}, "required"),
    _case("unknown default", "/defaultAction", {"defaultAction": "ALLOW"}, 'unknown seccomp action "ALLOW"'),
    _case("unknown action", "/syscalls/0/action", _rule(action="SCMP_ACT_KIL"), "did you mean SCMP_ACT_KILL?"),
    _case("errno of a kill", "/syscalls/0/errnoRet", _rule(action="SCMP_ACT_KILL", errnoRet=5), "has no errno"),
    _case("a number as name", "/syscalls/0/names/0", _rule(names=[5]), "expected a string, got 5"),
    _case("no name", "/syscalls/0/names", _rule(names=[]), "names must not be empty"),
    _case("asks nobody", "/listenerPath", _rule(action="SCMP_ACT_NOTIFY"), "expected the absolute path"),
    _case(
        "asks about its own start",
        "/syscalls/0/names/1",
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [_ASK], "listenerPath": "/run/agent"},
        "SCMP_ACT_NOTIFY cannot be for execve",
    ),
    _case(
        "asks an agent that is not there",
        "/listenerPath",
        _rule(action="SCMP_ACT_NOTIFY") | {"listenerPath": "/nowhere/agent"},
        "No such file or directory",
        "must listen there",
    ),
]
