"""checkpoint: write what a container's processes are into files, by CRIU, and end them, or let them go on."""

from __future__ import annotations

import os
from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask

from ocirt.cgroups.manager import Cgroups
from ocirt.config.read import parse, read_json
from ocirt.errors import ContainerError, UnsupportedError, UsageError, from_os_error
from ocirt.host import criu_files, criu_mounts
from ocirt.host.criu import Criu, Failed, Request
from ocirt.host.criu_wire import CGROUP_MODES, DUMP, PRE_DUMP
from ocirt.host.enter import foreign_namespaces
from ocirt.host.launch import ENDING
from ocirt.plan.kernel import CLONE_NEWNET, CLONE_NEWNS
from ocirt.runtime.criu import (
    Folders,
    Wishes,
    config_file,
    external_namespaces,
    refuse_without_rights,
    text_of,
)
from ocirt.runtime.delete import destroy, end
from ocirt.state.process import status_field
from ocirt.state.status import CREATED, CREATING, STOPPED, status_of
from ocirt.state.store import CONFIG, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirt.state.store import Entry

DUMP_LOG = "dump.log"


class Dump(Wishes):
    """The wishes of a checkpoint.

    pre_dump      only the memory, and the container goes on: the next one, with `parent`, writes what has changed
    parent        the folder of an earlier pre-dump, relative to `images`, as CRIU wants it
    page_server   (address, port) of a `criu page-server` that gets the memory
    status_fd     a descriptor of ours that gets a zero byte when lazy pages can be fetched; -1: none
    """

    def __init__(
        self,
        *args: Any,
        pre_dump: bool = False,
        parent: str = "",
        page_server: tuple[str, int] | None = None,
        status_fd: int = -1,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.pre_dump = pre_dump
        self.parent = parent
        self.page_server = page_server
        self.status_fd = status_fd
        if parent.startswith("/"):
            raise UsageError("--parent-path must be relative", hint="it counts from --image-path")

    @property
    def goes_on(self) -> bool:
        return self.pre_dump or "leave_running" in self.switches

    def options(self) -> dict[str, Any]:
        options = super().options()
        if self.parent:
            options |= {"parent_img": self.parent, "track_mem": True}
        if self.pre_dump:
            options["track_mem"] = True
        if self.page_server:
            options["ps"] = {"address": self.page_server[0], "port": self.page_server[1]}
        return options


def checkpoint(
    root: str, container_id: str, wishes: Dump, *, committed: Callable[[], object] | None = None
) -> list[str]:
    """Returns warnings. With `leave_running` or `pre_dump` the container goes on, else it is gone, as with runc: all
    but its root file system is in the images, and `restore` makes it anew.

    Raises Error: then the container runs as before, and no image files are left. committed: is called when the images
    are complete; what a signal handler raises undoes nothing after that.
    """
    refuse_without_rights("checkpoint")
    store = Store(root)
    with store.lock(container_id) as entry:
        known = store.read(container_id)
        status = status_of(known, entry.folder)
        if status in (CREATED, CREATING, STOPPED):
            raise ContainerError(
                f'container not running: "{container_id}" is {status}', hint="only a running one has something to save"
            )
        criu = Criu(wishes.criu)
        criu.check()
        if wishes.pre_dump:
            criu.require("mem_track", "--pre-dump")
        if "lazy_pages" in wishes.switches:
            criu.require("lazy_pages", "--lazy-pages")
        # A signal that asks us to end waits: processes that are half dumped would stay half stopped. But with lazy
        # pages CRIU waits for another, maybe for ever.
        before = pthread_sigmask(SIG_BLOCK, () if "lazy_pages" in wishes.switches else ENDING)
        try:
            dumping = Dumping(known, entry, wishes, criu)
            warnings = dumping.warnings()
            dumping.dump()
            if committed:
                committed()
            if wishes.goes_on:
                return warnings
            end(known)
            return warnings + destroy(known, entry, kill=True)
        finally:
            pthread_sigmask(SIG_SETMASK, before)


class Dumping:
    """One dump of one container."""

    def __init__(self, known: dict[str, Any], entry: Entry, wishes: Dump, criu: Criu) -> None:
        self.known = known
        self.wishes = wishes
        self.criu = criu
        self.pid: int = known["pid"]
        self.spec: dict[str, Any] = parse(read_json(f"{entry.folder}/{CONFIG}", folder=entry.fd))
        self.cgroups = Cgroups.from_state(known["cgroups"])
        try:
            namespaces = foreign_namespaces(self.pid)
        except OSError as error:
            raise from_os_error(error, "look at the container's namespaces") from None
        if not namespaces & CLONE_NEWNS:
            raise UnsupportedError("a container without a mount namespace of its own cannot be checkpointed")

    def warnings(self) -> list[str]:
        """About those whose parent is outside: CRIU follows the first process's children."""
        pids = self.cgroups.processes()
        strangers = [pid for pid in pids if pid != self.pid and _parent(pid) not in (None, *pids)]
        if not strangers:
            return []
        return [
            f"not saved, because `exec` has put them into the container: processes {', '.join(map(str, strangers))}"
        ]

    def dump(self) -> None:
        wishes = self.wishes
        if wishes.parent and not os.path.isdir(f"{wishes.images}/{wishes.parent}"):
            raise UsageError(f"--parent-path {wishes.parent}: there is no such folder in {wishes.images}")
        with Folders(wishes, make=True) as folders:
            freezer = self.cgroups.freezer
            frozen = freezer is not None and freezer.is_asked()
            try:
                options = {**folders.options(), **self.options()}
                message = {"type": PRE_DUMP if wishes.pre_dump else DUMP, "opts": options}
                Request(self.criu, message).finish(self._notified)
            except BaseException as error:
                folders.undo()
                if freezer and not frozen and freezer.is_asked():
                    freezer.thaw()
                if isinstance(error, Failed):
                    raise error.error(
                        f'checkpoint "{self.known["id"]}"', wishes.log(DUMP_LOG), hint="it runs as before"
                    ) from None
                raise

    def options(self) -> dict[str, Any]:
        freezer = self.cgroups.freezer
        options = {
            **self.wishes.options(),
            "log_file": DUMP_LOG,
            "pid": self.pid,
            "root": self.known["rootfs"],
            "freeze_cgroup": freezer.folder if freezer else None,
            "empty_ns": CLONE_NEWNET,  # the engine sees to the network, or the configuration does
            "config_file": config_file(self.known["annotations"]),
            "external": external_namespaces(self.spec, self.pid),
            **cgroup_options(self.cgroups),
        }
        if not self.wishes.pre_dump:
            options["external"] += self._mounts() + self._files()
        return options

    def _mounts(self) -> list[str]:
        text = text_of(f"/proc/{self.pid}/mountinfo")
        root = os.open(f"/proc/{self.pid}/root", os.O_PATH | os.O_CLOEXEC)
        try:
            keys = criu_mounts.external(self.spec, criu_mounts.parse(text), criu_mounts.found_in(root))
        finally:
            os.close(root)
        return [f"mnt[{point}]:{key}" for point, key in keys.items()]

    def _files(self) -> list[str]:
        mounts = [int(line.split(" ", 1)[0]) for line in text_of(f"/proc/{self.pid}/mountinfo").splitlines()]
        keys = criu_files.keys(criu_files.look(self.pid), mounts)
        criu_files.write(self.wishes.images, keys)
        return criu_files.external(keys)

    def _notified(self, script: str, pid: int, fd: int) -> None:
        if fd >= 0:
            os.close(fd)
        if script == "status-ready" and self.wishes.status_fd >= 0:
            try:
                os.write(self.wishes.status_fd, b"\0")
                os.close(self.wishes.status_fd)
            except OSError as error:
                raise from_os_error(error, "write to the descriptor of --status-fd") from None


def _parent(pid: int) -> int | None:
    """None if the process is gone."""
    try:
        return int(status_field(pid, "PPid"))
    except OSError:
        return None


def cgroup_options(cgroups: Cgroups) -> dict[str, Any]:
    """In a hierarchy that is not the container's its processes are where the caller was, such as in the root: of that
    CRIU would save all, and make what has gone meanwhile anew."""
    if not cgroups.places:
        return {"manage_cgroups_mode": CGROUP_MODES["ignore"]}
    return {"cgroup_dump_controller": [",".join(controllers) for _, controllers, _, _, _ in cgroups.places]}
