"""For a program that makes many containers: what was checked, compiled and proved once is not done again.

Two things are remembered, each by all that it was made from, so that nothing is ever out of date. A configuration by
its text. A plan by the configuration's text, the bundle's folder and every fact about this host and this call that a
plan may depend on; these are gathered anew for each container. A plan that is found here is one that `verify` has
passed for exactly the same. The container's id and cgroups are no part of it: a plan has them in strings that may say
anything, which are filled in afterwards (step.Own).
"""

from __future__ import annotations

import marshal
import threading
from typing import Any, Generic, TypeVar

from ocirt.config.load import checked, found
from ocirt.config.read import Config
from ocirt.plan.compile import compile_plan
from ocirt.plan.encode import Encoded, encode
from ocirt.plan.facts import Facts, Filter, Hierarchy
from ocirt.plan.scope import Compiled
from ocirt.plan.verify import verify
from ocirt.runtime.creation import Creation

Value = TypeVar("Value")

MOST = 4 << 20
"""Bytes that each of the two memories holds at most, roughly."""
_BYTES_A_STEP = 400
"""Of a plan's step with its arguments."""
_ROOM = 64


class Memory(Generic[Value]):
    """Values by keys; those that were asked for last, up to `most` bytes in all. Any thread may use it."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.size = 0
        self._values: dict[Any, tuple[Value, int]] = {}
        self._lock = threading.Lock()

    def get(self, key: object) -> Value | None:
        with self._lock:
            entry = self._values.pop(key, None)
            if entry is None:
                return None
            self._values[key] = entry  # the last to go
            return entry[0]

    def put(self, key: object, value: Value, size: int) -> None:
        """size: bytes that it takes. One that is larger than all may be is not kept."""
        if size > self.most:
            return
        with self._lock:
            replaced = self._values.pop(key, None)
            self.size += size - (replaced[1] if replaced else 0)
            self._values[key] = value, size
            while self.size > self.most:
                self.size -= self._values.pop(next(iter(self._values)))[1]

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self.size = 0


configs: Memory[tuple[bytes, tuple[str, ...]]] = Memory()
"""A configuration's text → (its value, marshalled, for a container's may be changed; warnings)."""
plans: Memory[tuple[Compiled, Encoded]] = Memory()


class RememberingCreation(Creation):
    """A container being made in a process that makes others like it."""

    def _load(self, bundle: str, file: str | None, text: str | None) -> Config:
        text, folder, path = found(bundle, file, text)
        known = configs.get(text)
        if known:
            config = Config(marshal.loads(known[0]), text, folder, path)
            config.warnings += known[1]
            return config
        config = checked(text, folder, path)
        value = marshal.dumps(config.spec)
        configs.put(text, (value, tuple(config.warnings)), len(text) + len(value))
        return config

    def _plan(self) -> tuple[Compiled, Encoded]:
        if self.config.added:  # it says more than its text
            return super()._plan()
        facts = anonymous(self.facts)
        key = self.config.text, self.config.bundle, *map(_hashable, (getattr(facts, name) for name in Facts.__slots__))
        known = plans.get(key)
        if known is None:
            compiled = compile_plan(self.config, facts)
            verify(compiled.plan)
            known = compiled, encode(compiled.plan)
            size = len(self.config.text) + len(known[1].content) + _BYTES_A_STEP * len(compiled.plan.steps)
            plans.put(key, known, size)
        compiled, encoded = known
        own = self.facts.own()
        return compiled, encoded.of_another({one: own[name] for name, one in compiled.plan.owned.items()})


def anonymous(facts: Facts) -> Facts:
    """The same facts of a container that nobody has, whose names are as long as this one's, or longer: what is compiled
    from these depends on nothing else, and has room for the names."""
    same = Facts()
    for name in Facts.__slots__:
        setattr(same, name, getattr(facts, name))
    same.container_id = _room(facts.container_id)
    same.hierarchies = tuple(
        Hierarchy(one.name, one.options, _room(one.source, f"{index}-"), one.v2)
        for index, one in enumerate(facts.hierarchies)
    )
    return same


def _room(name: str, begin: str = "") -> str:
    """Of a length that many have; with another beginning it is another."""
    return begin.ljust(len(name.encode("utf-8", "surrogateescape")) // _ROOM * _ROOM + _ROOM, "x")


def _hashable(fact: Any) -> object:
    if isinstance(fact, dict):
        return tuple(fact.items())
    if isinstance(fact, Filter):
        return fact.program, fact.flags, fact.warnings, fact.blocks
    if isinstance(fact, tuple) and fact and isinstance(fact[0], Hierarchy):
        return tuple((one.name, one.options, one.source, one.v2) for one in fact)
    return fact
