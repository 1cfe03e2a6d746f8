"""What checkpoint and restore have in common: what a caller may ask of CRIU, and the folders."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

from ocirt.errors import Error, UnsupportedError, UsageError, from_os_error
from ocirt.host import criu_files
from ocirt.host.criu import LOG_LEVEL
from ocirt.host.criu_wire import CGROUP_MODES, NETWORK_LOCKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

CRIU_CONFIG = "org.criu.config"
"""The annotation that names a file with more options of CRIU's for a container; "": none (runc's and crun's)."""
CRIU_CONFIGS = ("/etc/criu/ocirt.conf", "/etc/criu/runc.conf")
"""Where such options are for all containers: the first that is there."""
SWITCHES = (
    *("leave_running", "ext_unix_sk", "tcp_established", "tcp_skip_in_flight", "tcp_close", "shell_job", "file_locks"),
    *("link_remap", "auto_dedup", "lazy_pages"),
)
"""Options that CRIU has by the same name, and that are on or off."""


class Wishes:
    """What a caller may say about a checkpoint or a restore beside the container. Raises UsageError.

    images        the folder of the image files
    work          that of logs and statistics; "": the same
    cgroups       how CRIU treats cgroups, one of CGROUP_MODES; "": soft, which changes none that is there
    network_lock  how it keeps packets away meanwhile, one of NETWORK_LOCKS; "": its own choice
    switches      those of SWITCHES that are on
    criu          the executable; "": the one in PATH
    """

    def __init__(
        self,
        images: str,
        work: str = "",
        *,
        cgroups: str = "",
        network_lock: str = "",
        switches: Sequence[str] = (),
        criu: str = "",
    ) -> None:
        self.images = str(Path(images).absolute())
        self.work = str(Path(work).absolute()) if work else ""
        self.cgroups = _one_of("--manage-cgroups-mode", cgroups, CGROUP_MODES, "soft")
        self.network_lock = _one_of("--network-lock", network_lock, NETWORK_LOCKS, "")
        self.switches = tuple(switches)
        self.criu = criu

    def options(self) -> dict[str, Any]:
        """criu_opts, as far as it follows from this."""
        options: dict[str, Any] = dict.fromkeys(self.switches, True)
        options |= {
            "log_level": LOG_LEVEL,
            "notify_scripts": True,
            "orphan_pts_master": True,
            "manage_cgroups_mode": self.cgroups,
        }
        if self.network_lock is not None:
            options["network_lock"] = self.network_lock
        return options

    def log(self, name: str) -> str:
        return f"{self.work or self.images}/{name}"


def _one_of(flag: str, text: str, numbers: dict[str, int], default: str) -> int | None:
    if text and text not in numbers:
        raise UsageError(f'{flag}: expected {" or ".join(numbers)}, got "{text}"')
    return numbers.get(text or default)


class Folders:
    """The folders of image files and logs, open, for CRIU."""

    def __init__(self, wishes: Wishes, *, make: bool) -> None:
        self.images = -1
        self.work = -1
        self._made: list[str] = []
        self._before: set[str] = set()
        self._path = wishes.images
        try:
            if make:
                self._make(wishes.images)
            self.images = _open_folder(wishes.images)
            self._before = set(os.listdir(self.images))
            if wishes.work:
                self._make(wishes.work)
                self.work = _open_folder(wishes.work)
        except BaseException:
            self.close()
            raise

    def _make(self, path: str) -> None:
        missing = []
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                continue
            except OSError as error:
                raise from_os_error(error, f"create {folder}") from None
            self._made.append(folder)

    def options(self) -> dict[str, Any]:
        return {"images_dir_fd": self.images, "work_dir_fd": self.work if self.work >= 0 else None}

    @contextmanager
    def searchable(self, needed: bool) -> Iterator[None]:
        """In a user namespace CRIU is no longer who may look for files in the images' folder, and does so all the same;
        the files themselves stay closed to others."""
        mode = os.fstat(self.images).st_mode & 0o7777
        if not needed or mode & 1:
            yield
            return
        os.fchmod(self.images, mode | 1)
        try:
            yield
        finally:
            os.fchmod(self.images, mode)

    def undo(self) -> None:
        """Remove the image files that were not there before: half of them are of no use. Logs stay, for errors name
        them."""
        for name in set(os.listdir(self.images)) - self._before:
            if name.endswith(".img") or name in (criu_files.DESCRIPTORS, "parent"):
                os.unlink(name, dir_fd=self.images)
        for folder in reversed(self._made):
            try:
                os.rmdir(folder)
            except OSError:
                continue  # a log is in it

    def close(self) -> None:
        for fd in (self.images, self.work):
            if fd >= 0:
                os.close(fd)
        self.images = self.work = -1

    def __enter__(self) -> Folders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_folder(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, f"open {path}") from None


def refuse_without_rights(verb: str) -> None:
    """CRIU looks into processes and makes them by their numbers, which needs the rights of the host's root: it has no
    way yet for a user who is root in a user namespace alone."""
    mapped = text_of("/proc/self/uid_map").split()
    if os.geteuid() != 0 or mapped != ["0", "0", "4294967295"]:
        raise UnsupportedError(
            f"{verb} needs the host's root: CRIU cannot do it for a user, or in a user namespace", hint="use sudo"
        )


def external_namespaces(spec: dict[str, Any], pid: int) -> list[str]:
    """The network and pid namespaces that the container, whose first process this is, has joined by their path: CRIU
    leaves them as they are. The path itself may be gone by now."""
    found = []
    for one in (spec.get("linux") or {}).get("namespaces") or ():
        if one.get("path") and one["type"] in EXTERNAL:
            short, key = EXTERNAL[one["type"]]
            try:
                inode = os.stat(f"/proc/{pid}/ns/{short}").st_ino
            except OSError as error:
                raise from_os_error(error, f"look at the container's {one['type']} namespace") from None
            found.append(f"{short}[{inode}]:{key}")
    return found


EXTERNAL = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
"""kind → (CRIU's name of it, the key that stands for the container's)."""


def config_file(annotations: dict[str, str]) -> str | None:
    if CRIU_CONFIG in annotations:
        return annotations[CRIU_CONFIG] or None
    return next((path for path in CRIU_CONFIGS if os.path.exists(path)), None)


def text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise from_os_error(error, f"read {path}") from None


def check_images(folder: str) -> None:
    """Raises Error unless it holds what a finished dump leaves."""
    if not os.path.isdir(folder):
        raise Error(f"{folder}: there is no such folder", hint="see --image-path")
    if not os.path.exists(f"{folder}/inventory.img"):
        raise Error(f"{folder} holds no checkpoint: there is no inventory.img", hint="see --image-path")
