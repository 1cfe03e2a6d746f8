"""What to do where a layer says that something of those below it is gone (image-spec 1.1, layer.md "Whiteouts"): say so
in overlayfs's way, carry it out, or take the name for one like others.
"""

from __future__ import annotations

import os
import stat

from ocirt.manager.snapshots import trees

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Overlay:
    """Whiteouts as overlayfs has them: a character device 0:0, and an attribute for a folder that hides all below it.

    attribute   "trusted.overlay.opaque", or "user.overlay.opaque" for a mount with `userxattr`
    """

    fresh = True  # the folder is empty at first, and only the archive fills it

    def __init__(self, attribute: str = "trusted.overlay.opaque") -> None:
        self._attribute = attribute

    def hide(self, folder: int, parent: bytes, name: bytes) -> None:
        """Nothing of the layers below is to be seen at this name."""
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=folder)
        except FileExistsError:
            # What this layer has at the name hides the lower one's already, unless both are folders, which would be
            # merged.
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    self.hide_all(inner, b"")
                finally:
                    os.close(inner)

    def hide_all(self, folder: int, parent: bytes) -> None:
        """Nothing of this folder in the layers below is to be seen."""
        os.setxattr(folder, self._attribute, b"y")

    def made(self, parent: bytes, name: bytes) -> None:
        """Nothing to remember."""

    def instead(self, folder: int, name: bytes) -> None:
        """A folder took the place of something else, a whiteout or a file, that hid what the layers below have there:
        it must not be merged with theirs.
        """
        inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        try:
            self.hide_all(inner, b"")
        finally:
            os.close(inner)


class Apply:
    """Whiteouts carried out: the folder holds a copy of the layers below (vfs, btrfs)."""

    fresh = False

    def __init__(self) -> None:
        self._ours: dict[bytes, set[bytes]] = {}

    def hide(self, folder: int, parent: bytes, name: bytes) -> None:
        """Remove what a lower layer has there; what this one made stays."""
        if name not in self._ours.get(parent, ()):
            trees.remove(folder, name)
        elif stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            try:
                self.hide_all(inner, parent + b"/" + name if parent else name)
            finally:
                os.close(inner)

    def hide_all(self, folder: int, parent: bytes) -> None:
        """Remove what lower layers have in this folder."""
        for name in os.listdir(folder):
            self.hide(folder, parent, os.fsencode(name))

    def instead(self, folder: int, name: bytes) -> None:
        """What is removed hides nothing."""

    def made(self, parent: bytes, name: bytes) -> None:
        """Remember that it is this layer's, and so are the folders that lead to it."""
        while name not in self._ours.setdefault(parent, set()):
            self._ours[parent].add(name)
            parent, _, name = parent.rpartition(b"/")
            if not name:
                break


class Plain:
    """Names are names, whatever they begin with: what is copied into a container, which may be running.

    folders   whether a folder may take the place of something else, and something else that of a folder
    """

    fresh = False

    def __init__(self, folders: bool = True) -> None:
        self.folders = folders

    def made(self, parent: bytes, name: bytes) -> None:
        """Nothing to remember."""

    def instead(self, folder: int, name: bytes) -> None:
        """There is nothing below."""
