"""What an error says to a person."""

from __future__ import annotations

from ocirt.errors import ConfigError, Error


def test_the_parts_are_one_line() -> None:
    error = ConfigError("no such\nthing", pointer="/root/path", hint="make it", place="config.json:1:2")
    assert str(error) == "config.json:1:2: /root/path: no such\\nthing (make it)"


def test_a_path_is_shown_whole_and_what_is_longer_with_its_ends() -> None:
    longest = "/" + "p" * 4094
    assert longest in str(Error(f"open {longest}: no"))
    text = str(Error("unknown type " + "x" * 70_000 + "end", pointer="/linux/sysctl/" + "y" * 70_000))
    assert len(text) < 5000
    assert text.startswith("/linux/sysctl/yyy")
    assert "unknown type xxx" in text
    assert text.endswith("xxend")
    assert "(68016 characters)" in text
