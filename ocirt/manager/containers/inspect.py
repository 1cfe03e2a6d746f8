"""All about a container, and containers as `ps` lists them: in the shapes of docker's API 1.41
(`GET /containers/ID/json`, `GET /containers/json`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ocirt.manager.containers import state as states
from ocirt.manager.containers.records import Records
from ocirt.manager.containers.specification import arguments
from ocirt.manager.errors import GrammarError, ManagerError, MissingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.records import Record
    from ocirt.manager.containers.state import State
    from ocirt.manager.site import Site

_STATUSES = ("created", "running", "paused", "restarting", "exited", "dead", "removing")
_POINT = ("Type", "Name", "Source", "Destination", "Driver", "Mode", "RW", "Propagation")


def container(site: Site, record: Record, *, size: bool = False) -> dict[str, Any]:
    """All about it. size: also SizeRw and SizeRootFs, in bytes. Raises ManagerError."""
    document, now = record.document, states.read(site, record)
    folder, config, host = site.container(record.id), document["config"], document["host"]
    program = arguments(config)
    found: dict[str, Any] = {
        "Id": record.id,
        "Created": _stamp(record.created),
        "Path": program[0],
        "Args": program[1:],
        "State": _state(now),
        "Image": document["image"]["id"] if document["image"] else "",
        "ResolvConfPath": _file(folder / "resolv.conf"),
        "HostnamePath": _file(folder / "hostname"),
        "HostsPath": _file(folder / "hosts"),
        "LogPath": _file(folder / "log"),
        "Name": f"/{record.name}",
        "RestartCount": now.restarts,
        "Driver": site.snapshots.driver.name,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": _apparmor(host),
        "ExecIDs": None,
        "HostConfig": {
            **host,
            "MaskedPaths": None if host["Privileged"] else host["MaskedPaths"],
            "ReadonlyPaths": None if host["Privileged"] else host["ReadonlyPaths"],
        },
        "GraphDriver": _driver(site, record),
        "Mounts": [_point(point) for point in document["mounts"]],
        "Config": {**config, "Hostname": _hostname(record)},
        "NetworkSettings": _network(host),
    }
    if size:
        written = site.snapshots.usage(record.id)
        found |= {"SizeRw": written, "SizeRootFs": written + _image_size(site, document)}
    return found


def _stamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def _state(now: State) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Status": now.status,
        "Running": now.status in ("running", "paused", "restarting"),
        "Paused": now.status == "paused",
        "Restarting": now.status == "restarting",
        "OOMKilled": now.oom_killed,
        "Dead": now.status == "dead",
        "Pid": now.pid,
        "ExitCode": now.exit_code,
        "Error": now.error,
        "StartedAt": now.started,
        "FinishedAt": now.finished,
    }
    if now.health is not None:
        found["Health"] = now.health
    return found


def _file(path: Any) -> str:
    return str(path) if path.exists() else ""


def _apparmor(host: dict[str, Any]) -> str:
    from ocirt.manager.containers.confinement import option

    return option(host, "apparmor") or ""


def _hostname(record: Record) -> str:
    from ocirt.manager.containers.etc import hostname

    return hostname(record.id, record.document)


def _driver(site: Site, record: Record) -> dict[str, Any]:
    """Where the files are: what the driver has to say, in docker's words where it is overlayfs."""
    name, folder = site.snapshots.driver.name, site.container(record.id)
    if name != "overlay":
        return {"Data": None, "Name": name}
    data = {
        "LowerDir": ":".join(_lower(site, record)),
        "MergedDir": str(folder / "rootfs"),
        "UpperDir": str(folder / "upper"),
        "WorkDir": str(folder / "work"),
    }
    return {"Data": data, "Name": name}


def _lower(site: Site, record: Record) -> Iterable[str]:
    """The topmost first, as overlayfs has them."""
    for name in reversed(record.document["snapshots"]):
        row = site.database.read.execute("select folder from snapshots where name = ?", (name,)).fetchone()
        if row is not None:
            yield str(site.root / "snapshots" / row[0])


