"""Eight at once, with random commands on the same containers: each ends, says what it may say, and fits the model.

$OCIRT_FAULTS=all: 50 containers for two minutes, with a seed of the moment, which is printed; else a few, with a fixed
seed.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import threading
import time

import pytest
from checking import ALL
from life_model import ALWAYS, Op, explained, judged
from support import Bundle, Runtime, traces

pytestmark = pytest.mark.root
WORKERS = 8
CONTAINERS = 50 if ALL else 12
SECONDS = 120 if ALL else 10
PATIENCE = 120.0
"""Seconds in which any command has to end: none waits for anything but its turn."""
WEIGHTS = {
    "create": 6,
    "run": 3,
    "start": 6,
    "kill KILL": 3,
    "kill WINCH": 2,
    "pause": 3,
    "resume": 4,
    "delete": 4,
    "delete --force": 2,
    "exec": 3,
    "update": 2,
    "ps": 2,
    "state": 8,
    "list": 1,
}
LINE = re.compile(r"ocirt: [^\n]+\n")


class Life:
    """Commands on containers, and what has come of them."""

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.history: dict[str, list[Op]] = {f"c{number}": [] for number in range(CONTAINERS)}
        self.wrong: list[str] = []
        self.over = time.monotonic() + SECONDS

    def words(self, verb: str, name: str) -> list[str]:
        bundle = ["--bundle", str(self.bundle.path)]
        return {
            "create": ["create", *bundle, name],
            "run": ["run", "--detach", *bundle, name],
            "kill KILL": ["kill", name, "KILL"],
            "kill WINCH": ["kill", name, "WINCH"],
            "delete --force": ["delete", "--force", name],
            "exec": ["exec", name, "true"],
            "update": ["update", "--pids-limit", "50", name],
            "ps": ["ps", "--format", "json", name],
            "list": ["list", "--format", "json"],
        }.get(verb, [verb, name])

    def act(self, verb: str, name: str) -> None:
        words = self.words(verb, name)
        begin = time.monotonic()
        try:
            done = self.runtime(*words, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.wrong.append(f"it does not end: {words}")
            return
        end = time.monotonic()
        if done.code and not (done.code in (1, 255) and LINE.fullmatch(done.err) and "defect" not in done.err):
            self.wrong.append(f"{words}: {done}")
        if not done.code and done.err:
            self.wrong.append(f"{words}: {done}")
        shown = ""
        if verb == "list":
            statuses = {one["status"] for one in json.loads(done.out)} if not done.code else {"no list"}
            if not statuses <= ALWAYS:
                self.wrong.append(f"list: {statuses}")
            return
        if verb == "state":
            shown = json.loads(done.out)["status"] if done.code == 0 else "absent"
            if shown not in ALWAYS or (done.code and "does not exist" not in done.err):
                self.wrong.append(f"state: {done}")
        self.history[name].append(Op(verb, begin, end, done.code == 0, shown, done.err.strip()))

    def work(self, seed: str) -> None:
        chance = random.Random(seed)
        verbs, weights = list(WEIGHTS), list(WEIGHTS.values())
        while time.monotonic() < self.over:
            number = chance.randrange(CONTAINERS)
            verb = chance.choices(verbs, weights)[0]
            # What is put into a container that is paused in this moment would wait: some are never paused.
            if number % 2 and verb in ("pause", "resume"):
                continue
            if not number % 2 and verb == "exec":
                continue
            try:
                self.act(verb, f"c{number}")
            except Exception as error:
                self.wrong.append(f"{verb} {number}: {error!r}")


def test_random_commands_at_the_same_time_do_what_the_model_says(runtime: Runtime, rich_bundle: Bundle) -> None:
    rich_bundle.config["process"]["args"] = ["sleep", "1000"]
    rich_bundle.write()
    seed = str(time.time_ns()) if ALL else "fixed"
    before = traces(runtime.root)
    life = Life(runtime, rich_bundle)
    workers = [threading.Thread(target=life.work, args=(f"{seed} {number}",)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    names = list(life.history)
    for name in names:
        life.act("state", name)
        life.act("delete --force", name)
    count = sum(map(len, life.history.values()))
    print(f"seed {seed}: {count} commands on {CONTAINERS} containers, {len(life.wrong)} wrong")
    assert not life.wrong, "\n".join(life.wrong)
    for name in names:
        ops = judged(life.history[name])
        wrong = explained(ops)
        near = "\n".join(str(op) for op in ops if wrong and abs(op.begin - wrong.begin) < 2)
        assert wrong is None, f"seed {seed}, {name}: no order explains {wrong}; around it:\n{near}"
    after = traces(runtime.root)
    assert after == before
    assert count > CONTAINERS * 3 and os.listdir(runtime.root) == []


def test_the_model_refuses_what_cannot_be() -> None:
    def history(*steps: tuple[str, float, float, bool, str]) -> list[Op]:
        return [Op(verb, begin, end, done, shown, "") for verb, begin, end, done, shown in steps]

    create, start = ("create", 0.0, 1.0, True, ""), ("start", 2.0, 3.0, True, "")
    assert explained(history(create, start, ("state", 4.0, 5.0, True, "running"))) is None
    wrong = explained(history(create, start, ("state", 4.0, 5.0, True, "created")))
    assert wrong and wrong.verb == "state"
    assert explained(history(create, create)) is not None, "twice"
    assert explained(history(create, ("create", 0.5, 0.9, False, ""))) is None
    assert explained(history(("start", 0.0, 1.0, True, ""))) is not None, "nothing was there"
    # Whichever of two at the same time was first.
    pair = (("delete", 2.0, 4.0, True, ""), ("start", 3.0, 5.0, True, ""))
    assert explained(history(create, *pair)) is not None, "either fails after the other"
    assert explained(history(create, pair[0], ("start", 3.0, 5.0, False, ""))) is None
