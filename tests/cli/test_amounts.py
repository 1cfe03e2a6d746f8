"""What the flags of `update` mean."""

from __future__ import annotations

import pytest

from ocirt.cli.amounts import PLACES, SCHEMATA, number_of, resources_of, size_of
from ocirt.cli.verbs import VERBS
from ocirt.config.shape import RESOURCES, check_shape
from ocirt.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-1", -1),
        ("1048576", 1 << 20),
        ("10b", 10),
        ("64k", 64 << 10),
        ("64K", 64 << 10),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("2g", 2 << 30),
        ("1t", 1 << 40),
        ("1p", 1 << 50),
        ("1.5g", 3 << 29),
        ("0.25k", 256),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(text: str, expected: int) -> None:
    assert size_of(text, "--memory") == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "m", "-2", "-1m", "1.m", ".5m", "1..5m", "1e3", "1mm", "1x", "1bib", "1mi", "٣", "1_0", "0x10", "9" * 30],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--memory: "):
        size_of(text, "--memory")


@pytest.mark.parametrize("text", ["", "-", "--1", "1.5", "1k", " 1", "+1", "٣", "1_0"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--pids-limit: expected a whole number"):
        number_of(text, "--pids-limit")


def test_every_flag_of_the_verb_but_the_file_has_its_place_in_the_specification() -> None:
    flags = {flag.name for flag in VERBS["update"].flags}
    assert flags == {*PLACES, *SCHEMATA, "resources"}
    options = {name.replace("-", "_"): "1" for name in flags}
    resources, names = resources_of(options)
    check_shape(resources, RESOURCES)
    assert {(section, name) for section, values in resources.items() for name in values} == {
        (section, name) for section, name, _ in PLACES.values()
    }
    assert names["/memory/limit"] == "--memory"


def test_what_is_not_said_is_not_there() -> None:
    options: dict[str, str | None] = {name.replace("-", "_"): None for name in PLACES}
    options["cpuset_cpus"] = ""
    assert resources_of(options) == ({}, {})
