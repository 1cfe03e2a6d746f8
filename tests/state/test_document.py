"""state.document: JSON that every reader reads, without the json module."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.state.document import dumps

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([0, 2, 4]))
def test_json_reads_back_what_was_written(value: Any, indent: int) -> None:
    assert json.loads(dumps(value, indent=indent)) == value


@given(VALUES)
def test_it_is_written_as_json_writes_it(value: Any) -> None:
    assert dumps(value) == json.dumps(value)
    assert dumps(value, indent=2) == json.dumps(value, indent=2)


def test_a_tuple_is_an_array() -> None:
    assert dumps({"a": (1, "x")}) == '{"a": [1, "x"]}'


def test_a_path_that_is_not_utf8_survives() -> None:
    path = b"/a\xff".decode("utf-8", "surrogateescape")
    assert json.loads(dumps(path)) == path


@pytest.mark.parametrize("value", [b"x", {1, 2}, object()])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        dumps([value])
