"""Sizes, ages, times, and the keys that detach."""

from __future__ import annotations

import pytest

from ocirt.manager.cli import human, terminal
from ocirt.manager.errors import GrammarError

HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.3, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (150, "2 minutes"),
        (HOUR, "About an hour"), (5 * HOUR, "5 hours"), (3 * DAY, "3 days"), (20 * DAY, "2 weeks"),
        (90 * DAY, "3 months"), (800 * DAY, "2 years"),
    ],
)  # fmt: skip
def test_ages_are_docker_s(seconds: float, words: str) -> None:
    assert human.age(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0B"), (999, "999B"), (4_270_000, "4.27MB"), (1_234_567_890, "1.23GB"), (76_800_000, "76.8MB")],
)
def test_sizes(count: int, words: str) -> None:
    assert human.size(count) == words


def test_binary_sizes() -> None:
    assert human.binary_size(1 << 20) == "1MiB" and human.binary_size(2_076_000_000) == "1.933GiB"


NOW = 1_000_000 * 10**9


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10m", NOW - 600 * 10**9),
        ("1h30m", NOW - 5400 * 10**9),
        ("1600000000", 1600000000 * 10**9),
        ("1600000000.5", 1600000000 * 10**9 + 500_000_000),
        ("2020-09-13T12:26:40Z", 1600000000 * 10**9),
        ("2020-09-13T12:26:40.000000001Z", 1600000000 * 10**9 + 1),
        ("2020-09-13T14:26:40.25+02:00", 1600000000 * 10**9 + 250_000_000),
    ],
)
def test_moments(text: str, wanted: int) -> None:
    assert human.moment(text, NOW) == wanted


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "2020-13-01T00:00:00Z"])
def test_no_moments(text: str) -> None:
    with pytest.raises(GrammarError):
        human.moment(text, NOW)


def test_times_are_written_with_nanoseconds() -> None:
    assert human.rfc3339(1600000000 * 10**9 + 7) == "2020-09-13T12:26:40.000000007Z"


@pytest.mark.parametrize(
    ("text", "wanted"), [("ctrl-p,ctrl-q", b"\x10\x11"), ("", b""), ("a,ctrl-[", b"a\x1b"), ("ctrl-@", b"\0")]
)
def test_keys(text: str, wanted: bytes) -> None:
    assert terminal.keys(text) == wanted


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-ä", "pq", "ctrl-p,,", "ä"])
def test_no_keys(text: str) -> None:
    with pytest.raises(GrammarError):
        terminal.keys(text)


@pytest.mark.parametrize(
    ("typed", "passed", "pressed"),
    [
        ([b"ab"], b"ab", False),
        ([b"a\x10", b"\x11b"], b"a", True),
        ([b"\x10", b"b"], b"\x10b", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10", b"\x10", b"x"], b"\x10\x10x", False),
        ([b"ab\x10\x11cd"], b"ab", True),
    ],
)
def test_keys_are_found_however_they_are_typed(typed: list[bytes], passed: bytes, pressed: bool) -> None:
    keys, through, found = terminal.Keys(b"\x10\x11"), b"", False
    for piece in typed:
        data, found = keys.feed(piece)
        through += data
    assert (through, found) == (passed, pressed)


def test_without_keys_everything_is_passed() -> None:
    assert terminal.Keys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)
