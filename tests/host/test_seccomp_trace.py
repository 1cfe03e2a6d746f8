"""A traced filter denies nothing by itself, and what is said to allow a call does: for random profiles."""

from __future__ import annotations

import copy
import random
import struct
from typing import Any

import pytest
from host.bpf import run
from host.profile_meaning import AUDIT, HEADERS, RETURNS

from ocirt.config.seccomp import NEW_LISTENER
from ocirt.errors import ConfigError
from ocirt.host.bpf import Machine
from ocirt.host.denials import MOST_KINDS, MOST_VALUES, Denials
from ocirt.host.notices import Notice
from ocirt.host.seccomp import compile_filter
from ocirt.host.seccomp_rules import Rules
from ocirt.host.traced import asking, traced_filter

if not HEADERS.is_dir():
    pytest.skip("no linux-libc-dev for x86_64", allow_module_level=True)
from host.test_seccomp_meaning import point, profile

PROFILES = 40
POINTS = 60
ASKED = {RETURNS["SCMP_ACT_KILL"], RETURNS["SCMP_ACT_KILL_PROCESS"], RETURNS["SCMP_ACT_ERRNO"]}
X86_64, X86 = 0xC000003E, 0x40000003
PERSONALITY, MKDIR, UNSHARE, CLONE = 135, 83, 272, 56
ALLOW = "SCMP_ACT_ALLOW"


def data(audit: int, number: int, args: list[int]) -> bytes:
    """struct seccomp_data."""
    return struct.pack("<IIQ6Q", number, audit, 0, *args)


def notice(audit: int, number: int, args: list[int], thread: int = 7) -> Notice:
    return Notice(struct.pack("<QII", 1, thread, 0) + data(audit, number, args))


def compiled(found: dict[str, Any]) -> bytes:
    return compile_filter(found, "x86_64", lowers=False, strict=False).program


def amended(found: dict[str, Any], addition: dict[str, Any], *, without: int = -1) -> dict[str, Any]:
    """The profile with what was proposed; `without` one of the entries."""
    changed = copy.deepcopy(found)
    for pointer in sorted(addition["remove"], reverse=True, key=lambda one: [int(n) for n in one.split("/")[4::2]]):
        index, place = (int(part) for part in pointer.split("/")[4::2])
        changed["syscalls"][index]["names"][place] = "removed"
    entries = [entry for at, entry in enumerate(addition["syscalls"]) if at != without]
    changed["syscalls"] = entries + (changed.get("syscalls") or [])
    changed["architectures"] = [*(changed.get("architectures") or []), *addition["architectures"]]
    return changed


def unnotifying(seed: int) -> tuple[random.Random, dict[str, Any]]:
    rng = random.Random(seed)
    found = profile(rng)
    found["syscalls"] = [rule for rule in found["syscalls"] if rule["action"] != "SCMP_ACT_NOTIFY"]
    found.pop("listenerPath", None)
    return rng, found


@pytest.mark.parametrize("seed", range(PROFILES))
def test_of_a_random_profile_exactly_what_is_denied_is_asked_about_and_the_addition_allows_it(seed: int) -> None:
    rng, found = unnotifying(seed)
    program = compiled(found)
    asks, machine = asking(program), Machine(program)
    denials, denied = Denials(Rules(found, "x86_64")), []
    for _ in range(POINTS):
        audit, number, args = point(rng, found)
        got = run(program, audit, number, args)
        assert machine.run(data(audit, number, args)) == got
        is_asked = got & 0xFFFF0000 in ASKED
        assert run(asks, audit, number, args) == (RETURNS["SCMP_ACT_NOTIFY"] if is_asked else got)
        if is_asked:
            denials.add(notice(audit, number, args), got)
            denied.append((audit, number, args))
    document = denials.document()
    assert sum(one["count"] for one in document["denied"]) == len(denied)
    nameless = {(AUDIT.get(one["architecture"]), one["number"]) for one in document["denied"] if not one["name"]}
    denied = [one for one in denied if one[0] in AUDIT.values() and one[:2] not in nameless]
    allowed = compiled(amended(found, document["addition"]))
    for audit, number, args in denied:
        assert run(allowed, audit, number, args) == RETURNS[ALLOW], f"{number:#x} of {audit:#x} {args}: {found}"
    for at in range(len(document["addition"]["syscalls"]))[:2]:
        less = compiled(amended(found, document["addition"], without=at))
        assert any(run(less, *one) != RETURNS[ALLOW] for one in denied)


def traced(found: dict[str, Any], *calls: tuple[int, int, list[int]]) -> dict[str, Any]:
    """The document for these calls, which the profile denies."""
    program = Machine(compiled(found))
    denials = Denials(Rules(found, "x86_64"))
    for call in calls:
        denials.add(notice(*call), program.run(data(*call)))
    return denials.document()


