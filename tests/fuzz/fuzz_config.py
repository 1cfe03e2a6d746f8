"""Configurations that are nearly right, through everything that happens before a container is made.

Each is a real config.json (tests/configs, and `ocirt spec`'s) with some values replaced, removed, doubled or moved. It
has to end in one of two ways: an ocirt.errors.Error that says where, or a plan that `verify` and init's decoder accept.
Any other exception, and any plan that either of them refuses, is a finding.

usage: python fuzz_config.py SECONDS [SEED]
"""

from __future__ import annotations

import copy
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from init.hosted import NO_PATCHES, REPLY_APPLIED, Hosted
from plan.cases import HYBRID, ON_HYBRID, ON_V1, ON_V2

from ocirt.config.check import check_meaning
from ocirt.config.read import Config, parse
from ocirt.config.shape import check_shape
from ocirt.errors import ConfigError, PlanError, UnsupportedError
from ocirt.plan.compile import compile_plan
from ocirt.plan.encode import encode
from ocirt.plan.facts import Facts
from ocirt.plan.syscalls import MACHINES
from ocirt.plan.verify import verify
from ocirt.runtime.spec import default_spec

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
STRINGS = [
    "",
    "/",
    ".",
    "..",
    "/..",
    "a",
    "/a/b/../c",
    "a" * 5000,
    "/" * 300,
    "a\0b",
    "é€😀",
    "\ud800",
    "=",
    "A=",
    "=A",
]
STRINGS += ["A=1", "HOME=", "PATH=", "PATH=::", "bind", "rbind", "ro", "mode=755", "tmpfs", "cgroup", "proc", "none"]
STRINGS += [
    "user",
    "mount",
    "pid",
    "cgroup",
    "RLIMIT_NOFILE",
    "CAP_SYS_ADMIN",
    "1.0.2",
    "1.3.0",
    "2.0.0",
    "rwm",
    "c",
    "\n",
]
NUMBERS = [0, 1, -1, 2, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**63 - 1, 2**63]
NUMBERS += [2**64 - 1, 2**64, -(2**31), -(2**63), -(2**63) - 1, 10**30]
OTHERS: list[Any] = [None, True, False, 0.5, 1e308, [], {}, [[]], {"": ""}, [None], ["a"], {"a": 1}]
NAMES = [
    "path",
    "type",
    "source",
    "options",
    "uid",
    "gid",
    "readonly",
    "args",
    "env",
    "hooks",
    "seccomp",
    "sysctl",
    "x",
]
BROKEN = ["", "{", "}", "[", "]", ",", '"', "\\", "\0", "NaN", "-", "1e999", "\ufeff", "[" * 3000, "\\ud800"]
HOSTS: list[dict[str, Any]] = [ON_V1, ON_HYBRID, ON_V2, {"hierarchies": HYBRID}]
CALLERS: list[dict[str, Any]] = [
    {},
    {"permitted": 0},
    {"permitted": 0x5555},
    {"permitted": 0, "unprivileged": True},
    {"permitted": 0, "unprivileged": True, "groups_denied": True, "nested": True},
    {"nested": True, "foreign": ("network",)},
    {"nested": True, "foreign": ("pid", "ipc")},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a document."""
    yield path
    if isinstance(value, dict):
        for key, member in value.items():
            yield from places(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from places(member, (*path, index))


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        document = document[part]
    return document


def new_value(random_: random.Random, old: Any) -> Any:
    """Mostly of the old one's type, because others end at the first check."""
    if random_.random() < 0.6:
        if isinstance(old, str):
            return random_.choice([*STRINGS, old + "x", old[:-1], old + "/..", old * 3, old.upper()])
        if isinstance(old, bool):
            return not old
        if isinstance(old, int):
            return random_.choice([*NUMBERS, old + 1, old - 1])
    return copy.deepcopy(random_.choice([*STRINGS, *NUMBERS, *OTHERS]))


def mutate(random_: random.Random, document: Any, others: list[Any]) -> None:
    """One change somewhere below the top."""
    path = random_.choice([path for path in places(document) if path])
    parent, key = at(document, path[:-1]), path[-1]
    old = parent[key]
    kind = random_.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(old, list):
        count = random_.choice([1, 2, 70])
        old.extend(copy.deepcopy(random_.choice([*old, *OTHERS])) for _ in range(count))
    elif kind == 2 and isinstance(old, dict):
        old[random_.choice(NAMES)] = new_value(random_, random_.choice(list(old.values()) or [0]))
    elif kind == 3:
        other = random_.choice(others)
        source = random_.choice([one for one in places(other) if one])
        parent[key] = copy.deepcopy(at(other, source))
    else:
        parent[key] = new_value(random_, old)


def mutate_text(random_: random.Random, text: str) -> str:
    """What no JSON library would write."""
    start = random_.randrange(len(text) + 1)
    end = min(len(text), start + random_.choice([0, 1, 1, 5, 50]))
    return text[:start] + random_.choice(BROKEN) + text[end:]


def facts_for(random_: random.Random, spec: Any) -> Facts:
    """A made-up host; every source that the configuration has exists on it, and every namespace that it has a path for
    is there to be joined, or the caller's own: what `host.namespaces.open_joined` finds, or refuses before there is a
    plan."""
    sources = {
        mount["source"]: random_.random() < 0.5
        for mount in spec.get("mounts") or ()
        if {"bind", "rbind"} & set(mount.get("options") or ())
    }
    joined, shared = [], []
    for namespace in (spec.get("linux") or {}).get("namespaces") or ():
        if namespace.get("path"):
            random_.choice((joined, shared)).append(namespace["type"])
    return Facts(
        joined=tuple(joined),
        shared=tuple(shared),
        machine=random_.choice(list(MACHINES)),
        directories=sources,
        kept={source: random_.choice([0, 0x1F, 0x87]) for source in sources} if random_.random() < 0.5 else {},
        wait_for_start=random_.random() < 0.5,
        window=random_.choice([None, (24, 80), (65535, 65535)]),
        **random_.choice(CALLERS),
        **random_.choice(HOSTS),
    )


def located(error: ConfigError) -> bool:
    return error.pointer is not None or bool(error.place)


class Fuzzer:
    """Makes and tries configurations; `findings` has what should not have happened."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sources = [json.loads(path.read_text()) for path in sorted(CONFIGS.glob("*.json"))]
        self.sources += [self.supported(source) for source in self.sources] + [default_spec()] * 30
        self.plans: list[tuple[int, bytes, str]] = []
        self.findings: list[str] = []
        self.outcomes: Counter[str] = Counter()

    @staticmethod
    def supported(source: Any) -> Any:
        """The configuration without what is refused by name: so that the compiler sees what engines write."""
        config = copy.deepcopy(source)
        while True:
            try:
                check_shape(config)
                return config
            except UnsupportedError as error:
                assert error.pointer
                *parents, last = error.pointer[1:].replace("~1", "/").replace("~0", "~").split("/")
                parent = config
                for part in parents:
                    parent = parent[int(part) if isinstance(parent, list) else part]
                del parent[int(last) if isinstance(parent, list) else last]

    def make(self) -> str:
        """A configuration's text."""
        document = copy.deepcopy(self.random.choice(self.sources))
        for _ in range(self.random.choice([0, 1, 1, 2, 3, 8])):
            mutate(self.random, document, self.sources)
        text = json.dumps(document)
        return mutate_text(self.random, text) if self.random.random() < 0.1 else text

    def try_one(self, text: str) -> str:
        """How it ended; raises what should not have been raised."""
        try:
            spec = parse(text)
            check_shape(spec)
            config = Config(spec, text, "/bundle")
            check_meaning(config)
            facts = facts_for(self.random, spec)
            plan = compile_plan(config, facts).plan
        except ConfigError as error:
            if not located(error):
                raise AssertionError(f"an error that does not say where: {error}") from error
            if len(str(error).splitlines()) != 1:
                raise AssertionError(f"an error of several lines: {error}") from error
            return type(error).__name__
        except PlanError as error:
            # More steps or registers than a plan holds: a limit, if it says where.
            if not located(error):  # type: ignore[arg-type]
                raise
            return "PlanError"
        verify(plan)
        try:
            content = encode(plan).content
        except PlanError as error:
            if "more than" not in error.message and "larger than" not in error.message:
                raise
            return "too large"
        self.plans.append((MACHINES[facts.machine][0], content, text))
        return "plan"

    def step(self) -> None:
        text = self.make()
        try:
            self.outcomes[self.try_one(text)] += 1
        except Exception:
            self.outcomes["finding"] += 1
            self.findings.append(f"{traceback.format_exc()}\n{text[:2000]}")

    def judge(self, hosted: Hosted) -> None:
        """Every plan so far has to be valid for init."""
        for machine in {machine for machine, _, _ in self.plans}:
            mine = [(content, text) for other, content, text in self.plans if other == machine]
            verdicts = hosted.judge([(content, NO_PATCHES) for content, _ in mine], machine)
            self.findings += [
                f"init refuses this plan\n{text[:2000]}"
                for (_, text), verdict in zip(mine, verdicts, strict=True)
                if verdict != REPLY_APPLIED
            ]
        self.plans.clear()


def fuzz(seconds: float, seed: int, folder: Path) -> Fuzzer:
    """Try configurations for some seconds, or up to ten findings."""
    hosted = Hosted(folder)
    fuzzer = Fuzzer(seed)
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(fuzzer.findings) < 10:
        for _ in range(20):
            fuzzer.step()
        if len(fuzzer.plans) > 100:
            fuzzer.judge(hosted)
    fuzzer.judge(hosted)
    return fuzzer


def main() -> int:
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)
    print(f"fuzz_config.py {seconds:g} {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = fuzz(seconds, seed, Path(folder))
    print(", ".join(f"{count} × {outcome}" for outcome, count in fuzzer.outcomes.most_common()))
    for finding in fuzzer.findings:
        print(f"--- finding\n{finding}")
    return 1 if fuzzer.findings else 0


if __name__ == "__main__":
    sys.exit(main())
