"""The functions of templates, and how Go shows, compares and walks through values."""

from __future__ import annotations

import json as _json
from collections.abc import Callable, Mapping, Sequence

from ocirt.manager.errors import GrammarError


class TemplateError(GrammarError):
    """A template is not written as Go's are, or asks for what is not there."""

    def __init__(self, message: str) -> None:
        super().__init__(f"--format: {message}")


class Missing:
    """A field that is not there. That is false in an if; to print it is an error, as it is with docker."""

    def __init__(self, name: str = "", there: Sequence[str] = ()) -> None:
        self.name = name
        self.there = there

    def error(self) -> TemplateError:
        there = f"; there are {', '.join(self.there)}" if self.there else ""
        return TemplateError(f"there is no .{self.name}{there}")


MISSING = Missing()
NO_VALUE = "<no value>"


def field(value: object, name: str) -> object:
    if isinstance(value, Missing):
        raise value.error() if value.name else TemplateError(f"no .{name} of what is not there")
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        # A struct's fields begin with a capital, what people call their labels mostly does not.
        return Missing(name, [str(key) for key in value]) if name[:1].isupper() else MISSING
    if value is None:
        raise TemplateError(f"no .{name} of nothing")
    raise TemplateError(f"no .{name} of a value that has no fields")


def truth(value: object) -> bool:
    return not isinstance(value, Missing) and bool(value)


def words(value: object) -> str:
    """As Go's %v. Raises TemplateError for a field that is not there."""
    if isinstance(value, Missing):
        if value.name:
            raise value.error()
        return NO_VALUE
    if callable(value):
        return words(value())
    return NO_VALUE if value is None else _inner(value)


def _inner(value: object) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{_inner(key)}:{_inner(value[key])}' for key in sorted(value, key=str))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(_inner(one) for one in value)}]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def entries(value: object) -> list[tuple[object, object]]:
    """(key, value) of what `range` goes through: a map by its sorted keys."""
    if value is None or value is MISSING:
        return []
    if isinstance(value, Missing):
        raise value.error()
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value, key=str)]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    raise TemplateError("range goes through lists and maps only")


def plain(value: object) -> object:
    """What json can write: without functions."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items() if not callable(one)}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, Missing):
        if value.name:
            raise value.error()
        return None
    return value


def json(value: object) -> str:
    """In one line, as Go writes it: no spaces."""
    return _json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Missing):
            raise value.error() if value.name else TemplateError("index of what is not there")
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int):
                raise TemplateError(f"index: {key!r} is not a number")
            if not 0 <= key < len(value):
                raise TemplateError(f"index: {key} is out of range: there are {len(value)}")
            value = value[key]
        elif value is None:
            return ""
        else:
            raise TemplateError("index of what is neither list nor map")
    return value


def _len(value: object) -> int:
    if isinstance(value, (Mapping, list, tuple)):
        return len(value)
    if isinstance(value, str):
        return len(value.encode())
    if value is None:
        return 0
    raise value.error() if isinstance(value, Missing) and value.name else TemplateError("len of what has no length")


def _join(value: object, separator: object = "") -> str:
    if not isinstance(value, (list, tuple)):
        raise TemplateError("join: not a list")
    return str(separator).join(words(one) for one in value)


def _split(text: object, separator: object) -> list[str]:
    return words(text).split(str(separator)) if separator else list(words(text))


def _printf(form: object, *values: object) -> str:
    """%s %v %q %d %x %t %f with width and precision, %%."""
    text, out, rest = str(form), "", list(values)
    while text:
        before, found, text = text.partition("%")
        out += before
        if not found:
            break
        spec = ""
        while text and text[0] in "+-# 0123456789.":
            spec, text = spec + text[0], text[1:]
        verb, text = text[:1], text[1:]
        if verb == "%":
            out += "%"
            continue
        if not rest:
            out += f"%!{verb}(MISSING)"
            continue
        out += _formatted(spec, verb, rest.pop(0))
    if rest:
        out += f"%!(EXTRA {', '.join(words(one) for one in rest)})"
    return out


def _formatted(spec: str, verb: str, value: object) -> str:
    if verb in ("s", "v", "t"):
        return f"%{spec}s" % words(value)
    if verb == "q":
        return f"%{spec}s" % _json.dumps(words(value), ensure_ascii=False)
    if verb in ("d", "x", "X", "o", "f", "g", "e"):
        if verb == "x" and isinstance(value, str):
            return value.encode().hex()
        try:
            return f"%{spec}{verb}" % value
        except TypeError:
            return f"%!{verb}({words(value)})"
    raise TemplateError(f"printf: %{verb} is not known")


def _print(*values: object) -> str:
    return "".join(words(one) for one in values)


def _println(*values: object) -> str:
    return " ".join(words(one) for one in values) + "\n"


def _order(compare: Callable[[object, object], bool]) -> Callable[[object, object], bool]:
    def function(left: object, right: object) -> bool:
        for one in (left, right):
            if isinstance(one, Missing) and one.name:
                raise one.error()
        if type(left) is not type(right):
            raise TemplateError("values of two kinds are compared")
        return compare(left, right)

    return function


def _equal(left: object, *others: object) -> bool:
    for one in (left, *others):
        if isinstance(one, Missing) and one.name:
            raise one.error()
    return any(left == one and isinstance(left, bool) == isinstance(one, bool) for one in others)


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, (str, list, tuple)) or not all(isinstance(one, int) for one in bounds) or len(bounds) > 2:
        raise TemplateError("slice: of a text or list, from, to")
    numbers = [one for one in bounds if isinstance(one, int)]
    begin, end = [*numbers, *(0, len(value))[len(numbers) :]]
    if not 0 <= begin <= end <= len(value):
        raise TemplateError("slice: out of range")
    return value[begin:end]


def _pad(value: object, before: object, after: object) -> str:
    return " " * int(str(before)) + words(value) + " " * int(str(after)) if words(value) else words(value)


TABLE: dict[str, Callable[..., object]] = {
    "json": json,
    "index": index,
    "len": _len,
    "join": _join,
    "split": _split,
    "upper": lambda value: words(value).upper(),
    "lower": lambda value: words(value).lower(),
    "title": lambda value: words(value).title(),
    "printf": _printf,
    "print": _print,
    "println": _println,
    "eq": _equal,
    "ne": lambda left, right: not _equal(left, right),
    "lt": _order(lambda left, right: left < right),  # type: ignore[operator]
    "le": _order(lambda left, right: left <= right),  # type: ignore[operator]
    "gt": _order(lambda left, right: left > right),  # type: ignore[operator]
    "ge": _order(lambda left, right: left >= right),  # type: ignore[operator]
    "not": lambda value: not truth(value),
    "and": lambda *values: values[-1],
    "or": lambda *values: values[-1],
    "slice": _slice,
    "pad": _pad,
    "truncate": lambda value, most: words(value)[:most],
}
"""Go's and docker's. `and` and `or` are evaluated by the template itself."""
