"""config.json against the schema of the specification: every problem at once, in the words of `load`'s own errors.

Only `ocirt check` imports this: jsonschema alone takes longer to load than a container takes to start.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from ocirt.config.shape import Missing, pointer_to, shown
from ocirt.errors import Error, bounded, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from jsonschema.exceptions import ValidationError

ERROR = "error"
WARNING = "warning"

_TYPES = {
    "string": "a string",
    "integer": "an integer",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
}


class Problem:
    """One thing that is wrong, or (level "warning") probably not meant so.

    code      "schema", "config", "unsupported", … (an Error's code)
    line, column   in config.json, from 1; 0 if they are not known
    expected, got   "" where the message says it all
    """

    def __init__(
        self,
        level: str,
        pointer: str | None,
        message: str,
        *,
        expected: str = "",
        got: str = "",
        hint: str = "",
        code: str = "schema",
    ) -> None:
        self.level = level
        self.pointer = pointer
        self.message = message
        self.expected = expected
        self.got = got
        self.hint = hint
        self.code = code
        self.line = 0
        self.column = 0

    def __str__(self) -> str:
        text = ": ".join(bounded(part) for part in (self.pointer, self.message) if part)
        return printable(f"{text} ({self.hint})" if self.hint else text)

    def document(self) -> dict[str, Any]:
        """For `check --json`."""
        names = ("level", "code", "pointer", "line", "column", "message", "expected", "got", "hint")
        return {name: getattr(self, name) for name in names}


@cache
def schema() -> dict[str, Any]:
    """The schema that is installed with ocirt."""
    import json

    path = __file__.rpartition("/config/")[0] + "/schemas/config.schema.json"
    try:
        # Not open(): in the one file (`make dist`) it is inside the executable.
        content: dict[str, Any] = json.loads(__spec__.loader.get_data(path))  # type: ignore[union-attr]
    except OSError as error:
        raise Error(f"cannot read {path}: {error.strerror}", hint="ocirt is not completely installed") from None
    return content


def schema_problems(spec: object) -> list[Problem]:
    """Every way in which a parsed config.json differs from the schema."""
    from jsonschema import Draft202012Validator

    problems: dict[str | None, Problem] = {}  # one for each value: of a wrong type it breaks other rules as well
    for error in Draft202012Validator(schema()).iter_errors(spec):
        problem = _problem(error)
        problems.setdefault(problem.pointer, problem)
    return [*problems.values(), *_unknown_properties(spec, schema(), ())]


def meant(word: str, known: Iterable[str]) -> str:
    """ "did you mean …?", if one of the known words is near, else ""."""
    known = list(known)
    folded = {one.casefold(): one for one in known}
    near = get_close_matches(word.casefold(), folded, 1, 0.7)
    return f"did you mean {folded[near[0]]}?" if near else ""


def _problem(error: ValidationError) -> Problem:
    path: list[str | int] = list(error.absolute_path)
    value: object = error.instance
    rule = error.validator
    if rule in ("required", "dependentRequired"):
        # The missing name is in the message alone: 'x' is a required property, 'x' is a dependency of 'y'.
        path.append(error.message.split("'")[1])
        return _mismatch(path, "a value: this property is required", Missing)
    if "propertyNames" in error.absolute_schema_path:
        path.append(str(value))
    if rule == "type":
        if value is None and path and error.validator_value in ("array", "object"):
            message = f"null stands for {'no entries' if error.validator_value == 'array' else 'nothing'}"
            hint = "the specification has no null: leave the property out"
            expected = _TYPES[error.validator_value]
            return Problem(WARNING, pointer_to(path), message, expected=expected, got="null", hint=hint)
        return _mismatch(path, _TYPES.get(str(error.validator_value), str(error.validator_value)), value)
    if rule == "enum":
        return _unknown_value(path, error, str(value))
    if rule == "anyOf":  # all of ours are about which properties are there
        return _mismatch(path, _expected(error, path), Missing)
    return _mismatch(path, _expected(error, path), value)


def _mismatch(path: list[str | int], expected: str, value: object) -> Problem:
    got = shown(value)
    if expected.startswith("!"):
        return Problem(ERROR, pointer_to(path), expected[1:], expected="at least one entry", got=got)
    return Problem(ERROR, pointer_to(path), f"expected {expected}, got {got}", expected=expected, got=got)


def _unknown_value(path: list[str | int], error: ValidationError, value: str) -> Problem:
    definition = error.schema if isinstance(error.schema, dict) else {}
    known = [str(one) for one in definition["enum"] if one]
    title = definition.get("title", "value")
    listed = "one of " + ", ".join(known)
    hint = meant(value, known) or listed
    return Problem(ERROR, pointer_to(path), f'unknown {title} "{value}"', expected=listed, got=f'"{value}"', hint=hint)


def _expected(error: ValidationError, path: list[str | int]) -> str:
    """What the rule wants, in words; with "!" first, the whole message."""
    rule, wanted = error.validator, error.validator_value
    definition = error.schema if isinstance(error.schema, dict) else {}
    if rule in ("minimum", "maximum"):
        return f"an integer from {definition.get('minimum', '-∞')} to {definition.get('maximum', '∞')}"
    if rule == "minItems" and wanted == 1:
        return f"!{path[-1]} must not be empty"
    if title := definition.get("title"):
        return str(title)
    return f"a value of {rule} {wanted}"


def _unknown_properties(value: object, definition: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[Problem]:
    """Unknown properties are to be ignored, but one that is nearly a known one is probably a slip."""
    definition = _resolved(definition)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_properties(item, definition.get("items", {}), (*path, index))
    if not isinstance(value, dict):
        return
    known: dict[str, Any] = definition.get("properties", {})
    others = definition.get("additionalProperties", {})
    for name, item in value.items():
        here = (*path, name)
        if name in known:
            yield from _unknown_properties(item, known[name], here)
        elif others:
            yield from _unknown_properties(item, others, here)
        elif known and (hint := meant(name, set(known) - set(value))):
            message = f'unknown property "{name}": ignored'
            yield Problem(WARNING, pointer_to(list(here)), message, got=f'"{name}"', hint=hint)


def _resolved(definition: dict[str, Any]) -> dict[str, Any]:
    while reference := definition.get("$ref"):
        definition = schema()["$defs"][reference.rpartition("/")[2]]
    return definition
