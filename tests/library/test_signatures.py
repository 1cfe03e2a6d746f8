"""ocirt.aio has what ocirt has, with the same parameters: neither can be changed alone."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from ocirt import aio
from ocirt.library import container as blocking

BOUNDED = {"wait", "communicate"}
"""Have a timeout when they block; for a coroutine asyncio has it."""


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers_static(kind) if not name.startswith("_")}


def parameters(kind: type, name: str) -> list[tuple[str, object, object, object]]:
    found = inspect.signature(getattr(kind, name)).parameters.values()
    return [
        (one.name, one.kind, one.default, one.annotation)
        for one in found
        if not (name in BOUNDED and one.name == "timeout")
    ]


@pytest.mark.parametrize("name", ["Container", "Process"])
def test_methods_have_the_same_parameters(name: str) -> None:
    ours, theirs = getattr(aio, name), getattr(blocking, name)
    compared = 0
    for method, value in public(theirs).items():
        if not isinstance(value, property) and callable(getattr(theirs, method)) and method in public(ours):
            assert parameters(ours, method) == parameters(theirs, method), method
            compared += 1
    assert compared >= {"Container": 14, "Process": 4}[name]


def test_nothing_is_missing() -> None:
    assert set(public(blocking.Container)) - set(public(aio.Container)) == {"fileno"}
    assert set(public(aio.Container)) - set(public(blocking.Container)) == {"id"}  # an attribute, set when it is made


def test_no_parameter_is_just_anything() -> None:
    for kind in (aio.Container, blocking.Container, aio.Process, blocking.Process):
        for method, value in public(kind).items():
            if isinstance(value, property):
                continue
            for one in inspect.signature(getattr(kind, method)).parameters.values():
                assert one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL), (kind, method)
                assert one.name == "self" or one.annotation not in (one.empty, "Any"), (kind, method, one.name)


def test_create_and_run_take_the_same() -> None:
    for kind in (aio.Container, blocking.Container):
        assert parameters(kind, "run") == parameters(kind, "create")
