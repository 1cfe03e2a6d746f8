"""Containers are made, renamed and removed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from ocirt.manager import documents
from ocirt.manager.containers import confinement, image_config, mounts, specification
from ocirt.manager.containers import values as v
from ocirt.manager.containers.options import STOP_TIMEOUT
from ocirt.manager.containers.records import Record, Records, new_id
from ocirt.manager.errors import ConflictError, ManagerError, MissingError
from ocirt.manager.store.leases import Lease
from ocirt.manager.volumes import ANONYMOUS, Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.options import Options
    from ocirt.manager.site import Site

LOG_SIZE, LOG_FILES = 10_000_000, 5
_SIGNALS = {name: number for number, name in enumerate(v._SIGNALS, 1)}


def create(site: Site, image: str | None, options: Options, command: Sequence[str] = ()) -> Record:
    """Make a container of an image that is here; its layers are unpacked, if they are not yet. None: of nothing.

    What cannot work is refused, and then leaves nothing but volumes that were named and folders that --volume asked
    for. Raises MissingError (no such image), GrammarError, ConflictError, ManagerError.
    """
    records = Records(site.database)
    host = _host(site, records, options)
    with Lease(site.database) as lease:
        own: dict[str, Any] = {}
        about: dict[str, str] | None = None
        manifest, snapshots = "", tuple[str, ...]()
        if image is not None:
            stored = site.images.find(image)
            platform = documents.platform(options.platform) if options.platform else documents.host_platform()
            parsed, target = site.images.manifest(stored.target, platform)
            own = image_config.read(site.blobs, parsed.config)
            about, manifest = {"id": parsed.config.digest, "name": image, "platform": str(platform)}, target.digest
            snapshots = site.snapshots.unpack(target, lease)
        config = image_config.merge({**options.config, "Image": image or ""}, own, list(command))
        container_id = new_id()
        # What config.json would be refused for is refused now.
        confinement.filter_of(host, confinement.capabilities(host))
        specification.check_sysctls(host)
        before = {volume.name for volume in Volumes(site)}
        points = mounts.points(site, records, config, host)
        if not config["Hostname"] and host["NetworkMode"] == "none":
            config["Hostname"] = container_id[:12]
        document = {
            "config": config,
            "host": host,
            "image": about,
            "snapshots": list(snapshots),
            "mounts": points,
            "monitor": monitor(config, host),
        }
        name = options.name or records.free_name()
        record = Record(container_id, name, manifest, time.time_ns(), document)
        try:
            _keep(site, records, record)
        except BaseException:
            _forget(site, record)
            _drop_volumes(site, [p for p in points if p.get("Name") and p["Name"] not in before])
            raise
    return record


def _keep(site: Site, records: Records, record: Record) -> None:
    """The row, then the folder: what has no row would be nobody's."""
    with site.database.write() as transaction:
        for point in record.document["mounts"]:
            name = point.get("Name")
            if name and transaction.execute("select 1 from volumes where name = ?", (name,)).fetchone() is None:
                raise ConflictError(f"the volume {name} was removed meanwhile")
        records.insert(transaction, record)
    site.snapshots.prepare(record.id, record.document["snapshots"])
    folder = site.container(record.id)
    (folder / "rootfs").mkdir(mode=0o700, exist_ok=True)


def _forget(site: Site, record: Record) -> None:
    site.snapshots.remove(record.id)
    Records(site.database).remove(record.id)


def _host(site: Site, records: Records, options: Options) -> dict[str, Any]:
    """HostConfig with the names of other containers made ids, and checked against them."""
    host = dict(options.host)
    for key in ("NetworkMode", "IpcMode", "PidMode"):
        mode = host[key]
        if mode.startswith("container:"):
            other = records.find(mode.removeprefix("container:"))
            host[key] = f"container:{other.id}"
            if key == "IpcMode" and other.document["host"]["IpcMode"] != "shareable":
                raise ConflictError(f"--ipc {mode}: its IPC is its own", hint="it would have to have --ipc shareable")
            if key == "NetworkMode" and other.document["host"]["NetworkMode"].startswith("container:"):
                raise ConflictError(f"--network {mode}: it has the network of another itself", hint="name that one")
    if host["IpcMode"] == "shareable" and host["ShmSize"] != options_shm():
        raise ConflictError(
            "--ipc shareable and --shm-size are against each other", hint="the run folder's size counts"
        )
    if host["IpcMode"] == "" or host["NetworkMode"] in ("", "default"):
        host |= {"IpcMode": host["IpcMode"] or "private", "NetworkMode": "none"}
    return host


