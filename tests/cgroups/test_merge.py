"""What a change of linux.resources makes of those that are there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups.merge import Merged


def rate(major: int, minor: int, rate: int) -> dict[str, int]:
    return {"major": major, "minor": minor, "rate": rate}


CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # old, change, new
    ({}, {}, {}),
    ({"pids": {"limit": 5}}, {}, {"pids": {"limit": 5}}),
    ({"pids": {"limit": 5}}, {"pids": {"limit": 0}}, {"pids": {"limit": 0}}),
    ({"pids": {"limit": 5}}, {"pids": {}}, {"pids": {"limit": 5}}),
    ({"pids": {"limit": 5}}, {"pids": None}, {"pids": {"limit": 5}}),
    (
        {"memory": {"limit": 1, "swap": 2, "swappiness": 60}},
        {"memory": {"limit": 0, "swap": 9, "swappiness": 0, "disableOOMKiller": False, "reservation": None}},
        {"memory": {"limit": 1, "swap": 9, "swappiness": 0, "disableOOMKiller": False}},
    ),
    (
        {"cpu": {"shares": 2, "cpus": "0"}},
        {"cpu": {"shares": 0, "cpus": "", "idle": 0, "burst": 0, "quota": -1}},
        {"cpu": {"shares": 2, "cpus": "0", "idle": 0, "burst": 0, "quota": -1}},
    ),
    (
        {
            "blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 1, "rate": 2}]
            }
        },
        {
            "blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 0}, {"major": 9, "minor": 0, "rate": 3}]
            }
        },
        {
            "blockIO": {
                "throttleReadBpsDevice": [
                    {"major": 8, "minor": 0, "rate": 1},
                    {"major": 8, "minor": 1, "rate": 0},
                    {"major": 9, "minor": 0, "rate": 3},
                ]
            }
        },
    ),
    (
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 100, "leafWeight": 200}]}},
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 300, "leafWeight": None}], "weight": 0}},
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 300, "leafWeight": 200}]}},
    ),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]},
        {"hugepageLimits": [{"pageSize": "1GB", "limit": 0}, {"pageSize": "2MB", "limit": 7}]},
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 7}, {"pageSize": "1GB", "limit": 0}]},
    ),
    (
        {"network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]}},
        {"network": {"priorities": [{"name": "lo", "priority": 2}]}},
        {"network": {"classID": 1, "priorities": [{"name": "lo", "priority": 2}]}},
    ),
    (
        {"rdma": {"a": {"hcaHandles": 1, "hcaObjects": 2}}},
        {"rdma": {"a": {"hcaObjects": 3}, "b": {"hcaHandles": 0}}},
        {"rdma": {"a": {"hcaHandles": 1, "hcaObjects": 3}, "b": {"hcaHandles": 0}}},
    ),
    ({"unified": {"a": "1"}}, {"unified": {"b": "2"}}, {"unified": {"a": "1", "b": "2"}}),
    ({"devices": [{"allow": True}]}, {"devices": [{"allow": False}]}, {}),
]


@pytest.mark.parametrize(("old", "change", "new"), CASES, ids=str)
def test_what_is_named_replaces_and_the_rest_stays(
    old: dict[str, Any], change: dict[str, Any], new: dict[str, Any]
) -> None:
    assert Merged(old, change).resources == new


def test_neither_side_is_changed() -> None:
    old = {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 100}]}, "pids": {"limit": 1}}
    change = {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 9}]}, "pids": {"limit": 2}}
    before = repr((old, change))
    Merged(old, change)
    assert repr((old, change)) == before


def test_each_named_value_is_known_by_its_place_in_both() -> None:
    old = {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}], "unified": {}}
    change = {
        "hugepageLimits": [{"pageSize": "1GB", "limit": 0}, {"pageSize": "2MB", "limit": 7}],
        "unified": {"a~b": "1"},
        "memory": {"limit": 0, "swap": 5},
    }
    touched = Merged(old, change).touched
    assert touched["/linux/resources/hugepageLimits/1"] == "/hugepageLimits/0"
    assert touched["/linux/resources/hugepageLimits/0/limit"] == "/hugepageLimits/1/limit"
    assert touched["/linux/resources/unified/a~0b"] == "/unified/a~0b"
    assert touched["/linux/resources/memory/swap"] == "/memory/swap"
    assert "/linux/resources/memory/limit" not in touched


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.dictionaries(st.sampled_from(["limit", "swap", "swappiness"]), st.integers(-1, 3)),
        "pids": st.fixed_dictionaries({"limit": st.integers(-1, 3)}),
        "hugepageLimits": st.lists(
            st.fixed_dictionaries({"pageSize": st.sampled_from(["2MB", "1GB"]), "limit": st.integers(0, 3)}),
            unique_by=lambda one: one["pageSize"],
        ),
    },
)


@given(VALUES, VALUES)
def test_the_same_change_twice_is_as_once(old: dict[str, Any], change: dict[str, Any]) -> None:
    once = Merged(old, change).resources
    assert Merged(once, change).resources == once


@given(VALUES)
def test_nothing_is_lost_by_an_empty_change(old: dict[str, Any]) -> None:
    assert Merged(old, {}).resources == old
