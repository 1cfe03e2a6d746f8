"""The driver for overlayfs: each layer a folder of its own, put together by the kernel (Documentation/filesystems/
overlayfs.rst).

Names are given to mount(2) relative to the store's folder, so that a page holds all options even of five hundred
layers; the thread that mounts has a working directory of its own for that. What a container could write to make
overlayfs look elsewhere (redirects, metacopy) is not followed.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from ocirt import _sys
from ocirt.manager.errors import LimitError, ManagerError
from ocirt.manager.snapshots import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.snapshots.changes import Difference

MOST_LAYERS = 500  # OVL_MAX_STACK
CLONE_FS = 0x200
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
_OPTIONS = "index=off,redirect_dir=nofollow,metacopy=off"


class Overlay:
    """See `drivers.Driver`. In a container's folder: upper (its changes), work (overlayfs's own), and none, empty, for
    an image without layers.
    """

    name = "overlay"
    chained = False
    copied = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prefix = "trusted" if privileged() else "user"
        self.opaque = f"{self._prefix}.overlay.opaque"

    def make(self, path: Path, below: str) -> None:
        """See `Driver`."""
        path.mkdir(mode=0o700)

    def drop(self, path: Path) -> None:
        """See `Driver`."""
        parent = os.open(path.parent, trees.FOLDER)
        try:
            trees.remove(parent, path.name)
        finally:
            os.close(parent)

    def prepare(self, container: Path, below: Sequence[Path]) -> None:
        """See `Driver`. The root folder is like the highest layer's that says what it is like."""
        for name in ("work", "rootfs", "upper"):
            (container / name).mkdir(mode=0o755, exist_ok=True)
        like = next((found for path in reversed(below) if (found := path.stat()).st_mode & 0o7777), None)
        upper = container / "upper"
        if like is not None:
            os.chown(upper, like.st_uid, like.st_gid)
            upper.chmod(like.st_mode & 0o7777)
            os.utime(upper, ns=(like.st_mtime_ns, like.st_mtime_ns))

    def mount(self, container: Path, below: Sequence[Path]) -> None:
        """See `Driver`."""
        if mounted(container):
            return
        lower = self.lower(below)
        if len(lower) > MOST_LAYERS:
            raise LimitError(f"the image has {len(lower)} layers, and overlayfs takes {MOST_LAYERS}")
        relative = os.path.relpath(container, self._folder)
        if not lower:
            (container / "none").mkdir(exist_ok=True)
            lower = [f"{relative}/none"]
        options = f"lowerdir={':'.join(lower)},upperdir={relative}/upper,workdir={relative}/work,{_OPTIONS}"
        if self._prefix == "user":
            options += ",userxattr"
        target = str(container / "rootfs")
        _within(self._folder, lambda: _sys.mount("overlay", target, 0, "overlay", options))

    def lower(self, below: Sequence[Path]) -> list[str]:
        """The layers that are to be seen, highest first, as names in the store's folder: each once, and none below one
        that hides them all.
        """
        seen: dict[str, None] = {}
        for path in reversed(below):
            seen.setdefault(path.name)
            if self.is_opaque(path):
                break
        return list(seen)

    def is_opaque(self, where: Path | int) -> bool:
        """Whether a folder of a layer hides those below it."""
        try:
            return os.getxattr(where, self.opaque) == b"y"
        except OSError:
            return False

    def unmount(self, container: Path) -> None:
        """See `Driver`."""
        while mounted(container):
            _sys.umount2(str(container / "rootfs"), MNT_DETACH | UMOUNT_NOFOLLOW)

    def differences(self, container: Path, below: Sequence[Path]) -> Iterator[Difference]:
        """See `Driver`."""
        from ocirt.manager.snapshots.changes import of_upper

        with ExitStack() as stack:

            def opened(path: Path) -> int:
                descriptor = os.open(path, trees.FOLDER)
                stack.callback(os.close, descriptor)
                return descriptor

            layers = [opened(self._folder / name) for name in self.lower(below)]
            yield from of_upper(opened(container / "upper"), layers, self.is_opaque)

    def written(self, container: Path) -> Path:
        """See `Driver`."""
        return container / "upper"

    def release(self, container: Path) -> None:
        """See `Driver`."""


def adopt(layer: Path, path: bytes, below: Sequence[Path]) -> None:
    """Have a layer's folder be like that of the highest layer below that has it; below: highest first."""
    for other in below:
        found = _opened(other, path)
        if found >= 0:
            ours = _opened(layer, path)
            try:
                if ours >= 0:
                    about = os.fstat(found)
                    os.fchown(ours, about.st_uid, about.st_gid)
                    os.fchmod(ours, stat.S_IMODE(about.st_mode))
                    os.utime(ours, ns=(about.st_mtime_ns, about.st_mtime_ns))
            finally:
                for descriptor in {ours, found} - {-1}:
                    os.close(descriptor)
            return


def _opened(layer: Path, path: bytes) -> int:
    """A folder of a layer, or -1."""
    top = os.open(layer, trees.FOLDER)
    try:
        return trees.beneath(top, path)
    except OSError:
        return -1
    finally:
        os.close(top)


def privileged() -> bool:
    """Whether attributes of the kind "trusted" are ours to set: not in a user namespace (user_namespaces(7))."""
    words = Path("/proc/self/uid_map").read_text().split()
    return os.geteuid() == 0 and words == ["0", "0", "4294967295"]


def mounted(container: Path) -> bool:
    """Whether something is mounted at a container's rootfs."""
    try:
        inner = os.lstat(container / "rootfs")
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(inner.st_mode) and inner.st_dev != os.stat(container).st_dev


def works(folder: Path) -> bool:
    """Whether overlayfs takes this folder's file system for what containers write."""
    probe = folder / f"probe.{os.getpid()}"
    overlay = Overlay(folder)
    try:
        for path in (probe, probe / "below"):
            path.mkdir(mode=0o700)
        try:
            overlay.prepare(probe, [])
            os.setxattr(probe / "below", overlay.opaque, b"y")
            os.removexattr(probe / "below", overlay.opaque)
            overlay.mount(probe, [])
        except (ManagerError, OSError):
            return False
        overlay.unmount(probe)
        return True
    finally:
        overlay.drop(probe)


def _within(folder: Path, call: Callable[[], None]) -> None:
    """Call with the folder as working directory, which no other thread notices. Raises ManagerError."""
    problems: list[OSError] = []

    def run() -> None:
        try:
            _sys.unshare(CLONE_FS)
            os.chdir(folder)
            call()
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=run, name="mount")
    thread.start()
    thread.join()
    if problems:
        error = problems[0]
        raise ManagerError(
            f"mount an overlay upon {folder}: {error.strerror}",
            errno=error.errno or 0,
            call="mount",
            hint="the kernel's log says more; OCIM_DRIVER=vfs does without overlayfs",
        ) from error
