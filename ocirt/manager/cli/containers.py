"""The commands that change containers' life or look at it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from ocirt.manager.cli.here import confirmed, find, site, text, texts
from ocirt.manager.cli.output import each, line, listing
from ocirt.manager.errors import ConflictError, GrammarError, ManagerError, MissingError

if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.cli.grammar import Value
    from ocirt.manager.containers.records import Record
    from ocirt.manager.containers.running import Stats
    from ocirt.manager.site import Site


def _seconds(value: Value) -> float | None:
    if value is None:
        return None
    try:
        return float(text(value))
    except ValueError:
        raise GrammarError(f"--time {text(value)[:40]!r} is no number of seconds") from None


def _signal(value: Value) -> int | None:
    """A number of signal(7). Raises GrammarError."""
    if not value:
        return None
    from ocirt.manager.containers.create import signal_number

    return signal_number(text(value))


def stop(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import lifecycle

    here, seconds, signal = site(), _seconds(values["time"]), _signal(values["signal"])
    return each(arguments, lambda name: lifecycle.stop(here, find(here, name), seconds, signal))


def restart(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import lifecycle
    from ocirt.manager.containers.bundle import prepare

    here, seconds, signal = site(), _seconds(values["time"]), _signal(values["signal"])

    def one(name: str) -> None:
        record = find(here, name)
        lifecycle.stop(here, record, seconds, signal)
        lifecycle.start(here, record, prepare=prepare)

    return each(arguments, one)


def boot(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import lifecycle
    from ocirt.manager.containers.bundle import prepare
    from ocirt.manager.containers.records import Records

    here = site()
    due = [one for one in Records(here.database) if lifecycle.due_after_boot(here, one)]
    return each([one.name for one in due], lambda name: lifecycle.start(here, find(here, name), prepare=prepare))


def kill(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import lifecycle

    here, signal = site(), _signal(values["signal"]) or lifecycle.SIGKILL
    return each(arguments, lambda name: lifecycle.kill(here, find(here, name), signal))


def pause(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import lifecycle

    here = site()
    return each(arguments, lambda name: lifecycle.pause(here, find(here, name)))


def unpause(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import lifecycle

    here = site()
    return each(arguments, lambda name: lifecycle.unpause(here, find(here, name)))


def wait(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import lifecycle

    here, condition = site(), text(values["condition"])

    def one(name: str) -> None:
        line(str(lifecycle.wait(here, find(here, name), condition)))
        sys.stdout.flush()

    return each(arguments, one, echo=False)


def rename(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.containers.records import Records

    here = site()
    Records(here.database).rename(find(here, arguments[0]), arguments[1])


def remove(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import create

    here, force = site(), bool(values["force"])

    def one(name: str) -> None:
        try:
            record = find(here, name)
        except MissingError:
            if force:
                return
            raise
        create.remove(here, record, force=force, volumes=bool(values["volumes"]))

    return each(arguments, one)


def prune(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager import system
    from ocirt.manager.cli.images import pairs
    from ocirt.manager.cli.system import told

    if confirmed("This removes all containers that do not run. Go on?", force=bool(values["force"])):
        told(system.prune_containers(site(), filters=pairs(texts(values["filter"]))))


PS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
    "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Names": "NAMES", "Labels": "LABELS",
    "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS",
}  # fmt: skip
_SHORT, _LONGEST = 12, 20


def listed(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.cli.images import pairs
    from ocirt.manager.containers import inspect

    last = 1 if values["latest"] else _last(values["last"])
    sized, whole = bool(values["size"]), bool(values["no_trunc"])
    found = inspect.listed(
        site(),
        everything=bool(values["all"]) or bool(last),
        filters=pairs(texts(values["filter"])),
        last=last,
        size=sized or ".Size" in text(values["format"]),
    )
    if values["quiet"] and not values["format"]:
        for one in found:
            line(one["Id"] if whole else one["Id"][:_SHORT])
        return
    usual = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", *(("Size",) if sized else ()))
    listing([_row(one, whole=whole) for one in found], PS, text(values["format"]), usual)


def _last(value: Value) -> int:
    if value is None:
        return 0
    said = text(value)
    if not said.removeprefix("-").isdecimal():
        raise GrammarError(f"--last {said[:40]!r} is no number")
    return max(0, int(said))


def _row(one: dict[str, Any], *, whole: bool) -> dict[str, object]:
    """A line of `docker ps`, of an entry of docker's /containers/json."""
    from ocirt.manager.cli.human import ago, size, stamp
    from ocirt.manager.cli.images import cut

    command = one["Command"] if whole else cut(one["Command"], _LONGEST)
    labels = one["Labels"] or {}
    written = one.get("SizeRw")
    mounts = [str(mount.get("Name") or mount.get("Source") or "") for mount in one["Mounts"]]
    created = int(one["Created"]) * 10**9
    return {
        "ID": one["Id"] if whole else one["Id"][:_SHORT],
        "Image": one["Image"],
        "Command": json.dumps(command, ensure_ascii=False),
        "CreatedAt": stamp(created),
        "RunningFor": ago(created),
        "Ports": ports(one["Ports"]),
        "State": one["State"],
        "Status": one["Status"],
        "Size": "N/A" if written is None else f"{size(written)} (virtual {size(one.get('SizeRootFs') or 0)})",
        "Names": ",".join(name.removeprefix("/") for name in one["Names"]),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Label": lambda key: labels.get(key, ""),
        "Mounts": ",".join(mounts if whole else [cut(name, 15) for name in mounts]),
        "LocalVolumes": str(sum(mount.get("Type") == "volume" for mount in one["Mounts"])),
        "Networks": ",".join(sorted((one.get("NetworkSettings") or {}).get("Networks") or {})),
    }