def test_a_call_with_conditions_gets_one_that_its_arguments_fulfil() -> None:
    rule = {"names": ["personality"], "action": ALLOW, "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}
    masked = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    clone = {"names": ["clone"], "action": ALLOW, "args": [masked]}
    found = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [rule, clone, {"names": ["landlock_add_rule"], "action": ALLOW}],
    }
    document = traced(
        found,
        (X86_64, PERSONALITY, [8, 1, 2, 3, 4, 5]),
        (X86_64, PERSONALITY, [8, 9, 9, 9, 9, 9]),
        (X86_64, CLONE, [0x10000011, 5, 0, 0, 0, 0]),
        (X86_64, MKDIR, [1, 2, 0, 0, 0, 0]),
    )
    assert [(one["name"], one["count"], one["pointer"]) for one in document["denied"]] == [
        ("personality", 2, "/linux/seccomp/defaultAction"),
        ("clone", 1, "/linux/seccomp/defaultAction"),
        ("mkdir", 1, "/linux/seccomp/defaultAction"),
    ]
    assert document["addition"] == {
        "architectures": [],
        "syscalls": [
            {"names": ["mkdir"], "action": ALLOW},
            {"names": ["clone"], "action": ALLOW, "args": [{**masked, "valueTwo": 0x10000000}]},
            {"names": ["personality"], "action": ALLOW, "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
        ],
        "remove": [],
    }


def test_what_an_entry_denies_is_allowed_before_it_or_removed_from_it() -> None:
    rule = {"names": ["unshare", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    denying = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule, {"names": ["landlock_add_rule"], "action": ALLOW}]}
    call = (X86_64, MKDIR, [0] * 6)
    document = traced(denying, call)
    assert document["denied"][0]["pointer"] == "/linux/seccomp/syscalls/0"
    assert (document["denied"][0]["errnoName"], document["denied"][0]["errno"]) == ("ENOSYS", 38)
    assert document["addition"]["syscalls"] == [{"names": ["mkdir"], "action": ALLOW}]
    allowing = {"defaultAction": ALLOW, "syscalls": [rule]}
    addition = traced(allowing, call)["addition"]
    assert addition == {"architectures": [], "syscalls": [], "remove": ["/linux/seccomp/syscalls/0/names/1"]}


def test_programs_of_32_bits_are_told_apart_and_their_socketcall_too() -> None:
    entries = [{"names": ["mkdir", "landlock_add_rule"], "action": ALLOW}]
    found = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries}
    document = traced(found, (X86, 39, [0] * 6))
    assert document["denied"][0] | {"args": [], "pids": []} == {
        "name": "mkdir",
        "number": 39,
        "architecture": "SCMP_ARCH_X86",
        "action": "SCMP_ACT_KILL_THREAD",
        "errno": None,
        "errnoName": "",
        "pointer": "/linux/seccomp/architectures",
        "count": 1,
        "args": [],
        "pids": [],
    }
    assert document["addition"] == {"architectures": ["SCMP_ARCH_X86"], "syscalls": [], "remove": []}
    found["architectures"] = ["SCMP_ARCH_X86"]
    document = traced(found, (X86, 102, [3, 0, 0, 0, 0, 0]))
    assert [one["name"] for one in document["denied"]] == ["connect"]
    allowed = compiled(amended(found, document["addition"]))
    assert run(allowed, X86, 102, [3] + [0] * 5) == RETURNS[ALLOW]
    assert run(allowed, X86, 102, [2] + [0] * 5) != RETURNS[ALLOW]


def test_what_is_newer_than_the_profile_says_so() -> None:
    found = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "openat"], "action": ALLOW}]}
    (one,) = traced(found, (X86_64, 439, [0] * 6))["denied"]
    assert (one["name"], one["errnoName"], one["pointer"]) == ("faccessat2", "ENOSYS", "/linux/seccomp/syscalls")


def test_what_is_remembered_is_bounded_and_all_is_counted() -> None:
    rule = {"names": ["personality"], "action": ALLOW, "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]}
    found = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}
    denials = Denials(Rules(found, "x86_64"))
    for value in range(1, MOST_VALUES + 11):
        denials.add(notice(X86_64, PERSONALITY, [value] + [0] * 5, thread=value), 0x50001)
    document = denials.document()
    (one,) = document["denied"]
    assert (one["count"], len(one["args"]), len(one["pids"]), document["notKept"]) == (
        MOST_VALUES + 10,
        MOST_VALUES,
        8,
        10,
    )
    for number in range(10_000, 10_000 + MOST_KINDS + 5):
        denials.add(notice(X86_64, number, [0] * 6), 0x50001)
    document = denials.document()
    assert len(document["denied"]) == MOST_KINDS
    assert document["notKept"] == 10 + 6


def test_a_profile_with_a_listener_cannot_be_traced_and_what_is_not_recorded_is_said() -> None:
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_TRAP"}, {"names": ["unshare"], "action": "SCMP_ACT_NOTIFY"}]
    found = {"defaultAction": "SCMP_ACT_TRACE", "syscalls": rules, "listenerPath": "/run/agent"}
    filter_ = compile_filter(found, "x86_64", lowers=False, strict=False)
    with pytest.raises(ConfigError) as caught:
        traced_filter(filter_, found)
    assert caught.value.pointer == "/linux/seccomp/syscalls/1/action"
    found = {"defaultAction": "SCMP_ACT_TRACE", "syscalls": rules[:1]}
    filter_ = compile_filter(found, "x86_64", lowers=False, strict=False)
    traced = traced_filter(filter_, found)
    assert traced.flags & NEW_LISTENER
    assert traced.original == filter_.program
    places = [text.partition(": ")[0] for text in traced.warnings if "recorded" in text]
    assert places == ["/linux/seccomp/defaultAction", "/linux/seccomp/syscalls/0/action"]
