"""What inspect and ps say: docker's shapes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from shop import Shop

from ocirt.errors import Error
from ocirt.manager.containers import bundle, inspect, lifecycle
from ocirt.manager.containers.state import State

DOCKER = json.loads((Path(__file__).parent / "docker_inspect.json").read_text())
"""The keys of `docker inspect` of a container of dockerd 20.10.24 (API 1.41), and the types of their values."""
OURS_ALONE = {"StopSignal", "ExposedPorts", "Annotations", "StopTimeout"}


def kind(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: kind(one) for key, one in value.items()}
    return "null" if value is None else type(value).__name__


def compare(docker: Any, ours: Any, where: str = "") -> None:
    """Every key of docker's is there, with a value of that type or null; and no other."""
    if isinstance(docker, dict) and isinstance(ours, dict):
        assert set(docker) - set(ours) == set(), where
        assert set(ours) - set(docker) <= OURS_ALONE, where
        for key in docker:
            compare(docker[key], ours[key], f"{where}/{key}")
    else:
        assert "null" in (docker, ours) or docker == ours, where


@pytest.mark.root
def test_the_shape_of_inspect(shop: Shop) -> None:
    health = {"Test": ["CMD-SHELL", "true"]}
    shop.image("x", {"Cmd": ["sh"], "Env": ["A=b", "PATH=/bin"], "Volumes": {"/vol": {}}, "Healthcheck": health})
    record = shop.create(
        "-c", "true", image="x", name="bb", memory="64m", cpus="0.5", cap_add=("net_admin",), tmpfs=("/run:size=1m",),
        volume=("/tmp:/t:ro", "named:/n"), mount=("type=bind,src=/etc,dst=/e",), ulimit=("nofile=10:20",),
        device=("/dev/null:/dev/x:r",), init=True, restart="on-failure:3", label=("a=b",), health_interval="3s",
        add_host=("a:1.2.3.4",), dns=("1.1.1.1",), interactive=True, tty=True, env=("Q=1",),
        sysctl=("net.ipv4.ip_forward=1",), security_opt=("no-new-privileges",), log_opt=("max-size=1m",),
        entrypoint="sh", network="none",
    )  # fmt: skip
    found = inspect.container(shop, record)
    networks, docker_networks = found["NetworkSettings"].pop("Networks"), DOCKER["NetworkSettings"].pop("Networks")
    compare(DOCKER, kind(found))
    compare(docker_networks, kind(networks))
    assert (found["Path"], found["Args"], found["Name"]) == ("sh", ["-c", "true"], "/bb")
    assert found["State"]["Status"] == "created"
    assert found["Config"]["Env"] == ["Q=1", "A=b", "PATH=/bin"]
    assert found["Config"]["Hostname"] == record.id[:12]
    assert found["HostConfig"]["Binds"] == ["/tmp:/t:ro", "named:/n"]
    assert {(point["Destination"], point["Type"], point["RW"]) for point in found["Mounts"]} == {
        *(("/t", "bind", False), ("/n", "volume", True), ("/e", "bind", True), ("/vol", "volume", True)),
    }
    assert found["GraphDriver"]["Name"] == "overlay"
    assert all(Path(path).is_dir() for path in found["GraphDriver"]["Data"]["LowerDir"].split(":"))
    assert json.loads(json.dumps(found)) == found


@pytest.mark.root
def test_one_that_ran(shop: Shop) -> None:
    record = shop.sh("head -c 100000 /dev/zero > /f; exit 7")
    shop.ran(record)
    found = inspect.container(shop, record, size=True)
    assert (found["State"]["Status"], found["State"]["ExitCode"], found["State"]["Running"]) == ("exited", 7, False)
    assert all(Path(found[key]).exists() for key in ("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"))
    assert 100000 <= found["SizeRw"] < found["SizeRootFs"]


@pytest.mark.root
def test_lists(shop: Shop) -> None:
    one = shop.sh("exit 3", name="one", label=("a=b", "c="), volume=("vol:/data",))
    two = shop.sh("sleep 600", name="two", expose=("80/tcp",))
    three = shop.sh("true", name="three", network="host")
    shop.ran(one)
    lifecycle.start(shop, two, prepare=bundle.prepare)

    def names(*filters: tuple[str, str], **values: Any) -> list[str]:
        return [found["Names"][0] for found in inspect.listed(shop, filters=filters, **values)]

    assert names() == ["/two"]
    assert names(everything=True) == ["/three", "/two", "/one"]
    assert names(last=2) == ["/three", "/two"]
    for filters, wanted in (
        ([("status", "exited")], ["/one"]),
        ([("status", "created"), ("status", "running")], ["/three", "/two"]),
        ([("exited", "3")], ["/one"]),
        ([("exited", "4")], []),
        ([("name", "t")], ["/three", "/two"]),
        ([("id", two.id[:10])], ["/two"]),
        ([("label", "a")], ["/one"]),
        ([("label", "a=b"), ("label", "c")], ["/one"]),
        ([("label", "a=c")], []),
        ([("ancestor", "box")], ["/three", "/two", "/one"]),
        ([("ancestor", "other")], []),
        ([("before", "two")], ["/one"]),
        ([("since", "two")], ["/three"]),
        ([("volume", "vol")], ["/one"]),
        ([("volume", "/data")], ["/one"]),
        ([("network", "host")], ["/three"]),
        ([("expose", "80")], ["/two"]),
        ([("health", "none")], ["/three", "/two", "/one"]),
    ):
        assert names(*filters, everything=True) == wanted, filters
    for wrong in (("what", "ever"), ("status", "fine"), ("exited", "x"), ("before", "nobody")):
        with pytest.raises(Error):
            names(wrong)
    found = inspect.listed(shop, everything=True, size=True)[2]
    assert found["Status"].startswith("Exited (3) ")
    assert (found["Command"], found["Image"], found["Labels"]) == ("sh -c exit 3", "box", {"a": "b", "c": ""})
    assert inspect.listed(shop)[0]["Status"].startswith("Up ")
    assert three.document["host"]["NetworkMode"] == "host"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (3 * 86400, "3 days"),
        (20 * 86400, "2 weeks"),
        (100 * 86400, "3 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_how_long_ago(monkeypatch: pytest.MonkeyPatch, seconds: int, text: str) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.5)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.5Z", time.gmtime(1_700_000_000 - seconds))
    assert inspect.since(stamp) == text


def test_statuses_in_dockers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    stamp = "2023-11-14T22:13:10.000000000Z"  # ten seconds before
    for found, text in (
        ({}, "Created"),
        ({"status": "running", "started": stamp}, "Up 10 seconds"),
        ({"status": "running", "started": stamp, "health": {"Status": "healthy"}}, "Up 10 seconds (healthy)"),
        ({"status": "running", "started": stamp, "health": {"Status": "starting"}}, "Up 10 seconds (health: starting)"),
        ({"status": "paused", "started": stamp}, "Up 10 seconds (Paused)"),
        ({"status": "exited", "finished": stamp, "exit_code": 2}, "Exited (2) 10 seconds ago"),
        ({"status": "restarting", "finished": stamp, "exit_code": 1}, "Restarting (1) 10 seconds ago"),
        ({"status": "dead"}, "Dead"),
    ):
        assert inspect.status(State(found)) == text
