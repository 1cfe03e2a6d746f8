"""One value in one file of a container's cgroup, and writing many of them."""

from __future__ import annotations

import posix

from ocirt.cgroups.files import write
from ocirt.cgroups.layout import exists, read
from ocirt.errors import EACCES, EBUSY, EINVAL, ENODEV, ENOENT, EOPNOTSUPP, ERANGE, Error, KernelError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Setting:
    """`value` for `file` of the cgroup `folder`, because of the value at `pointer`.

    instead   another file and its value, for a kernel that does not have `file`
    default   is it what the kernel does anyway? Then a file that is not there is no problem
    obsolete  do newer kernels have the file without effect, or refuse to write it? Then that is none either
    beyond    a file whose number must not be above the value: what is in use, where the kernel would kill for it
    lines     is each line of the value a write of its own?
    running   does the program run already?
    """

    __slots__ = ("beyond", "default", "file", "folder", "instead", "lines", "obsolete", "pointer", "running", "value")

    def __init__(
        self,
        pointer: str,
        file: str,
        value: object,
        *,
        instead: tuple[str, str] | None = None,
        default: bool = False,
        obsolete: bool = False,
        beyond: str = "",
        lines: bool = False,
    ) -> None:
        self.pointer = pointer
        self.file = file
        self.value = str(value)
        self.instead = instead
        self.default = default
        self.obsolete = obsolete
        self.beyond = beyond
        self.lines = lines
        self.running = False
        self.folder = ""

    def write(self) -> None:
        """Raises OSError as the kernel gives it, KernelError for a limit that is exceeded already."""
        if self.beyond:
            self.check_use()
        try:
            for line in self.value.split("\n") if self.lines else (self.value,):
                if line or not self.lines:
                    write(f"{self.folder}/{self.file}", line)
        except OSError as error:
            if error.errno == ENOENT and self.instead:
                self.file, self.value = self.instead
                self.instead = None
                self.write()
            elif not self._does_not_matter(error.errno or 0):
                raise

    def _does_not_matter(self, errno: int) -> bool:
        if errno == ENOENT:
            return self.default or self.obsolete
        return errno == EOPNOTSUPP and self.obsolete

    def check_use(self) -> None:
        """Raises KernelError if more is in use than the value."""
        try:
            used = int(read(f"{self.folder}/{self.beyond}"))
        except FileNotFoundError:
            return  # then the limit's file is missing too, and its error says why
        if used > int(self.value):
            raise KernelError(
                f"{self.file} of {self.value} is less than the {used} bytes that are in use{self.when()}",
                pointer=self.pointer,
                hint="the kernel would kill for it: give it more",
            )

    def when(self) -> str:
        """Whose use it is that a limit is compared with."""
        return "" if self.running else " before the program starts"

    def failure(self, error: OSError) -> KernelError:
        """The error of a write: pointer, file, value, the kernel's reason."""
        return from_os_error(
            error,
            f'write "{self.value}" to {self.folder}/{self.file}',
            pointer=self.pointer,
            hint=_hint(self, error.errno or 0),
        )


def apply(settings: Sequence[Setting]) -> None:
    """Write all of them. Raises KernelError.

    Some values only go together (a memory limit is below memory and swap, a quota is not below its burst): whether the
    kernel takes one may depend on the old value of another. So what it finds invalid is tried again after the rest,
    for as long as that helps.
    """
    waiting = list(settings)
    while waiting:
        refused: list[tuple[Setting, OSError]] = []
        for setting in waiting:
            try:
                setting.write()
            except OSError as error:
                if error.errno != EINVAL:
                    raise setting.failure(error) from None
                refused.append((setting, error))
        if len(refused) == len(waiting):
            setting, reason = refused[0]
            raise setting.failure(reason)
        waiting = [setting for setting, _ in refused]


class Change:
    """Settings of a running container, written all or not at all.

    What is there is read before, so that `undo` can write it back.
    """

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.settings = settings
        self._before: list[tuple[str, str, str]] = []  # file, its content, the first word of what is written to it

    def check_use(self) -> None:
        """Raises KernelError if more is in use than a limit that asks for this to be looked at."""
        for setting in self.settings:
            if setting.beyond:
                setting.check_use()

    def apply(self) -> None:
        """Raises KernelError, with everything as it was."""
        for setting in self.settings:
            for file, value in ((setting.file, setting.value), setting.instead or ("", "")):
                for line in value.split("\n"):
                    path = f"{setting.folder}/{file}"
                    try:
                        self._before.append((path, read(path), line.partition(" ")[0]))
                    except OSError:
                        continue  # it is not there, or cannot be read: writing says why
        try:
            apply(self.settings)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Write back what has changed. Twice: a value may only be taken when another one is back."""
        for _ in range(2):
            for path, content, key in reversed(self._before):
                try:
                    if read(path) != content:
                        write(path, former(path.rpartition("/")[2], content, key))
                except OSError:
                    continue  # the container may be gone; the error that led here is the one that counts


_KEYED = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.weight": "default",
    "io.bfq.weight": "default",
    "blkio.bfq.weight_device": "default",
    "blkio.throttle.read_bps_device": "0",
    "blkio.throttle.write_bps_device": "0",
    "blkio.throttle.read_iops_device": "0",
    "blkio.throttle.write_iops_device": "0",
}
"""Files with a line for each device → what takes a device's line away."""


