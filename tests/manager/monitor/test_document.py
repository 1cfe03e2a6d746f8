"""JSON and times of a monitor are what others read."""

from __future__ import annotations

import json
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as some

from ocirt.manager.monitor.document import dumps, timestamp

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_json_reads_it(value: object) -> None:
    assert json.loads(dumps(value)) == value


@given(some.integers(min_value=1, max_value=4_000_000_000_000_000_000))
def test_times_are_rfc_3339(nanoseconds: int) -> None:
    text = timestamp(nanoseconds)
    seconds, rest = text[:-1].split(".")
    assert text.endswith("Z")
    assert int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * 10**9 + int(rest) == nanoseconds


def test_never_is_dockers() -> None:
    assert timestamp(0) == "0001-01-01T00:00:00Z"
