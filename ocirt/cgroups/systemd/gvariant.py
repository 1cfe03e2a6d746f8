"""GVariant text (GLib's "GVariant Text Format") → a D-Bus signature and value, for annotation values.

D-Bus knows no maybe types: `nothing` and `just` are refused. A type is a tree: "s", ("a", of), ("(", (…)), ("{", key,
value); in what is not yet known, "N" is a number without a type, and "*" anything.
"""

from __future__ import annotations

from math import isfinite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Type: TypeAlias = "str | tuple[Any, ...]"

_INTEGERS = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}
_STRINGS = "sog"
_WORDS = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
    "objectpath": "o",
    "signature": "g",
}
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_DEEPEST = 32
"""D-Bus has this limit for arrays and for structures."""


class Malformed(ValueError):
    """What is wrong with the text, in a few words."""


def parse(text: str) -> tuple[str, Any]:
    """(signature, value) as jeepney takes a variant: lists, tuples, dicts, bytes for `ay` and (signature, value) for a
    variant inside. Raises Malformed."""
    reader = _Reader(text)
    node = reader.value(0)
    reader.space()
    if reader.at < len(text):
        raise Malformed(f"what is {_cut(text[reader.at :])} at its end?")
    kind = _settled(node.type)
    return signature_of(kind), node.as_type(kind)


def signature_of(kind: Type) -> str:
    if isinstance(kind, str):
        return kind
    if kind[0] == "a":
        return "a" + signature_of(kind[1])
    if kind[0] == "{":
        return "{" + signature_of(kind[1]) + signature_of(kind[2]) + "}"
    return "(" + "".join(map(signature_of, kind[1])) + ")"


class _Node:
    """A value whose type may be open still."""

    __slots__ = ("content", "type")

    def __init__(self, kind: Type, content: Any) -> None:
        self.type = kind
        self.content = content

    def as_type(self, kind: Type) -> Any:
        """The value, whose type is by now known. Raises Malformed for a number out of range."""
        content = self.content
        if isinstance(kind, tuple):
            if kind[0] == "(":
                return tuple(one.as_type(of) for one, of in zip(content, kind[1], strict=True))
            if isinstance(content, bytes):
                return content
            if isinstance(content, dict):
                return {key.as_type(kind[1][1]): one.as_type(kind[1][2]) for key, one in content.items()}
            items = [one.as_type(kind[1]) for one in content]
            return bytes(items) if kind[1] == "y" else items
        if kind in _INTEGERS:
            low, high = _INTEGERS[kind]
            if not isinstance(content, int) or not low <= content <= high:
                raise Malformed(f"{content} is not from {low} to {high}")
            return content
        if kind == "d":
            return float(content)
        if kind == "v":
            inner = _settled(content.type)
            return signature_of(inner), content.as_type(inner)
        return content


def _unified(one: Type, other: Type) -> Type:
    """The type that both may have. Raises Malformed."""
    if one == other or other == "*":
        return one
    if one == "*":
        return other
    for number, known in ((one, other), (other, one)):
        if number == "N" and isinstance(known, str) and (known in _INTEGERS or known == "d"):
            return known
        if number == "S" and isinstance(known, str) and known in _STRINGS:
            return known
    if isinstance(one, tuple) and isinstance(other, tuple) and one[0] == other[0]:
        if one[0] == "a":
            return ("a", _unified(one[1], other[1]))
        if one[0] == "{":
            return ("{", _unified(one[1], other[1]), _unified(one[2], other[2]))
        if len(one[1]) == len(other[1]):
            return ("(", tuple(_unified(*pair) for pair in zip(one[1], other[1], strict=True)))
    raise Malformed("the elements of an array have one type")


