"""Where in the text of a JSON document a value stands. Only errors need it, so it is written for clarity."""

from __future__ import annotations

import json

from ocirt.errors import ConfigError


def syntax_error(text: str) -> ConfigError:
    """Why the C scanner refused `text`: with "LINE:COLUMN" as its place."""
    if not text.strip():
        return ConfigError("not JSON: the file is empty", place="1:1")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return ConfigError(f"not JSON: {error.msg}", place=f"{error.lineno}:{error.colno}")
    except (RecursionError, ValueError):
        pass  # nested too deeply, or a number of thousands of digits: the finder says where
    finder = _Finder(text)
    try:
        finder.walk()
    except RecursionError:
        return ConfigError("not usable JSON: nested too deeply", place=finder.place())
    except ValueError as error:
        return ConfigError(f"not usable JSON: {error}", place=finder.place())
    if finder.duplicate:
        at, pointer, key = finder.duplicate
        line, column = _line_and_column(text, at)
        return ConfigError(
            f'the key "{key}" stands twice in one object', pointer=pointer, place=f"{line}:{column}", hint="remove one"
        )
    return ConfigError("not JSON", place="1:1")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _integer(digits: str) -> int:
    if len(digits) > 1000:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


class Places:
    """Where the values of one JSON text stand; none is known if the text is not JSON."""

    def __init__(self, text: str) -> None:
        self._text = text
        finder = _Finder(text)
        try:
            finder.walk()
        except (ValueError, IndexError, RecursionError):
            finder.places = {}
        self._offsets = finder.places

    def of(self, pointer: str) -> tuple[int, int]:
        """(line, column), from 1, of the value at `pointer` (a member: of its key), or of the nearest value around it;
        (0, 0) if nothing is known."""
        while pointer not in self._offsets:
            if "/" not in pointer:
                return 0, 0
            pointer = pointer.rpartition("/")[0]
        return _line_and_column(self._text, self._offsets[pointer])


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


class _Finder:
    """Walks a JSON text and notes where each value begins (objects' members: where their key does)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.places: dict[str, int] = {}
        self.duplicate: tuple[int, str, str] | None = None
        self.decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)
        self.at = 0

    def place(self) -> str:
        """LINE:COLUMN of the value that the walk came to last."""
        line, column = _line_and_column(self.text, self.at)
        return f"{line}:{column}"

    def walk(self) -> None:
        at = self._space(0)
        self.places[""] = at
        self._value(at, "")

    def _space(self, at: int) -> int:
        while self.text[at] in " \n\t\r":
            at += 1
        return at

    def _value(self, at: int, pointer: str) -> int:
        """Note what is inside the value at `at`; returns where it ends."""
        self.at = at
        opening = self.text[at]
        if opening == "{":
            return self._members(at, pointer, closing="}")
        if opening == "[":
            return self._members(at, pointer, closing="]")
        return self.decoder.raw_decode(self.text, at)[1]

    def _members(self, at: int, pointer: str, closing: str) -> int:
        at = self._space(at + 1)
        seen: set[str] = set()
        count = 0
        while self.text[at] != closing:
            start = at
            if closing == "}":
                name, at = self.decoder.raw_decode(self.text, at)
                if name in seen and not self.duplicate:
                    self.duplicate = (start, pointer, name)
                seen.add(name)
                at = self._space(self._space(at) + 1)  # over the colon
            else:
                name = str(count)
            here = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            self.places.setdefault(here, start)
            at = self._space(self._value(at, here))
            count += 1
            if self.text[at] == ",":
                at = self._space(at + 1)
        return at + 1