def former(file: str, content: str, key: str) -> str:
    """What to write to a file for it to be again as its content was, after something that began with `key` was written:
    a device's number, where the file has a line for each."""
    lines = content.splitlines()
    if file == "memory.oom_control":
        return lines[0].rpartition(" ")[2]
    if file in _KEYED and ":" in key:
        return next((line for line in lines if line.startswith(key + " ")), f"{key} {_KEYED[file]}")
    if len(lines) > 1:
        return next((line for line in lines if line.startswith(key + " ")), lines[0])
    return lines[0] if lines and lines[0] else "\n"


_HINTS = {
    ("memory.memsw.limit_in_bytes", ENOENT): "the kernel does not count swap: boot it with swapaccount=1",
    ("memory.memsw.limit_in_bytes", EINVAL): "memory and swap together cannot be below the memory limit",
    ("memory.swap.max", ENOENT): "the kernel has no swap, or does not count it",
    ("memory.use_hierarchy", EINVAL): "since Linux 5.11 the kernel always counts hierarchically",
    ("cpu.cfs_quota_us", EINVAL): "at least 1000, and not more than what the cgroups above it have",
    ("cpu.cfs_period_us", EINVAL): "from 1000 to 1000000",
    ("cpu.cfs_burst_us", EINVAL): "not above the quota",
    ("cpu.max", EINVAL): "quota and period are at least 1000, the period at most 1000000",
    ("cpu.max.burst", EINVAL): "not above the quota",
    ("cpu.rt_runtime_us", EINVAL): "not above the period, nor what the cgroups above it leave",
    ("blkio.leaf_weight", ENOENT): "the CFQ scheduler only, which is gone since Linux 5.0",
    ("blkio.leaf_weight_device", ENOENT): "the CFQ scheduler only, which is gone since Linux 5.0",
    ("blkio.weight", ENOENT): "weights need the BFQ scheduler: modprobe bfq",
    ("blkio.weight_device", ENOENT): "weights need the BFQ scheduler: modprobe bfq",
    ("io.weight", ENOENT): "weights need the BFQ scheduler (modprobe bfq), or a kernel with io.cost",
    ("cpu.rt_runtime_us", ENOENT): "the kernel does not divide real-time scheduling (CONFIG_RT_GROUP_SCHED)",
    ("cpu.rt_period_us", ENOENT): "the kernel does not divide real-time scheduling (CONFIG_RT_GROUP_SCHED)",
}
_NO_DEVICE = {
    "blkio": "no such block device, or a partition: limits are for whole disks",
    "io": "no such block device, or a partition: limits are for whole disks",
    "rdma": "no such RDMA device: see /sys/class/infiniband",
    "net_prio": "an interface of the runtime's own network namespace is meant",
}


def _hint(setting: Setting, errno: int) -> str:
    file = setting.file
    controller = file.partition(".")[0]
    if (hint := _HINTS.get((file, errno))) is not None:
        return hint
    if errno in (EINVAL, EACCES, ERANGE, ENOENT) and controller == "hugetlb":
        sizes = sorted({name.split(".")[1] for name in posix.listdir(setting.folder) if name.startswith("hugetlb.")})
        if sizes:
            return f"page sizes here: {', '.join(sizes)}"
    if errno == ENOENT and exists(f"{setting.folder}/cgroup.controllers"):
        return _not_enabled(setting.folder, controller)
    if errno == ENOENT:
        return "this kernel has no such file"
    if errno == EBUSY and controller == "memory":
        used = read(f"{setting.folder}/memory.usage_in_bytes").strip()
        return f"{used} bytes are in use{setting.when()}: give it more"
    if controller == "cpuset":
        above = setting.folder.rpartition("/")[0]
        try:
            return f"the cgroup above it has {read(f'{above}/{file}').strip() or 'none'}"
        except OSError:
            return ""  # the root of a v2 hierarchy has no such file
    if errno == ENODEV:
        return _NO_DEVICE.get(controller, "")
    return ""


def _not_enabled(folder: str, controller: str) -> str:
    """Why a v2 cgroup lacks a file: which one above it does not hand the controller down."""
    above = folder.rpartition("/")[0]
    while above and exists(above + "/cgroup.controllers"):
        if controller in read(above + "/cgroup.controllers").split():
            if controller in read(above + "/cgroup.subtree_control").split():
                return "this kernel has no such file"
            return f"{above} has the {controller} controller, but does not hand it down: it has processes of its own"
        folder, above = above, above.rpartition("/")[0]
    return f"{folder} has no {controller} controller: see its cgroup.controllers"


def refuse(pointer: str, message: str, hint: str = "") -> Error:
    """The error for a value that this host's kind of cgroup cannot have."""
    from ocirt.errors import ConfigError

    return ConfigError(message, pointer=pointer, hint=hint)
