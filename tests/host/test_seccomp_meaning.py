"""200 random profiles: the compiled filter, run by a small BPF machine, against what the profile means."""

from __future__ import annotations

import random
from typing import Any

import pytest
from host.bpf import run
from host.profile_meaning import AUDIT, FILES, HEADERS, RETURNS, X32, meaning, numbers

from ocirt.host.seccomp import compile_filter

PROFILES = 200
POINTS = 400
if not HEADERS.is_dir():
    pytest.skip("no linux-libc-dev for x86_64", allow_module_level=True)

# libseccomp turns these into socketcall(2) and ipc(2) on 32 bits, where one number stands for many calls.
MULTIPLEXED = set(
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown setsockopt"
    " getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg socketcall ipc semop semget semctl semtimedop msgsnd msgrcv"
    " msgget msgctl shmat shmdt shmget shmctl".split()
)
OLD = 440  # numbers that every libseccomp since 2.5.0 knows
DEFAULTS = [name for name in RETURNS if name != "SCMP_ACT_NOTIFY"]


def names() -> list[str]:
    found = {name for arch in FILES for name, number in numbers(arch).items() if number & ~X32 < OLD}
    return sorted(found - MULTIPLEXED)


def value(rng: random.Random) -> int:
    kinds = [
        0,
        1,
        2,
        rng.randrange(16),
        rng.randrange(1 << 16),
        0x7E020000,
        0xFFFFFFFF,
        0x80000000,
        rng.getrandbits(32),
    ]
    kinds += [rng.getrandbits(64), 1 << 32, (1 << 32) + 1, (1 << 64) - 1, 0xFFFFFFFF00000000, 5 << 32]
    return rng.choice(kinds)


def condition(rng: random.Random, index: int) -> dict[str, Any]:
    op = rng.choice(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
    found = {"index": index, "value": value(rng), "op": f"SCMP_CMP_{op}"}
    if op == "MASKED_EQ":
        found["valueTwo"] = rng.choice([value(rng) & found["value"], value(rng)])
    return found


def an_action(rng: random.Random, choices: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"action": rng.choice(choices)}
    if found["action"] in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") and rng.random() < 0.6:
        found["errnoRet"] = rng.choice([0, 1, 13, 38, 4094])
    return found


def rules_of(rng: random.Random, most: int) -> list[dict[str, Any]]:
    """Entries for a name, of one action or of two, which may contradict each other."""
    entries = []
    choices = rng.choices(list(RETURNS), k=rng.randint(1, 2))
    for _ in range(rng.randint(1, most)):
        indices = [rng.randrange(6) for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 6] if most > 1 else [0, 0, 0, 0, 1]))]
        entries.append(an_action(rng, choices) | {"args": [condition(rng, index) for index in indices]})
    return entries


def profile(rng: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {"defaultAction": rng.choice([*DEFAULTS, "SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO"])}
    if found["defaultAction"] in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") and rng.random() < 0.5:
        found["defaultErrnoRet"] = rng.choice([0, 1, 38, 111])
    others = ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    if rng.random() < 0.7:
        found["architectures"] = rng.sample(others, rng.randint(0, 3))
    chosen = rng.sample(names(), rng.choice([0, 1, 3, 10, 40, 150]))
    most = 4 if len(chosen) <= 40 else 1  # or the filter is too long for the kernel
    found["syscalls"] = [
        {"names": [name], **rule} for name in chosen if name != "execve" for rule in rules_of(rng, most)
    ]
    rng.shuffle(found["syscalls"])
    if any(rule["action"] == "SCMP_ACT_NOTIFY" for rule in found["syscalls"]):
        found["listenerPath"] = "/run/agent"
    if rng.random() < 0.3:
        found["syscalls"].append({"names": ["no_such_call", "brk"], **an_action(rng, ["SCMP_ACT_ALLOW"])})
        found["syscalls"] = [rule for rule in found["syscalls"] if rule["names"] != ["brk"]]
    return found


def point(rng: random.Random, found: dict[str, Any]) -> tuple[int, int, list[int]]:
    """An architecture, a number and arguments: near what the profile names, most of the time."""
    arch = rng.choice(list(FILES))
    audit = AUDIT[arch] if rng.random() < 0.97 else rng.choice([0xC00000B7, 0x40000028, 0])
    known = numbers(arch)
    rules = found["syscalls"]
    rule = rng.choice(rules) if rules and rng.random() < 0.8 else {"names": [rng.choice(names())]}
    number = known.get(rng.choice(rule["names"]), rng.randrange(600))
    if rng.random() < 0.1:
        number = rng.choice([number + 1, number ^ X32, 0, 1 << 29, 0x3FFFFFFF, max(known.values()) + 1, 600])
    width = 64 if arch == "SCMP_ARCH_X86_64" and not number & X32 else 32
    args = [value(rng) % (1 << width) for _ in range(6)]
    for one in rule.get("args", []):
        if rng.random() < 0.8:
            near = rng.choice([one["value"], one["value"] + 1, one["value"] - 1, one.get("valueTwo", 0)])
            if "valueTwo" in one and rng.random() < 0.5:
                near = one["valueTwo"] | (rng.getrandbits(64) & ~one["value"])
            args[one["index"]] = near % (1 << width)
    return audit, number, args


@pytest.mark.parametrize("seed", range(PROFILES))
def test_a_random_profile_is_compiled_to_what_it_means(seed: int) -> None:
    rng = random.Random(seed)
    found = profile(rng)
    program = compile_filter(found, "x86_64", lowers=False, strict=False).program
    for _ in range(POINTS):
        audit, number, args = point(rng, found)
        wanted, got = meaning(found, audit, number, args), run(program, audit, number, args)
        assert got == wanted, f"{number:#x} of {audit:#x} {args}: {got:#x}, not {wanted:#x}: {found}"