def options_shm() -> int:
    """The size of /dev/shm unless another was asked for."""
    from ocirt.manager.containers.options import SHM_SIZE

    return SHM_SIZE


def monitor(config: dict[str, Any], host: dict[str, Any]) -> dict[str, Any]:
    """What the process beside the container is told."""
    health = config.get("Healthcheck")
    told = None
    if health and health.get("Test") and health["Test"] != ["NONE"]:
        told = {
            "test": health["Test"],
            "interval": health.get("Interval") or 30 * 10**9,
            "timeout": health.get("Timeout") or 30 * 10**9,
            "start_period": health.get("StartPeriod") or 0,
            "start_interval": health.get("StartInterval") or 5 * 10**9,
            "retries": health.get("Retries") or 3,
        }
    log, restart = host["LogConfig"], host["RestartPolicy"]
    given = log["Config"] or {}
    stop_timeout = config.get("StopTimeout")
    return {
        "tty": bool(config["Tty"]),
        "open_stdin": bool(config["OpenStdin"]),
        "stdin_once": bool(config["StdinOnce"]),
        "stop_signal": signal_number(config.get("StopSignal") or "SIGTERM"),
        "stop_timeout": STOP_TIMEOUT if stop_timeout is None else stop_timeout,
        "restart": {"policy": restart["Name"] or "no", "most": restart["MaximumRetryCount"]},
        "health": told,
        "log": {
            "driver": "none" if log["Type"] == "none" else "file",
            "max_size": v.size("log-opt max-size", given["max-size"]) if "max-size" in given else LOG_SIZE,
            "max_file": int(given.get("max-file", LOG_FILES)),
        },
        "auto_remove": bool(host["AutoRemove"]),
    }


def signal_number(text: str) -> int:
    """ "SIGTERM", "term", "15", "SIGRTMIN+3": signal(7)'s number. Raises GrammarError."""
    name = v.signal("signal", text).upper().removeprefix("SIG")
    if name.isdecimal():
        return int(name)
    if name in _SIGNALS:
        return _SIGNALS[name]
    lowest, highest = 34, 64  # as glibc has them
    return lowest + int(name[6:] or 0) if name.startswith("RTMIN") else highest - int(name[6:] or 0)


def rename(site: Site, record: Record, name: str) -> Record:
    """Raises GrammarError, ConflictError, MissingError."""
    return Records(site.database).rename(record, name)


def remove(site: Site, record: Record, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container with all that it wrote; `force`: also one that runs. volumes: those too that nobody named.

    Until the end it has its row, so that one whose removal was killed can be removed again. Raises ConflictError (it
    runs), ManagerError.
    """
    from ocirt.manager.containers import lifecycle, state

    now = state.read(site, record)
    if now.status in ("running", "paused", "restarting"):
        if not force:
            raise ConflictError(f"{record.name} is {now.status}", hint="ocim stop it first, or rm --force")
        lifecycle.stop(site, record, 0)
    with state.locked(site, record):
        lifecycle.clean(site, record)
        site.snapshots.unmount(record.id)
        site.snapshots.remove(record.id)
        _run_folder(site, record.id)
        Records(site.database).remove(record.id)
    if volumes:
        _drop_volumes(site, record.document["mounts"])


def _run_folder(site: Site, container_id: str) -> None:
    from ocirt.manager.snapshots import trees

    try:
        descriptor = os.open(site.run, trees.FOLDER)
    except FileNotFoundError:
        return
    try:
        trees.remove(descriptor, container_id)
    except OSError as error:
        raise ManagerError(f"remove {site.run / container_id}: {error.strerror}", errno=error.errno or 0) from error
    finally:
        os.close(descriptor)


def _drop_volumes(site: Site, points: Sequence[dict[str, Any]]) -> None:
    """Those without a name that no other container has."""
    volumes = Volumes(site)
    for point in points:
        if point["Type"] != "volume":
            continue
        try:
            if ANONYMOUS in volumes.find(point["Name"]).labels:
                volumes.remove(point["Name"])
        except (MissingError, ConflictError):
            continue
