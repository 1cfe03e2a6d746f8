"""What the schema refuses, load refuses: at the same place, whatever the value is, and with no other exception."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
from full_config import FULL
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from jsonschema import Draft202012Validator
from test_coverage import properties

from ocirt.config.check import check_meaning
from ocirt.config.read import Config
from ocirt.config.schema import ERROR, schema, schema_problems
from ocirt.config.seccomp import check_seccomp
from ocirt.config.shape import check_shape, pointer_to
from ocirt.errors import ConfigError

Path = tuple[str | int, ...]
OTHER_PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd", "commandLine", "username")
"""Unknown to us, and ignored whatever they are."""


def load(document: Any) -> None:
    """As ocirt.config.load does it, and with what is looked at only when a filter is compiled."""
    check_shape(document)
    check_meaning(Config(document, "", "/bundle"))
    if document["linux"].get("seccomp"):
        check_seccomp(document["linux"]["seccomp"], lowers=True)


def resolved(definition: dict[str, Any]) -> dict[str, Any]:
    while reference := definition.get("$ref"):
        definition = {**schema()["$defs"][reference.removeprefix("#/$defs/")], "title": definition.get("title")}
    return definition


def places(value: Any, definition: dict[str, Any], path: Path = ()) -> dict[Path, dict[str, Any]]:
    """Where each value of a document is, and what the schema says of it."""
    definition = resolved(definition)
    found = {path: definition} if path else {}
    named, free = definition.get("properties", {}), definition.get("additionalProperties", {})
    if isinstance(value, dict):
        for key, member in value.items():
            if key not in OTHER_PLATFORMS:
                found |= places(member, named.get(key, free), (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            found |= places(member, definition["items"], (*path, index))
    return found


PLACES = places(FULL, schema())
TEXTS = ("", "0", "1", "true", "null", "a", "/a", "SCHED_other", "RLIMIT_CORE ", "2mb", "a\nb", "=", "0-")
NUMBERS = (-(2**63) - 1, -1001, -21, -1, 0, 1, 8, 512, 1001, 10**9, 2**16, 2**32 - 1, 2**32, 2**63, 2**64, 10**30)
ODD = (None, True, False, 1.0, -0.5, *TEXTS, *NUMBERS, [], [1], ["a"], [None], {}, {"a": 1})
ANYTHING: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def with_value(holder: Any, path: Path, value: Any) -> Any:
    """The document with another value at one place; no two places share what is there."""
    changed = copy.copy(holder)
    changed[path[0]] = with_value(holder[path[0]], path[1:], value) if path[1:] else value
    return changed


def is_refused(path: Path, value: Any) -> bool:
    """By the schema, for itself. null stands for an absent array or object (shape.py), but for no entry of a list."""
    definition = PLACES[path]
    if value == {} and path == ("linux", "seccomp"):  # as runc has it, no filter
        return False
    if definition["type"] in ("array", "object"):
        if value is None:
            return not isinstance(path[-1], str)
        if type(value) in (list, dict) and value:  # refused for what is in it: that is a place of its own
            return isinstance(value, list) == (definition["type"] == "object")
    return not Draft202012Validator({**definition, "$defs": schema()["$defs"]}).is_valid(value)


def check_refused(path: Path, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        load(with_value(FULL, path, value))
    pointer = refused.value.pointer or ""
    if value == {}:  # what is required in it is missing
        pointer = pointer[: len(pointer_to([*path]))]
    assert pointer == pointer_to([*path]), f"{value!r}: {refused.value}"


def test_the_document_is_valid() -> None:
    assert [str(problem) for problem in schema_problems(FULL) if problem.level == ERROR] == []
    load(FULL)


def test_the_document_has_every_property_of_the_schema() -> None:
    def has(value: Any, parts: list[str]) -> bool:
        if not parts:
            return True
        if parts[0] == "*":  # stands for an index, or a key that is free
            return any(has(member, parts[1:]) for member in (value.values() if isinstance(value, dict) else value))
        return parts[0] in value and has(value[parts[0]], parts[1:])

    assert [one for one in properties(schema()) if not has(FULL, one.split("/")[1:])] == []


@pytest.mark.parametrize("path", PLACES, ids=pointer_to)
def test_what_the_schema_refuses_load_refuses_at_the_same_place(path: Path) -> None:
    """Wrong types, ranges, lengths, patterns and words."""
    for value in ODD:
        if is_refused(path, value):
            check_refused(path, value)


@given(st.sampled_from([*PLACES]), ANYTHING)
def test_whatever_the_value_is_it_is_not_taken_for_another(path: Path, value: Any) -> None:
    assume(is_refused(path, value))
    check_refused(path, value)


@pytest.mark.parametrize("path", PLACES, ids=pointer_to)
def test_what_is_null_or_empty_asks_for_nothing_or_is_missed(path: Path) -> None:
    """Never another exception, wherever it is: another property may need what is gone, or it is required itself."""
    for value in (None, [], {}):
        with suppress(ConfigError):
            load(with_value(FULL, path, value))
