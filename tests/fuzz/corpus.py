"""Write the seeds of the decoder's fuzzer: real plans with replies, and small ones that it can change fast.

usage: python corpus.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from struct import pack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from init.hosted import NO_PATCHES, reply
from plan.cases import CASES, compile_case

from ocirt.plan.encode import encode
from ocirt.plan.step import Buffer, Field, Label, Plan, Slot, Vector


def small_plan() -> Plan:
    """One of everything that the decoder looks at, in a few hundred bytes."""
    plan = Plan("x86_64", control=3)
    done = Label()
    where = Buffer(16)
    plan.clone(0)
    fd = plan.open("fd", "openat", -100, "/", 0, ignore=(2, 13), fail=done, log=True)
    plan.send_descriptor(fd, 1)
    plan.call("getcwd", where, 16, ok=done)
    plan.expect(Field(where, 2), 47, width=1, errno=2)
    plan.place(done)
    plan.sync(1)
    plan.wait(plan.open("words", "mmap", 0, 4096, 3, 1, 4, 0), plan.load("number", 1), 5)
    plan.channel(plan.load("value", "x"))
    plan.call("execve", "/x", Vector(["x"]), Vector(["A=1", Slot("H=", 8)]))
    return plan


def seeds() -> dict[str, bytes]:
    """name → input: plan, reply, and the reply's length."""
    made = {}
    plans = {name: compile_case(name).plan for name in CASES} | {"small": small_plan()}
    for name, plan in plans.items():
        encoded = encode(plan)
        replies = {"empty": NO_PATCHES}
        for at, size in encoded.slots.values():
            replies["filled"] = reply((at, b"/root"), (at + size, b""))
        if name == "small":
            replies["wrong"] = reply((0, b"x"))
        for kind, answer in replies.items():
            made[f"{name}-{kind}"] = encoded.content + answer + pack("<H", len(answer))
    return made


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds().items():
        (folder / name).write_bytes(content)
