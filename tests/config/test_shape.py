"""config.shape: every property of the specification has one type, and no other type is taken for it."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from full_config import FULL, OTHERS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ocirt.config.hooks import KINDS
from ocirt.config.shape import ID, U16, U32, U64, Mismatch, check_shape, pointer_to, shown, string
from ocirt.errors import ConfigError
from ocirt.runtime.spec import default_spec

RATES = tuple(f"throttle{way}{unit}Device" for way in ("Read", "Write") for unit in ("Bps", "IOPS"))
REQUIRED = {
    "/ociVersion",
    "/root/path",
    "/process/cwd",
    "/process/user",
    "/process/user/uid",
    "/process/user/gid",
    *(f"/hooks/{kind}/*/path" for kind in KINDS),
    "/process/consoleSize/height",
    "/process/consoleSize/width",
    "/process/rlimits/*/type",
    "/process/rlimits/*/hard",
    "/process/rlimits/*/soft",
    "/mounts/*/destination",
    "/linux/namespaces/*/type",
    *(f"/mounts/*/{kind}Mappings/*/{name}" for kind in ("uid", "gid") for name in ("containerID", "hostID", "size")),
    *(f"/linux/{kind}Mappings/*/{name}" for kind in ("uid", "gid") for name in ("containerID", "hostID", "size")),
    "/linux/resources/devices/*/allow",
    "/linux/devices/*/path",
    "/linux/devices/*/type",
    "/process/scheduler/policy",
    "/process/ioPriority/class",
    "/process/ioPriority/priority",
    "/linux/personality/domain",
    "/linux/memoryPolicy/mode",
    "/linux/resources/blockIO/weightDevice/*/major",
    "/linux/resources/blockIO/weightDevice/*/minor",
    *(f"/linux/resources/blockIO/{name}/*/{key}" for name in RATES for key in ("major", "minor", "rate")),
    *(f"/linux/resources/hugepageLimits/*/{name}" for name in ("pageSize", "limit")),
    *(f"/linux/resources/network/priorities/*/{name}" for name in ("name", "priority")),
}
"""`*` stands for an index."""


def is_required(pointer: str) -> bool:
    return re.sub(r"/\d+(?=/|$)", "/*", pointer) in REQUIRED


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        found += places(member, (*path, key))
    return found


def parts_of(pointer: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in pointer[1:].split("/")]


def parent_of(document: Any, path: list[str | int]) -> Any:
    for part in path[:-1]:
        document = document[part]
    return document


def with_value(path: list[str | int], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    parent_of(document, path)[path[-1]] = value
    return document


def refusal(document: Any) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        check_shape(document)
    return refused.value


PLACES = [list(path) for path in places(FULL) if not {*OTHERS, "seccomp", "commandLine", "username"} & {*path}]
"""Of what has a shape: what is for others has none, and that of seccomp is a matter of its own (test_full.py)."""
ANY_JSON: dict[type, SearchStrategy[Any]] = {
    str: st.text(),
    bool: st.booleans(),
    int: st.integers(),
    float: st.floats(),
    list: st.lists(st.integers(), max_size=2),
    dict: st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
}


def test_the_full_document_and_the_default_have_the_right_shape() -> None:
    check_shape(FULL)
    check_shape(default_spec())


@given(st.data())
def test_no_value_of_another_type_is_taken_for_the_right_one(data: st.DataObject) -> None:
    """Neither "1" for 1, nor 1 for true, nor 1.0 for 1, nor {} for []."""
    path = data.draw(st.sampled_from(PLACES))
    right = type(parent_of(FULL, path)[path[-1]])
    wrong = data.draw(st.sampled_from([kind for kind in ANY_JSON if kind is not right]))
    value = data.draw(ANY_JSON[wrong])
    error = refusal(with_value(path, value))
    assert error.pointer == pointer_to(path)
    assert "expected" in error.message


@pytest.mark.parametrize("path", PLACES, ids=pointer_to)
def test_null_stands_for_an_absent_array_or_object_and_for_nothing_else(path: list[str | int]) -> None:
    document = with_value(path, None)
    pointer = pointer_to(path)
    is_container = isinstance(parent_of(FULL, path)[path[-1]], list | dict)
    is_member = isinstance(path[-1], int)  # of an array: there it stands for nothing
    if not is_required(pointer) and is_container and not is_member:
        check_shape(document)
    else:
        assert refusal(document).pointer == pointer


@pytest.mark.parametrize("path", [path for path in PLACES if isinstance(path[-1], str)], ids=pointer_to)
def test_what_is_required_may_not_be_absent_and_all_else_may(path: list[str | int]) -> None:
    document = copy.deepcopy(FULL)
    del parent_of(document, path)[path[-1]]
    if is_required(pointer_to(path)):
        error = refusal(document)
        assert error.pointer == pointer_to(path)
        assert "required" in error.message
    else:
        check_shape(document)


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [(U16, 0, 2**16 - 1), (U32, 0, 2**32 - 1), (U64, 0, 2**64 - 1), (ID, 0, 2**32 - 2)],
)
def test_numbers_have_bounds(shape: Any, low: int, high: int) -> None:
    shape(low)
    shape(high)
    for value in (low - 1, high + 1, 10**30, -(10**30)):
        with pytest.raises(Mismatch):
            shape(value)


@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800", "x\udfffy"])
def test_a_string_that_the_kernel_could_not_be_given_is_refused(text: str) -> None:
    with pytest.raises(Mismatch):
        string(text)
    assert refusal(with_value(["hostname"], text)).pointer == "/hostname"


@pytest.mark.parametrize("document", [None, [], "x", 1, True])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    assert refusal(document).pointer == ""


def test_unknown_properties_are_ignored() -> None:
    document = copy.deepcopy(FULL)
    document["x-extension"] = {"a": [1, None, {"b": 0.5}]}
    document["linux"]["unknown"] = 1
    check_shape(document)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/process/commandLine", {"neither": 1}),
        ("/process/user/username", 7),
        ("/linux/intelRdt/enableCMT", True),
        ("/linux/intelRdt/enableMBM", False),
    ],
)
def test_properties_of_other_platforms_and_of_older_versions_are_ignored(pointer: str, value: Any) -> None:
    """Windows' two, whatever they are; and the two that 1.3 removed, whose type is still known."""
    spec = default_spec()
    spec["linux"]["intelRdt"] = {}
    *parents, last = pointer.split("/")[1:]
    place: Any = spec
    for name in parents:
        place = place[name]
    place[last] = value
    check_shape(spec)


def test_an_empty_annotation_key_is_refused() -> None:
    assert refusal(with_value(["annotations"], {"": "x"})).pointer == "/annotations/"


@pytest.mark.parametrize("name", ["a\0b", "half of a pair: \ud800"])
def test_a_key_that_no_string_could_be_is_refused(name: str) -> None:
    assert refusal(with_value(["annotations"], {name: "x"})).pointer == f"/annotations/{name}"


def test_a_pointer_escapes_its_two_characters() -> None:
    assert pointer_to(["a/b", "c~d", 0]) == "/a~1b/c~0d/0"


@given(st.one_of(*ANY_JSON.values(), st.none()))
def test_a_value_is_shown_on_one_short_line(value: object) -> None:
    text = shown(value)
    assert len(text) <= 80
