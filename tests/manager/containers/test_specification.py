"""config.json of an ordinary user's container, and what else needs no container."""

from __future__ import annotations

from typing import Any

import pytest

from ocirt.manager.containers import image_config, mounts, specification
from ocirt.manager.containers.create import monitor, signal_number
from ocirt.manager.containers.flags import options
from ocirt.manager.containers.users import User
from ocirt.manager.errors import DocumentError, GrammarError
from ocirt.manager.volumes import Volumes


class NoVolumes(Volumes):
    """None is asked for."""

    def __init__(self) -> None:
        """Without a site."""


def made(*, rootless: bool, **values: Any) -> dict[str, Any]:
    """config.json, from flags."""
    found = options(values, {})
    config = image_config.merge(found.config, {}, ["true"])
    document = {"config": config, "host": found.host, "mounts": []}
    compiled = mounts.compiled(document, {}, "", NoVolumes(), rootless=rootless)
    about = specification.Found(User(), compiled, "name", rootless=rootless)
    return specification.config("0" * 64, document, about)


def places(config: dict[str, Any]) -> dict[str, str]:
    return {one["destination"]: one["type"] for one in config["mounts"]}


def test_root_has_nodes_and_an_ordinary_user_mounts() -> None:
    values = {"device": ("/dev/null:/dev/other:r",)}
    root, user = made(rootless=False, **values), made(rootless=True, **values)
    assert [node["path"] for node in root["linux"]["devices"]] == ["/dev/other"]
    assert "/dev/other" not in places(root)
    assert "devices" not in user["linux"]
    assert places(user)["/dev/other"] == "bind"
    assert root["linux"]["cgroupsPath"] == "/ocim/" + "0" * 64
    assert "cgroupsPath" not in user["linux"]
    assert "oomScoreAdj" not in user["process"]
    assert made(rootless=True, cgroup_parent="/mine")["linux"]["cgroupsPath"] == "/mine/" + "0" * 64


def test_file_systems_of_the_host_are_bound_where_they_cannot_be_mounted() -> None:
    values = {"network": "host", "pid": "host"}
    root, user = made(rootless=False, **values), made(rootless=True, **values)
    assert (places(root)["/sys"], places(root)["/proc"]) == ("sysfs", "proc")
    assert (places(user)["/sys"], places(user)["/proc"]) == ("bind", "bind")
    assert "/sys/fs/cgroup" not in places(user)
    assert "/dev/mqueue" not in places(made(rootless=True, ipc="container:other"))
    assert "sysctl" not in made(rootless=True, pid="host")["linux"]
    assert set(made(rootless=True)["linux"]["sysctl"]) == {"net.ipv4.ip_unprivileged_port_start"}


def test_devices_of_a_folder() -> None:
    config = made(rootless=False, device=("/dev/pts:/dev/there",))
    assert config["linux"]["devices"]
    assert all(node["path"].startswith("/dev/there/") for node in config["linux"]["devices"])


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("15", 15), ("SIGRTMIN+3", 37), ("RTMIN", 34), ("RTMAX-1", 63)],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGFOO", "RTMIN+31", "SIGRTMAX+1", "-9", "9999999999"])
def test_no_signals(text: str) -> None:
    with pytest.raises(GrammarError):
        signal_number(text)


@pytest.mark.parametrize(
    "config",
    [
        [],
        {"Env": "A=b"},
        {"Env": ["A\0=b"]},
        {"Cmd": [1]},
        {"User": 5},
        {"User": "4294967297"},
        {"Labels": {"a": 1}},
        {"Volumes": {"relative": {}}},
        {"Volumes": []},
        {"StopSignal": "SIGFOO"},
        {"Healthcheck": {"Test": "true"}},
        {"Healthcheck": {"Interval": -1}},
        {"Healthcheck": {"Retries": True}},
        {"Env": ["A=b"] * 10_001},
    ],
)
def test_configurations_that_make_no_sense(config: Any) -> None:
    with pytest.raises(DocumentError):
        image_config.checked(config, "configuration")


def test_nulls_and_what_is_not_known_are_nothing() -> None:
    given = {"Env": None, "Cmd": None, "Labels": None, "ArgsEscaped": True, "Memory": 5, "User": ""}
    assert image_config.checked(given, "configuration") == {"User": ""}


def test_a_health_check_has_dockers_times() -> None:
    found = options({"health_cmd": "true"}, {})
    assert monitor(found.config, found.host)["health"] == {
        "test": ["CMD-SHELL", "true"],
        "interval": 30 * 10**9,
        "timeout": 30 * 10**9,
        "start_period": 0,
        "start_interval": 5 * 10**9,
        "retries": 3,
    }
