"""A container's folder made ready to start: its root file system mounted, volumes filled, files for names, config.json.

Everything that a reboot or the container's end takes away is made anew each time.
"""

from __future__ import annotations

import os
from pathlib import Path

from ocirt.manager import documents
from ocirt.manager.containers import etc, mounts, specification, users, within
from ocirt.manager.containers.records import Records
from ocirt.manager.errors import ConflictError, ManagerError, MissingError
from ocirt.manager.volumes import Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.manager.containers.records import Record
    from ocirt.manager.site import Site

_INITS = ("docker-init", "tini-static", "catatonit", "tini")
_PLACES = ("/usr/libexec/podman", "/usr/libexec/docker", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")


def prepare(site: Site, record: Record) -> Path:
    """Make it ready. Returns the bundle, containers/ID. To be called with the container's lock held, while it does not
    run. Raises ManagerError.
    """
    folder = site.container(record.id)
    first = not (folder / "config.json").exists()
    size = record.document["host"].get("StorageOpt", {}).get("size")
    target = site.snapshots.mount(record.id, record.document["snapshots"], folder / "rootfs", _bytes(size))
    try:
        config = compiled(site, record, target, first=first)
        written = folder / "config.json.new"
        written.write_bytes(documents.encode(config))
        written.rename(folder / "config.json")
    except OSError as error:
        site.snapshots.unmount(record.id)
        raise ManagerError(f"prepare {record.name}: {error.strerror}", errno=error.errno or 0) from error
    except BaseException:
        site.snapshots.unmount(record.id)
        raise
    return folder


def _bytes(size: str | None) -> int | None:
    from ocirt.manager.containers.values import size as parsed

    return None if size is None else parsed("storage-opt", size)


def compiled(site: Site, record: Record, rootfs: Path, *, first: bool = False) -> dict[str, Any]:
    """config.json of a container whose root file system is at `rootfs`; what it needs of files is made.

    first: whether its volumes may get what the image has at their places. Raises ManagerError, OSError.
    """
    document = record.document
    config, host = document["config"], document["host"]
    folder, volumes = site.container(record.id), Volumes(site)
    root = within.opened(rootfs)
    try:
        user = users.resolve(root, config["User"], host["GroupAdd"] or (), "--user" if config["User"] else "USER")
        if config["WorkingDir"]:
            os.close(within.make_folder(root, config["WorkingDir"]))
        if first:
            _fill(volumes, document, root)
    finally:
        os.close(root)
    rootless = specification.in_user_namespace()
    shm = _shm(site, record)
    files = etc.write(folder, record.id, document)
    found = specification.Found(
        user=user,
        mounts=mounts.compiled(document, files, shm, volumes, rootless=rootless),
        hostname=etc.hostname(record.id, document),
        init=init() if host.get("Init") else "",
        namespaces=_joined(site, document),
        rootless=rootless,
    )
    return specification.config(record.id, document, found)


def _fill(volumes: Volumes, document: dict[str, Any], root: int) -> None:
    for point in document["mounts"]:
        if point["Type"] != "volume" or point.get("NoCopy"):
            continue
        try:
            source = within.folder(root, point["Destination"])
        except OSError:
            continue  # the image has nothing there, or no folder
        try:
            volumes.fill(volumes.find(point["Name"]), source)
        finally:
            os.close(source)


def _shm(site: Site, record: Record) -> str:
    """The folder that is /dev/shm where others may share it, "" for a tmpfs of its own. The run folder is a tmpfs."""
    mode = record.document["host"]["IpcMode"]
    owner = record.id if mode == "shareable" else mode.removeprefix("container:")
    if mode != "shareable" and not mode.startswith("container:"):
        return ""
    path = site.run / owner / "shm"
    if mode == "shareable":
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o1777)
    return str(path)


def _joined(site: Site, document: dict[str, Any]) -> dict[str, str]:
    """The namespaces of other containers, by their first process. Raises ConflictError where one does not run."""
    host, found = document["host"], {}
    for kind, name, mode in (
        ("network", "net", host["NetworkMode"]),
        ("ipc", "ipc", host["IpcMode"]),
        ("pid", "pid", host["PidMode"]),
    ):
        if mode.startswith("container:"):
            found[kind] = f"/proc/{running(site, mode.removeprefix('container:'))}/ns/{name}"
    return found


def running(site: Site, container_id: str) -> int:
    """The pid of a container's first process. Raises MissingError, ConflictError (it does not run)."""
    from ocirt.manager.containers import state

    other = Records(site.database).find(container_id)
    pid = state.read(site, other).pid
    if not pid:
        raise ConflictError(f"{other.name}, whose namespace is to be joined, does not run", hint="start it first")
    return int(pid)


def init() -> str:
    """A program to be process 1, which reaps and passes signals on: the first of tini's and catatonit's that is
    installed and linked statically, for the container may have no libraries. Raises MissingError."""
    import shutil

    for name in _INITS:
        found = shutil.which(name, path=os.pathsep.join((*_PLACES, os.environ.get("PATH", ""))))
        if found and _static(found):
            return os.path.realpath(found)
    raise MissingError("--init: there is none here", hint="install catatonit, or docker-init (tini-static)")


def _static(path: str) -> bool:
    """Whether an ELF file of 64 bits names no interpreter (elf(5): PT_INTERP is 3)."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if head[:5] != b"\x7fELF\x02":
        return False
    offset, size, count = (int.from_bytes(head[at : at + n], "little") for at, n in ((32, 8), (54, 2), (56, 2)))
    kinds = (head[offset + number * size :][:4] for number in range(count))
    return all(int.from_bytes(kind, "little") != 3 for kind in kinds)
