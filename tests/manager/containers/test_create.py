"""Containers from docker's flags, run by the real runtime."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from shop import Shop

from ocirt.errors import Error
from ocirt.manager.containers import create
from ocirt.manager.containers.records import Records
from ocirt.manager.errors import ConflictError, MissingError
from ocirt.manager.volumes import Volumes

pytestmark = pytest.mark.root


def test_a_simple_one_runs_and_starts_again(shop: Shop) -> None:
    record = shop.sh("echo $HOSTNAME; hostname; id -G; pwd; grep Cap /proc/self/status; cat /etc/hostname; exit 3")
    ended = shop.ran(record)
    lines = ended.out.split("\n")
    assert (lines[:4], ended.err, ended.code) == ([record.id[:12], record.id[:12], "0 1", "/"], "", 3)
    assert "CapEff:\t00000000a80425fb" in lines
    assert lines[-2] == record.id[:12]
    assert shop.ran(record).code == 3


def test_its_configuration_satisfies_the_strict_check(shop: Shop) -> None:
    config = shop.config(shop.sh("true"))
    assert not shop.warnings, "\n".join(one["pointer"] + " " + one["message"] for one in shop.warnings)
    assert config["process"]["args"] == ["sh", "-c", "true"]
    assert {each["type"] for each in config["linux"]["namespaces"]} == {
        *("mount", "network", "uts", "pid", "ipc", "cgroup")
    }