def _image_size(site: Site, document: dict[str, Any]) -> int:
    total = 0
    for name in document["snapshots"]:
        row = site.database.read.execute("select size from snapshots where name = ?", (name,)).fetchone()
        total += int(row[0]) if row is not None else 0
    return total


def _point(point: dict[str, Any]) -> dict[str, Any]:
    return {key: point[key] for key in _POINT if key in point}


def _network(host: dict[str, Any]) -> dict[str, Any]:
    empty = dict.fromkeys(
        "NetworkID EndpointID Gateway IPAddress IPv6Gateway GlobalIPv6Address MacAddress".split(), ""
    ) | {"IPPrefixLen": 0, "GlobalIPv6PrefixLen": 0}
    mode = host["NetworkMode"]
    networks = {} if mode.startswith("container:") else {mode: _END | empty}
    return {
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": {},
        "SandboxKey": "",
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{key: value for key, value in empty.items() if key != "NetworkID"},
        "Networks": networks,
    }


_END: dict[str, Any] = {"IPAMConfig": None, "Links": None, "Aliases": None, "DriverOpts": None}


# Lists.


def listed(
    site: Site,
    *,
    everything: bool = False,
    filters: Iterable[tuple[str, str]] = (),
    last: int = 0,
    size: bool = False,
) -> list[dict[str, Any]]:
    """Containers, the newest first; those that run, unless `everything`, a filter of states, or `last` says otherwise.

    filters: docker's, (name, value); those of one name are alternatives, but labels. Raises GrammarError, ManagerError.
    """
    wanted: dict[str, list[str]] = {}
    for name, value in filters:
        wanted.setdefault(name, []).append(value)
    records = Records(site.database)
    tests = [_TESTS[name](site, records, values) for name, values in wanted.items() if name in _TESTS]
    for name in wanted:
        if name not in _TESTS:
            raise GrammarError(f"--filter {name[:60]}: not known", hint=", ".join(sorted(_TESTS)))
    everything = everything or bool(last) or "status" in wanted or "exited" in wanted
    found: list[dict[str, Any]] = []
    for record in records:
        now = states.read(site, record)
        if (everything or now.alive) and all(test(record, now) for test in tests):
            found.append(_line(site, record, now, size=size))
            if last and len(found) == last:
                break
    return found


def _line(site: Site, record: Record, now: State, *, size: bool) -> dict[str, Any]:
    document = record.document
    host, network = document["host"], _network(document["host"])
    found = {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": document["image"]["name"] if document["image"] else "",
        "ImageID": document["image"]["id"] if document["image"] else "",
        "Command": " ".join(arguments(document["config"])),
        "Created": record.created // 10**9,
        "Ports": [],
        "Labels": document["config"]["Labels"],
        "State": now.status,
        "Status": status(now),
        "HostConfig": {"NetworkMode": host["NetworkMode"]},
        "NetworkSettings": {"Networks": network["Networks"]},
        "Mounts": [_point(point) for point in document["mounts"]],
    }
    if size:
        try:
            written = site.snapshots.usage(record.id)
        except (OSError, ManagerError):  # it is being removed
            written = 0
        found |= {"SizeRw": written, "SizeRootFs": written + _image_size(site, document)}
    return found


def status(now: State) -> str:
    """In docker's words: "Up 3 minutes (healthy)", "Exited (0) 2 hours ago"."""
    if now.status == "created":
        return "Created"
    if now.status == "dead":
        return "Dead"
    if now.status == "restarting":
        return f"Restarting ({now.exit_code}) {since(now.finished)} ago"
    if now.status == "exited":
        return f"Exited ({now.exit_code}) {since(now.finished)} ago"
    text = f"Up {since(now.started)}"
    if now.status == "paused":
        return f"{text} (Paused)"
    if now.health is not None and now.health.get("Status") not in (None, "none"):
        health = now.health["Status"]
        return f"{text} (health: starting)" if health == "starting" else f"{text} ({health})"
    return text


