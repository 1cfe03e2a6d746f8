"""cgroups.systemd.gvariant: the text form of annotation values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups.systemd.gvariant import Malformed, parse


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("'inactive-or-failed'", "s", "inactive-or-failed"),
        ('"it\'s"', "s", "it's"),
        (r"'a\'b\\\n\t\u00e9\U0001f600'", "s", "a'b\\\n\té\U0001f600"),
        ("true", "b", True),
        (" false ", "b", False),
        ("boolean true", "b", True),
        ("5", "i", 5),
        ("-5", "i", -5),
        ("+5", "i", 5),
        ("0x1F", "i", 31),
        ("010", "i", 8),
        ("0", "i", 0),
        ("1.5", "d", 1.5),
        ("1e3", "d", 1000.0),
        ("double 1", "d", 1.0),
        ("uint64 123", "t", 123),
        ("@t 123", "t", 123),
        ("byte 0xff", "y", 255),
        ("int16 -3", "n", -3),
        ("objectpath '/a'", "o", "/a"),
        ("signature 'as'", "g", "as"),
        ("['a', 'b']", "as", ["a", "b"]),
        ("@as []", "as", []),
        ("@as ['a']", "as", ["a"]),
        ("[1, uint64 2]", "at", [1, 2]),
        ("[1, 2.5]", None, None),
        ("[byte 1, 2]", "ay", b"\x01\x02"),
        ("b'ab'", "ay", b"ab\0"),
        ("(1, 'a', true)", "(isb)", (1, "a", True)),
        ("('a',)", "(s)", ("a",)),
        ("[('/dev/null', 'rwm')]", "a(ss)", [("/dev/null", "rwm")]),
        ("@a(st) [('/dev/sda', 5)]", "a(st)", [("/dev/sda", 5)]),
        ("{'a': 1}", "a{si}", {"a": 1}),
        ("@a{sv} {}", "a{sv}", {}),
        ("{'a': <1>, 'b': <'x'>}", "a{sv}", {"a": ("i", 1), "b": ("s", "x")}),
        ("<<1>>", "v", ("v", ("i", 1))),
        ("[[1], []]", "aai", [[1], []]),
        ("[[], [uint64 1]]", "aat", [[], [1]]),
    ],
)
def test_what_glib_writes_is_read(text: str, signature: str | None, value: Any) -> None:
    if signature is None:  # a whole number and a fraction: one type, the fraction's
        assert parse(text) == ("ad", [1.0, 2.5])
    else:
        assert parse(text) == (signature, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "seven",
        "'a",
        "'a' b",
        "uint64 -1",
        "byte 256",
        "2147483648",
        "uint64 'a'",
        "uint64",
        "[]",
        "{}",
        "()",
        "[1, 'a']",
        "[1",
        "[1,]",
        "(1",
        "{'a'}",
        "{'a': 1, 2: 3}",
        "{[1]: 2}",
        "@",
        "@q",
        "@z 1",
        "@asas []",
        "@a{vs} {}",
        "@() ()",
        "nothing",
        "just 1",
        "handle 1",
        r"'\ud800'",
        r"'\u00'",
        r"'\u0000'",
        "1e999",
        "<1",
        "1-2",
        "--1",
        "'a\\",
        "[" * 1000,
        "@" + "a" * 1000 + "s []",
        "<" * 5000,
    ],
)
def test_what_it_does_not_write_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse(text)


def _kinds() -> st.SearchStrategy[str]:
    return st.recursive(
        st.sampled_from("bynqiuxtdsv"),
        lambda of: st.one_of(
            of.map(lambda one: "a" + one),
            st.lists(of, min_size=1, max_size=3).map(lambda some: "(" + "".join(some) + ")"),
            st.tuples(st.sampled_from("bynqiuxts"), of).map(lambda pair: "a{" + pair[0] + pair[1] + "}"),
        ),
        max_leaves=5,
    )


_SIZES = {"y": (0, 8), "n": (1, 16), "q": (0, 16), "i": (1, 32), "u": (0, 32), "x": (1, 64), "t": (0, 64)}
_NAMES = {"y": "byte", "n": "int16", "q": "uint16", "i": "int32", "u": "uint32", "x": "int64", "t": "uint64"}


def _split(signature: str) -> list[str]:
    """The complete types in a signature."""
    found, at = [], 0
    while at < len(signature):
        start = at
        while signature[at] == "a":
            at += 1
        depth = 0
        while True:
            depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[at], 0)
            at += 1
            if not depth:
                break
        found.append(signature[start:at])
    return found


def _written(kind: str, draw: Any) -> tuple[str, Any]:
    """(text, value) of a random value of a type; each part with its type, as g_variant_print does it on demand."""
    if kind in _SIZES:
        signed, bits = _SIZES[kind]
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        number = draw(st.integers(low, high))
        return f"{_NAMES[kind]} {number}", number
    if kind == "b":
        truth = draw(st.booleans())
        return ("true" if truth else "false"), truth
    if kind == "d":
        fraction = draw(st.floats(allow_nan=False, allow_infinity=False))
        return f"double {fraction!r}", fraction
    if kind == "s":
        word = draw(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6))
        quoted = word.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        return f"'{quoted}'", word
    if kind == "v":
        inner = draw(st.sampled_from(["s", "t", "as", "(bi)"]))
        text, value = _written(inner, draw)
        return f"<{text}>", (inner, value)
    if kind.startswith("a{"):
        key, of = _split(kind[2:-1])
        pairs = {}
        for _ in range(draw(st.integers(0, 2))):
            (key_text, key_value), (text, value) = _written(key, draw), _written(of, draw)
            pairs[key_value] = (f"{key_text}: {text}", value)
        joined = ", ".join(text for text, _ in pairs.values())
        return f"@{kind} {{{joined}}}", {key_value: value for key_value, (_, value) in pairs.items()}
    if kind.startswith("a"):
        items = [_written(kind[1:], draw) for _ in range(draw(st.integers(0, 3)))]
        values = [value for _, value in items]
        return f"@{kind} [{', '.join(text for text, _ in items)}]", bytes(values) if kind == "ay" else values
    items = [_written(one, draw) for one in _split(kind[1:-1])]
    comma = "," if len(items) == 1 else ""
    return f"({', '.join(text for text, _ in items)}{comma})", tuple(value for _, value in items)


@given(st.data())
def test_what_is_written_comes_back(data: st.DataObject) -> None:
    kind = data.draw(_kinds())
    text, value = _written(kind, data.draw)
    signature, found = parse(text)
    assert signature == kind
    assert found == value


@given(st.text("'\"\\[](){}<>@:, abstuv0123456789.-+exnf", max_size=40))
def test_no_text_is_a_surprise(text: str) -> None:
    """It is a value, whose message can be made, or malformed."""
    from jeepney.low_level import Endianness, parse_signature

    try:
        signature, value = parse(text)
    except Malformed:
        return
    if "o" in signature or "g" in signature:
        return  # whose own rules systemd checks
    parse_signature(list(signature)).serialise(value, 0, Endianness.little)


def test_numbers_that_are_words() -> None:
    assert parse("inf") == ("d", math.inf)
    assert math.isnan(parse("nan")[1])
