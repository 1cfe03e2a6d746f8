"""mounts add, mounts remove: change what is mounted in a container that is there already, as crun's experimental verbs.

All of an addition is made or, after an error, taken back. Neither is written down: a container that is made anew from
its bundle has what config.json says.
"""

from __future__ import annotations

import posix
from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask

from ocirt.cgroups.layout import mount_point, read
from ocirt.cgroups.manager import Cgroups
from ocirt.config.check import check_mount
from ocirt.config.read import Config, parse, placed, read_json
from ocirt.config.shape import MOUNTS, check_shape
from ocirt.errors import ConfigError, ContainerError, Error, UnsupportedError, from_os_error
from ocirt.host.enter import Container, facts_to_enter
from ocirt.host.facts import bind_sources, user_maps
from ocirt.host.image import init_image
from ocirt.host.launch import ENDING, Init
from ocirt.plan.encode import encode
from ocirt.plan.enter import inherited_to_enter
from ocirt.plan.enter_mounts import compile_addition, compile_removal
from ocirt.plan.kernel import CLONE_NEWNS
from ocirt.plan.paths import parts_of
from ocirt.plan.tags import FD_COPY_FROM, FD_COPY_TO, FD_ROOT, SYNC_COPY, SYNC_READY
from ocirt.plan.verify_enter_mounts import verify_mounts
from ocirt.runtime.copied import config_text
from ocirt.state.status import CREATING, STOPPED, status_of
from ocirt.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ocirt.plan.step import Plan, Slot

_NO_CGROUPS = Cgroups(())
"""It works for the host, not for the container: its limits do not count."""


def add_mounts(root: str, container_id: str, file: str) -> list[str]:
    """Make the mounts of `file`, a JSON array as config.json's "mounts", relative sources counting from the bundle.

    Returns warnings. Raises Error, with the place in `file`; then none of them is there, but for what a "remount"
    changed, and for new, empty mount points.
    """
    return _Work(root, container_id, file).add()


def remove_mounts(root: str, container_id: str, file: str) -> None:
    """Take off what is mounted on each `destination` of `file`, a JSON array; other properties may be there.

    Raises Error; before anything happens, if nothing is mounted on one of them.
    """
    _Work(root, container_id, file).remove()


class _Work:
    def __init__(self, root: str, container_id: str, file: str) -> None:
        store = Store(root)
        self.known = store.read(container_id)
        status = status_of(self.known, store.folder(container_id))
        if status in (STOPPED, CREATING):
            raise ContainerError(f'container not running: "{container_id}" is {status}')
        self.file = file
        self.text = read_json(file)
        text = config_text(store, container_id)
        self.own = Config(parse(text), text, self.known["bundle"], self.known.get("config") or "")
        try:
            mounts = parse(self.text)
            if type(mounts) is not list:
                raise ConfigError('expected an array, as the "mounts" of config.json', pointer="/mounts")
            self.config = Config({**self.own.spec, "mounts": mounts}, self.text, self.known["bundle"], file)
            check_shape(mounts, MOUNTS, ("mounts",))
        except Error as error:
            raise self._placed(error) from None
        self._check_namespace()

    def _check_namespace(self) -> None:
        for index, namespace in enumerate((self.own.spec.get("linux") or {}).get("namespaces") or ()):
            if namespace["type"] == "mount":
                if not namespace.get("path"):
                    return
                pointer = f"/linux/namespaces/{index}/path"
                break
        else:
            pointer = "/linux/namespaces"
        error = UnsupportedError("the container has no mount namespace of its own", pointer=pointer)
        raise placed(error, self.own.path, self.own.text)

    def add(self) -> list[str]:
        descriptors: dict[str, int] = {}
        try:
            for index, mount in enumerate(self.config.spec["mounts"]):
                check_mount(mount, f"/mounts/{index}", self.config)
            directories, symlinks = bind_sources(self.config)
            maps = user_maps(self.config, descriptors)
            with _Entered(self.known, descriptors) as entered:
                facts = facts_to_enter(self.config, self.known["id"], as_program=False)
                facts.directories, facts.symlinks, facts.user_maps = directories, symlinks, maps
                if facts.unprivileged:
                    from ocirt.host.locked import kept_flags

                    facts.kept = kept_flags(self.config, directories)
                plan, warnings = compile_addition(self.config, facts, entered.container.entrance)
                agent = _Agent(self.config, plan, directories)
                try:
                    agent.work(inherited_to_enter(entered.container.entrance, facts), entered.descriptors)
                except BaseException as error:
                    self._take_back(agent.attached(), error)
                    raise
        except Error as error:
            raise self._placed(error) from None
        finally:
            for fd in descriptors.values():
                posix.close(fd)
        return self.config.warnings + warnings

    def _take_back(self, mounts: list[dict[str, Any]], error: BaseException) -> None:
        if not mounts:
            return
        try:
            self._remove(mounts[::-1])
        except Error as second:
            if isinstance(error, Error):
                also = f"and then: {second}: what was mounted before it stays"
                error.hint = f"{error.hint}; {also}" if error.hint else also

    def remove(self) -> None:
        mounts = self.config.spec["mounts"]
        try:
            self._check_removal(mounts)
            self._remove(mounts)
        except Error as error:
            raise self._placed(error) from None

    def _check_removal(self, mounts: list[dict[str, Any]]) -> None:
        linux = self.own.spec.get("linux") or {}
        hiding = {_normal(path) for kind in ("maskedPaths", "readonlyPaths") for path in linux.get(kind) or ()}
        there = _mounted(self.known["pid"])
        for index, mount in enumerate(mounts):
            pointer, place = f"/mounts/{index}/destination", _normal(mount["destination"])
            if place == "/":
                raise ConfigError("the root stays", pointer=pointer)
            if place in hiding:
                raise ConfigError(f"what is mounted on {place} hides or protects what is below", pointer=pointer)
            if place not in there:
                hint = "a destination is named without symlinks: see /proc/self/mountinfo in the container"
                raise ConfigError(f"nothing is mounted on {place}", pointer=pointer, hint=hint)

    def _remove(self, mounts: list[dict[str, Any]]) -> None:
        config = Config({**self.own.spec, "mounts": mounts}, "", self.own.bundle)
        with _Entered(self.known, {}) as entered:
            facts = facts_to_enter(config, self.known["id"], as_program=False)
            plan = compile_removal(config, facts, entered.container.entrance)
            _Agent(config, plan, {}).work(inherited_to_enter(entered.container.entrance, facts), entered.descriptors)

    def _placed(self, error: Error) -> Error:
        if error.place or error.pointer is None:
            return placed(error, self.file, self.text)
        if error.pointer.startswith("/mounts"):
            error.pointer = error.pointer[len("/mounts") :]
            return placed(error, self.file, self.text)
        return placed(error, self.own.path, self.own.text)