def since(stamp: str) -> str:
    """How long ago a time of RFC 3339 was, as docker says it: "3 minutes", "About an hour"."""
    import calendar

    try:
        then = calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return "?"
    seconds = max(0, int(time.time()) - then)
    minutes, hours = seconds // 60, (seconds + 1800) // 3600
    for least, text in (
        (seconds < 1, "Less than a second"),
        (seconds == 1, "1 second"),
        (seconds < 60, f"{seconds} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 7 * 2, f"{hours // 24} days"),
        (hours < 24 * 30 * 2, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    ):
        if least:
            return text
    return f"{hours // 24 // 365} years"


Test = Callable[["Record", "State"], bool]


def _ids(_site: Site, _records: Records, values: list[str]) -> Test:
    return lambda record, _now: any(record.id.startswith(value) for value in values)


def _names(_site: Site, _records: Records, values: list[str]) -> Test:
    return lambda record, _now: any(value.removeprefix("/") in record.name for value in values)


def _labels(_site: Site, _records: Records, values: list[str]) -> Test:
    def test(record: Record, _now: State) -> bool:
        labels = record.document["config"]["Labels"]
        pairs = [value.partition("=") for value in values]
        return all(key in labels and (not given or labels[key] == wanted) for key, given, wanted in pairs)

    return test


def _states(_site: Site, _records: Records, values: list[str]) -> Test:
    for value in values:
        if value not in _STATUSES:
            raise GrammarError(f"--filter status={value[:60]}: no status", hint=", ".join(_STATUSES))
    return lambda _record, now: now.status in values


def _exited(_site: Site, _records: Records, values: list[str]) -> Test:
    if not all(value.isascii() and value.isdecimal() for value in values):
        raise GrammarError(f"--filter exited={','.join(values)[:60]}: no exit code")
    codes = {int(value) for value in values}
    return lambda _record, now: now.status == "exited" and now.exit_code in codes


def _health(_site: Site, _records: Records, values: list[str]) -> Test:
    def test(_record: Record, now: State) -> bool:
        return (now.health or {}).get("Status", "none") in values

    return test


def _ancestors(site: Site, _records: Records, values: list[str]) -> Test:
    """By name as it was asked for, by its id, or by what a name stands for now."""
    digests = set()
    for value in values:
        try:
            digests.add(site.images.find(value).target.digest)
        except (MissingError, ManagerError):
            continue

    def test(record: Record, _now: State) -> bool:
        image = record.document["image"]
        if not image:
            return False
        digits = image["id"].removeprefix("sha256:")
        return (
            record.image in digests
            or image["name"] in values
            or any(len(value) > 2 and digits.startswith(value.removeprefix("sha256:")) for value in values)
        )

    return test


def _around(newer: bool) -> Callable[[Site, Records, list[str]], Test]:
    def made(_site: Site, records: Records, values: list[str]) -> Test:
        times = [records.find(value).created for value in values]
        if newer:
            return lambda record, _now: record.created > max(times)
        return lambda record, _now: record.created < min(times)

    return made


def _volumes(_site: Site, _records: Records, values: list[str]) -> Test:
    def test(record: Record, _now: State) -> bool:
        mounted = record.document["mounts"]
        return any(value in (point.get("Name"), point["Destination"]) for point in mounted for value in values)

    return test


def _networks(_site: Site, _records: Records, values: list[str]) -> Test:
    return lambda record, _now: record.document["host"]["NetworkMode"] in values


def _ports(_site: Site, _records: Records, values: list[str]) -> Test:
    def test(record: Record, _now: State) -> bool:
        ports = record.document["config"].get("ExposedPorts") or {}
        return any(value in ports or f"{value}/tcp" in ports for value in values)

    return test


_TESTS: dict[str, Callable[[Site, Records, list[str]], Test]] = {
    "id": _ids,
    "name": _names,
    "label": _labels,
    "status": _states,
    "exited": _exited,
    "health": _health,
    "ancestor": _ancestors,
    "before": _around(newer=False),
    "since": _around(newer=True),
    "volume": _volumes,
    "network": _networks,
    "expose": _ports,
}
