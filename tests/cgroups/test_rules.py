"""cgroups.rules: from the configuration's device rules to the container's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ocirt.cgroups.ebpf import merged
from ocirt.cgroups.rules import ANY, DEFAULTS, Rule, container_rules
from ocirt.cgroups.v1 import set_devices


def fields(rules: list[Rule]) -> list[tuple[bool, str, int, int, str]]:
    return [(rule.allow, rule.type, rule.major, rule.minor, rule.access) for rule in rules]


def configured(*config: dict[str, Any]) -> list[tuple[bool, str, int, int, str]]:
    """The container's rules without the defaults, which come last."""
    rules = container_rules(config)
    assert fields(rules[-len(DEFAULTS) :]) == fields(list(DEFAULTS))
    return fields(rules[: -len(DEFAULTS)])


def test_a_rule_keeps_its_place_and_its_letters_get_an_order() -> None:
    assert configured(
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "wr"},
        {"allow": False, "type": "b", "major": 8, "access": "m"},
    ) == [(True, "c", 10, 229, "rw"), (False, "b", 8, ANY, "m")]


@pytest.mark.parametrize("config", [{"access": "rwm"}, {"type": "a", "access": "rwm"}, {"type": "", "access": "mwr"}])
def test_a_rule_for_everything_stays_one(config: dict[str, Any]) -> None:
    assert configured({"allow": False, **config}) == [(False, "a", ANY, ANY, "rwm")]


@pytest.mark.parametrize("part", [{"major": 1}, {"minor": 1}, {"access": "r"}])
def test_a_rule_for_both_types_that_is_not_for_everything_becomes_one_of_each(part: dict[str, Any]) -> None:
    """The kernel's v1 files would take "a 1:3 r" for everything."""
    rules = configured({"allow": True, "type": "a", "access": "rwm", **part})
    assert [rule[1] for rule in rules] == ["b", "c"]
    assert rules[0][2:] == rules[1][2:]


def test_an_allow_rule_without_access_allows_nothing() -> None:
    assert configured({"allow": True, "type": "c", "major": 1, "minor": 3}) == []


def test_a_deny_rule_without_access_denies_all_access() -> None:
    assert configured({"allow": False}) == [(False, "a", ANY, ANY, "rwm")]


def test_an_unbuffered_character_device_is_a_character_device() -> None:
    assert configured({"allow": True, "type": "u", "major": 1, "minor": 3, "access": "r"}) == [(True, "c", 1, 3, "r")]


def test_the_defaults_are_what_every_container_has() -> None:
    devices = {(rule.major, rule.minor) for rule in DEFAULTS if rule.access == "rwm"}
    assert devices == {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, ANY)}
    assert all(rule.allow for rule in DEFAULTS)


def test_allow_rules_for_one_device_are_merged_and_no_further_than_to_a_deny_rule() -> None:
    device = ("c", 1, 3)
    rules = [
        Rule(True, *device, "r"),
        Rule(True, "c", 1, 5, "r"),
        Rule(True, *device, "w"),
        Rule(False, *device, "w"),
        Rule(True, *device, "m"),
    ]
    assert fields(merged(rules)) == [
        (True, *device, "rw"),
        (True, "c", 1, 5, "r"),
        (False, *device, "w"),
        (True, *device, "m"),
    ]


def test_what_comes_before_a_rule_for_everything_never_counts() -> None:
    some, deny, allow = Rule(True, "c", 1, 3, "r"), Rule(False, "a", ANY, ANY, "rwm"), Rule(True, "a", ANY, ANY, "rwm")
    assert fields(merged([allow, deny, some])) == fields([some])
    assert fields(merged([some, allow])) == fields([allow])
    assert merged([allow, deny]) == []


def written(monkeypatch: pytest.MonkeyPatch, rules: list[Rule]) -> list[tuple[str, bytes]]:
    done: list[tuple[str, bytes]] = []

    def several(calls: list[tuple[str, str, bytes]], stop: bool) -> list[int]:
        assert stop
        done.extend((path, content) for name, path, content in calls if name == "write")
        return [0] * len(calls)

    monkeypatch.setattr("ocirt.cgroups.calls.several", several)
    set_devices("/cgroup", rules)
    return done


def test_on_v1_all_is_denied_first_and_each_rule_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [Rule(True, "c", 1, ANY, "rw"), Rule(False, "b", ANY, 3, "m"), Rule(True, "a", ANY, ANY, "rwm")]
    lines = [
        ("/cgroup/devices.deny", b"a"),
        ("/cgroup/devices.allow", b"c 1:* rw"),
        ("/cgroup/devices.deny", b"b *:3 m"),
        ("/cgroup/devices.allow", b"a"),
    ]
    assert written(monkeypatch, rules) == lines
    assert written(monkeypatch, [Rule(False, "a", ANY, ANY, "rwm"), *rules]) == lines


def test_a_rule_that_the_kernel_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "devices.deny").touch()
    with pytest.raises(FileNotFoundError) as refused:
        set_devices(str(tmp_path), [Rule(True, "c", 1, ANY, "rw")])
    assert refused.value.filename == f"{tmp_path}/devices.allow"