class _Entered:
    """How to get into the container, open for as long as the `with` lasts."""

    def __init__(self, known: dict[str, Any], descriptors: Mapping[str, int]) -> None:
        self.container = Container(known["pid"], known["pidStart"], _NO_CGROUPS)
        self.descriptors = {**self.container.descriptors, **descriptors}
        if not self.container.entrance.namespaces & CLONE_NEWNS:
            self.container.close()
            raise UnsupportedError("the container is in our own mount namespace", pointer="/linux/namespaces")

    def __enter__(self) -> _Entered:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()


class _Agent:
    """The process that goes in and mounts."""

    def __init__(self, config: Config, plan: Plan, directories: Mapping[str, bool]) -> None:
        verify_mounts(plan)
        self.config = config
        self.directories = directories
        self.init = Init(plan, encode(plan))
        self._filling: list[int] = []

    def work(self, numbers: Mapping[str, int], descriptors: Mapping[str, int]) -> None:
        """Returns when it has ended. Raises Error for what it could not do."""
        before = pthread_sigmask(SIG_BLOCK, ENDING)
        try:
            try:
                self.init.spawn(init_image(), numbers, descriptors, (0, 1, 2))
            except OSError as error:
                error.filename = None  # a descriptor's
                raise from_os_error(error, "start the process that mounts") from None
            self.init.follow(self, until=SYNC_READY)
        finally:
            self.init.kill()
            self.init.restore_mask()
            pthread_sigmask(SIG_SETMASK, before)

    def attached(self) -> list[dict[str, Any]]:
        """The mounts that were there when it failed."""
        steps = self.init.plan.steps[: self.init.failed]
        pointers = [step.pointer for step in steps if step.call == "move_mount"]
        return [self.config.spec["mounts"][int(pointer.rpartition("/")[2])] for pointer in pointers]

    # What init tells us while we follow it (host.launch.Host).

    def started(self, pid: int) -> None:
        """It stays in the caller's cgroups."""

    def received(self, tag: int, fd: int) -> None:
        assert tag in (FD_COPY_FROM, FD_COPY_TO, FD_ROOT)
        self._filling.append(fd)

    def meet(self, tag: int) -> Mapping[Slot, bytes]:
        if tag >= SYNC_COPY:
            from ocirt.host.mounting import help_with

            help_with(
                self.config.spec["mounts"],
                tag,
                self.init.pid,
                self._filling,
                self.directories,
                unprivileged=self.init.plan.unprivileged,
            )
        return {}


def _normal(path: str) -> str:
    return "/" + "/".join(parts_of(path))


def _mounted(pid: int) -> set[str]:
    """Where something is mounted, as the container sees it."""
    try:
        lines = read(f"/proc/{pid}/mountinfo").splitlines()
    except OSError as error:
        raise from_os_error(error, "read the container's mounts") from None
    return {mount_point(line) for line in lines}