def _settled(kind: Type) -> Type:
    """What is open, by default: a number is an int32, or a double if it is written as one. Raises Malformed."""
    if isinstance(kind, str):
        if kind == "*":
            raise Malformed('an empty array needs its type, as in "@as []"')
        return {"N": "i", "S": "s"}.get(kind, kind)
    if kind[0] == "(":
        return ("(", tuple(map(_settled, kind[1])))
    return (kind[0], *map(_settled, kind[1:]))


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def peek(self) -> str:
        """The next character, after space; "" at the end."""
        self.space()
        return self.text[self.at : self.at + 1]

    def take(self, wanted: str) -> bool:
        if self.peek() != wanted:
            return False
        self.at += 1
        return True

    def expect(self, wanted: str) -> None:
        if not self.take(wanted):
            raise Malformed(f'expected "{wanted}", got {_cut(self.text[self.at :])}')

    def word(self, more: str = "") -> str:
        """The letters and digits, and `more`, that stand here."""
        start = self.at
        while self.at < len(self.text) and ((one := self.text[self.at]).isalnum() or one in more):
            self.at += 1
        return self.text[start : self.at]

    def value(self, depth: int) -> _Node:
        if depth > _DEEPEST:
            raise Malformed("nested too deeply")
        first = self.peek()
        if first in ("'", '"'):
            return _Node("S", self.quoted())
        if first == "[":
            return self.array(depth)
        if first == "(":
            return self.structure(depth)
        if first == "{":
            return self.dictionary(depth)
        if first == "@":
            self.at += 1
            return self.typed(self.signature(), depth)
        if self.take("<"):
            inner = self.value(depth + 1)
            self.expect(">")
            return _Node("v", inner)
        if first and (first.isdigit() or first in "+-."):
            return self.number()
        return self.named(depth)

    def named(self, depth: int) -> _Node:
        """true, false, a byte string, numbers that are words, or a type's name and a value."""
        start = self.at
        word = self.word()
        if word in ("true", "false"):
            return _Node("b", word == "true")
        if word == "b" and self.text[self.at : self.at + 1] in ("'", '"'):
            return _Node(("a", "y"), self.quoted().encode("utf-8", "surrogateescape") + b"\0")
        if word in ("inf", "nan"):
            return _Node("d", float(word))
        if word in _WORDS:
            return self.typed(_WORDS[word], depth)
        if word in ("nothing", "just", "handle"):
            raise Malformed(f'"{word}" cannot be a property')
        raise Malformed(f"expected a value, got {_cut(self.text[start:])}: a string stands in quotes")

    def typed(self, kind: Type, depth: int) -> _Node:
        node = self.value(depth + 1)
        try:
            node.type = _unified(kind, node.type)
        except Malformed:
            raise Malformed(f"the value is not of the type {signature_of(kind)}") from None
        return node

    def number(self) -> _Node:
        start = self.at
        word = self.word("+-.")
        digits = word.lstrip("+-")
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") and digits.isdecimal() else 10
        try:
            return _Node("N", int(word, base))
        except ValueError:
            pass
        try:
            value = float(word)
        except ValueError:
            raise Malformed(f"expected a number, got {_cut(self.text[start:])}") from None
        if not isfinite(value):
            raise Malformed(f"{word} is out of range")
        return _Node("d", value)

    def quoted(self) -> str:
        """A string in quotes, with C's escapes and \\u, \\U."""
        quote, text = self.text[self.at], self.text
        self.at += 1
        found = []
        while self.at < len(text) and text[self.at] != quote:
            letter = text[self.at]
            self.at += 1
            if letter == "\\":
                letter = self.escaped()
            found.append(letter)
        if self.at >= len(text):
            raise Malformed(f"a string has no closing {quote}")
        self.at += 1
        return "".join(found)

    def escaped(self) -> str:
        letter = self.text[self.at : self.at + 1]
        self.at += 1
        size = {"u": 4, "U": 8}.get(letter)
        if size is None:
            return _ESCAPES.get(letter, letter)
        digits = self.text[self.at : self.at + size]
        self.at += size
        try:
            code = int(digits, 16)
            if len(digits) == size and code and not 0xD800 <= code < 0xE000:
                return chr(code)
        except (ValueError, OverflowError):
            pass
        raise Malformed(f"\\{letter}{digits} is no character")

    def array(self, depth: int) -> _Node:
        self.expect("[")
        items: list[_Node] = []
        while not self.take("]"):
            if items:
                self.expect(",")
            items.append(self.value(depth + 1))
        return _Node(("a", _common(items)), items)

    def structure(self, depth: int) -> _Node:
        self.expect("(")
        items: list[_Node] = []
        while not self.take(")"):
            if items:
                self.expect(",")
                if len(items) == 1 and self.take(")"):  # "(1,)"
                    break
            items.append(self.value(depth + 1))
        if not items:
            raise Malformed("D-Bus has no empty structures")
        return _Node(("(", tuple(one.type for one in items)), items)

    def dictionary(self, depth: int) -> _Node:
        self.expect("{")
        items: dict[_Node, _Node] = {}
        while not self.take("}"):
            if items:
                self.expect(",")
            key = self.value(depth + 1)
            if isinstance(key.type, tuple) or key.type == "v":
                raise Malformed("a dictionary's keys are strings, numbers or booleans")
            self.expect(":")
            items[key] = self.value(depth + 1)
        return _Node(("a", ("{", _common(list(items)), _common(list(items.values())))), items)

    def signature(self) -> Type:
        """The type after an "@"."""
        start = self.at
        while self.at < len(self.text) and not self.text[self.at].isspace():
            self.at += 1
        text = self.text[start : self.at]
        kind, rest = _read_type(text, 0)
        if rest:
            raise Malformed(f'"{text}" is not one type')
        return kind


def _common(nodes: list[_Node]) -> Type:
    kind: Type = "*"
    for node in nodes:
        kind = _unified(kind, node.type)
    return kind


def _read_type(text: str, depth: int) -> tuple[Type, str]:
    """(the first type, what is left). Raises Malformed."""
    first, rest = text[:1], text[1:]
    if first and depth <= _DEEPEST:
        if first in "bynqiuxtdsogv":
            return first, rest
        if first == "a" and rest[:1] == "{":
            key, rest = _read_type(rest[1:], depth + 1)
            kind, rest = _read_type(rest, depth + 1)
            if isinstance(key, str) and key != "v" and rest[:1] == "}":
                return ("a", ("{", key, kind)), rest[1:]
        elif first == "a":
            kind, rest = _read_type(rest, depth + 1)
            return ("a", kind), rest
        elif first == "(":
            kinds: list[Type] = []
            while rest and rest[0] != ")":
                kind, rest = _read_type(rest, depth + 1)
                kinds.append(kind)
            if kinds and rest:
                return ("(", tuple(kinds)), rest[1:]
    raise Malformed(f'"{text}" is no type')


def _cut(text: str) -> str:
    return f'"{text[:20]}…"' if len(text) > 20 else f'"{text}"' if text else "nothing"
