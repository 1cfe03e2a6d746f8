"""The interval of `events`, as Go writes durations."""

from __future__ import annotations

import pytest

from ocirt.errors import UsageError
from ocirt.runtime.events import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5s", 5),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("1h", 3600),
        ("1.5h", 5400),
        ("+2s", 2),
        (".5s", 0.5),
        ("1.s", 1),
        ("100us", 1e-4),
        ("100\u00b5s", 1e-4),
        ("100\u03bcs", 1e-4),
        ("7ns", 7e-9),
        ("1h1m1s1ms", 3661.001),
        ("1s1s", 2),
    ],
)
def test_what_go_understands(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    ["", "-", "+", "5", "s", ".s", "1.2.3s", "5s5", "1d", "5 s", " 5s", "--5s", "1e3s", "\u0665s", "9999999h", "5S"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        seconds(text)


@pytest.mark.parametrize("text", ["0", "0s", "-0", "-1s", "-1.5h", "0h0m0.0s"])
def test_what_is_not_in_the_future(text: str) -> None:
    with pytest.raises(UsageError, match="has to be greater than 0"):
        seconds(text)