def ports(found: list[dict[str, Any]]) -> str:
    """As docker writes them: "0.0.0.0:80->8080/tcp, 9000/tcp"."""
    words = []
    for one in found or ():
        inside = f"{one['PrivatePort']}/{one['Type']}"
        words.append(f"{one['IP']}:{one['PublicPort']}->{inside}" if one.get("PublicPort") else inside)
    return ", ".join(words)


def logs(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.cli.human import moment, rfc3339
    from ocirt.manager.containers import logs as kept

    here = site()
    record = find(here, arguments[0])
    now = time.time_ns()
    since, until = (moment(text(values[name]), now) if values[name] else None for name in ("since", "until"))
    wanted: dict[str, Any] = {"follow": bool(values["follow"]), "tail": _tail(text(values["tail"]))}
    if record.document["monitor"].get("log", {}).get("driver") == "none":
        raise ConflictError(f"container {record.name} keeps no log", hint="it was made with --log-driver none")
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    if not values["timestamps"]:
        for chunk in kept.chunks(here, record, since=since, until=until, **wanted):
            out = streams[chunk.stream]
            out.write(chunk.data)
            if values["follow"] or chunk.stream == "stderr":
                out.flush()
        return
    for one in kept.read(here, record, since=since, until=until, **wanted):
        out = streams[one.stream]
        out.write(rfc3339(one.time).encode() + b" " + one.data)
        out.flush()


def _tail(said: str) -> int | None:
    if said == "all":
        return None
    if not said.isdecimal():
        if said[:1] == "-" and said[1:].isdecimal():  # docker's other word for all
            return None
        raise GrammarError(f"--tail {said[:40]!r} is no number of lines", hint="or all")
    return int(said)


def top(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.cli.output import table
    from ocirt.manager.containers import running

    here = site()
    titles, rows = running.top(here, find(here, arguments[0]), arguments[1:] or ["-ef"])
    table(["\t".join(row) for row in (titles, *rows)])


STATS = {
    "Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip


def stats(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers import running

    here, form = site(), text(values["format"])
    again, whole = not values["no_stream"], bool(values["no_trunc"])
    terminal = sys.stdout.isatty() and not form
    before: dict[str, running.Stats] = {}
    usual = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
    while True:
        records = _measured(here, arguments, everything=bool(values["all"]))
        if not before:  # a percentage needs two looks
            before = {record.id: found for record in records if (found := _stats(here, record))}
            time.sleep(_BETWEEN)
        now = {record.id: found for record in records if (found := _stats(here, record))}
        rows = [_usage(record, now.get(record.id), before.get(record.id), whole=whole) for record in records]
        if again and terminal:
            sys.stdout.write("\x1b[H\x1b[2J")
        listing(rows, STATS, form, usual)
        sys.stdout.flush()
        if not again:
            return 0
        before = now
        time.sleep(_BETWEEN)


_BETWEEN = 1.0
"""Seconds."""


def _measured(here: Site, names: list[str], *, everything: bool) -> list[Record]:
    from ocirt.manager.containers import state as states
    from ocirt.manager.containers.records import Records

    known = Records(here.database)
    if names:
        return [known.find(name) for name in names]
    return [record for record in known if everything or states.read(here, record).pid]


def _stats(here: Site, record: Record) -> Stats | None:
    """None of one that does not run (any more)."""
    from ocirt.manager.containers import running

    try:
        return running.stats(here, record)
    except ManagerError:
        return None


def _usage(record: Record, found: Stats | None, before: Stats | None, *, whole: bool) -> dict[str, object]:
    from ocirt.manager.cli.human import binary_size, size

    row: dict[str, object] = {
        **dict.fromkeys(STATS, "--"),
        "Container": record.id[:_SHORT],
        "ID": record.id if whole else record.id[:_SHORT],
        "Name": record.name,
    }
    if found is None:
        return row
    return row | {
        "CPUPerc": f"{found.percent(before) if before else 0:.2f}%",
        "MemUsage": f"{binary_size(found.memory)} / {binary_size(found.limit)}",
        "MemPerc": f"{100 * found.memory / found.limit if found.limit else 0:.2f}%",
        "NetIO": f"{size(found.received)} / {size(found.sent)}",
        "BlockIO": f"{size(found.read)} / {size(found.written)}",
        "PIDs": str(found.pids),
    }


def port(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.containers import inspect

    here = site()
    record = find(here, arguments[0])
    published = (inspect.container(here, record)["NetworkSettings"].get("Ports") or {}).items()
    wanted = (arguments[1] if "/" in arguments[1] else f"{arguments[1]}/tcp") if len(arguments) > 1 else ""
    found = [(inside, one) for inside, ends in sorted(published) for one in ends or () if wanted in ("", inside)]
    if wanted and not found:
        raise MissingError(f"port {wanted} of container {record.name} is not published")
    for inside, one in found:
        address = f"{one['HostIp']}:{one['HostPort']}"
        line(address if wanted else f"{inside} -> {address}")
