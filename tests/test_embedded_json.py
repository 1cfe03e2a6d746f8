"""The executable's own `_json` (launcher/json.c) does what Python's does, errors included."""

from __future__ import annotations

import _json
import importlib.util
import random
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from init.running import need
from support import REPOSITORY

PIECES = r"""{ } [ ] , : " \ "a" "b" "\u00e9" "\ud83d\ude00" "\ud83d" \u12 1 - 0 12 -3.5 1e5 1E+ .5 null true fals NaN
 Infinity -Infinity é 😀 "xy" \n \x 12345678901234567890 -0 00 1. {"a":1} [1,2] {"a":[1,{"b":null}],"a":2}""".split()
PIECES += ["\x01", "\\ud83d", "\\ude0z", "\\u1212", " ", "\n", "\t", "\r", '"x y"']


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Ours as a shared library, loaded into this Python."""
    need("gcc", packages="gcc")
    library = tmp_path_factory.mktemp("json") / "_json.so"
    source = REPOSITORY / "ocirt" / "launcher" / "json.c"
    words = ["gcc", "-std=c11", "-O2", "-shared", "-fPIC", "-isystem", sysconfig.get_path("include")]
    subprocess.run([*words, "-o", library, source], check=True)
    return load(library)


def load(library: Path) -> Any:
    spec = importlib.util.spec_from_file_location("_json", library)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Plain:
    strict = True
    object_hook: Any = None
    object_pairs_hook: Any = None
    parse_float: Any = float
    parse_int: Any = int
    memo: dict[str, str] = {}  # noqa: RUF012

    @staticmethod
    def parse_constant(name: str) -> object:
        return "constant", name


class Pairs(Plain):
    object_pairs_hook = staticmethod(lambda pairs: ("pairs", pairs))


class Hooks(Plain):
    strict = False
    object_hook = staticmethod(lambda members: ("object", members))
    parse_int = staticmethod(lambda word: ("int", word))
    parse_float = staticmethod(lambda word: ("float", word))


def outcome(function: Callable[..., object], *args: object) -> tuple[str, str]:
    try:
        return "", repr(function(*args))
    except (ValueError, StopIteration, TypeError, RecursionError) as error:
        return type(error).__name__, str(error)


def test_it_reads_the_same_and_fails_the_same(ours: Any) -> None:
    chance = random.Random(7)
    for _ in range(15000):
        text = "".join(chance.choice(PIECES) for _ in range(chance.randrange(9)))
        for context in (Plain, Pairs, Hooks):
            theirs = outcome(_json.make_scanner(context), text, 0)
            assert outcome(ours.make_scanner(context), text, 0) == theirs, text


def test_how_deep_it_reads_has_a_limit(ours: Any) -> None:
    assert outcome(ours.make_scanner(Plain), "[" * 100_000, 0)[0] == "RecursionError"


def made_up(chance: random.Random, depth: int = 0) -> Any:
    def some() -> list[Any]:
        return [made_up(chance, depth + 1) for _ in range(chance.randrange(4))]

    kind = chance.randrange(10 if depth < 4 else 7)
    if kind < 2:
        return chance.choice((None, True, False, {1}))
    if kind == 2:
        return chance.randrange(-(10 ** chance.randrange(1, 30)), 10**20)
    if kind == 3:
        return chance.choice((1.5, -0.0, 1e300, float("inf"), float("nan"), 3.0))
    if kind < 7:
        return "".join(chance.choice('ab"\\/\n\t\r\b\f\x00\x1f\x7fé😀\ud800 ') for _ in range(chance.randrange(12)))
    if kind < 9:
        return chance.choice((list, tuple))(some())
    return {chance.choice(("a", "b", "ü", 1, None, True, 2.5, (1,))): value for value in some()}


def refuse(value: object) -> object:
    if value == {1}:
        return ["a set"]
    raise TypeError(type(value).__name__)


def test_it_writes_the_same(ours: Any) -> None:
    chance = random.Random(7)
    for _ in range(5000):
        value, options = made_up(chance), [chance.random() < 0.3 for _ in range(3)]
        for markers in (None, {}):
            theirs, mine = (outcome(written, encoder(one, markers, options), value) for one in (_json, ours))
            assert mine == theirs, value


def written(encode: Any, value: object) -> str:
    """Python's gives pieces."""
    return "".join(encode(value, 0))


def encoder(module: Any, markers: dict[int, object] | None, options: list[bool]) -> Any:
    known = None if markers is None else {}
    return module.make_encoder(known, refuse, module.encode_basestring_ascii, None, ": ", ", ", *options)


def test_what_contains_itself_is_refused(ours: Any) -> None:
    value: list[Any] = []
    value.append(value)
    assert outcome(encoder(ours, {}, [False] * 3), value, 0) == ("ValueError", "Circular reference detected")
