"""Where ocim keeps everything of one user, and the parts of the store there, opened when they are first asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ocirt.manager.errors import ManagerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.snapshots.snapshots import Snapshots
    from ocirt.manager.store.blobs import Blobs
    from ocirt.manager.store.database import Database
    from ocirt.manager.store.images import Images


class Site:
    """The folders of one ocim.

    root   what lasts: the database, blobs, snapshots, containers, volumes
    run    what a reboot ends: sockets of monitors, the runtime's states
    driver of snapshots, where it is to be a certain one (OCIM_DRIVER)
    """

    def __init__(self, root: Path, run: Path, driver: str = "") -> None:
        self.root = root
        self.run = run
        self.driver = driver

    @classmethod
    def of(cls, environment: Mapping[str, str], uid: int) -> Site:
        """OCIM_ROOT and OCIM_RUN, else root's own folders, else the user's (XDG base directory specification).

        Raises ManagerError where a user has no XDG_RUNTIME_DIR.
        """
        root, run = environment.get("OCIM_ROOT", ""), environment.get("OCIM_RUN", "")
        if not root:
            home = environment.get("XDG_DATA_HOME") or os.path.join(environment.get("HOME", "/"), ".local/share")
            root = os.path.join(home, "ocim") if uid else "/var/lib/ocim"
        if not run:
            runtime = environment.get("XDG_RUNTIME_DIR", "")
            if uid and not runtime:
                raise ManagerError("XDG_RUNTIME_DIR is not set", hint="log in with a session, or set OCIM_RUN")
            run = os.path.join(runtime, "ocim") if uid else "/run/ocim"
        return cls(Path(root), Path(run), environment.get("OCIM_DRIVER", ""))

    @cached_property
    def database(self) -> Database:
        """Raises ManagerError."""
        from ocirt.manager.store.database import Database

        for folder in (self.root, self.run):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Database(self.root / "db.sqlite")

    @cached_property
    def blobs(self) -> Blobs:
        """Raises ManagerError."""
        from ocirt.manager.store.blobs import Blobs

        return Blobs(self.root, self.database)

    @cached_property
    def images(self) -> Images:
        """Raises ManagerError."""
        from ocirt.manager.store.images import Images

        return Images(self.database, self.blobs)

    @cached_property
    def snapshots(self) -> Snapshots:
        """Raises ManagerError."""
        from ocirt.manager.snapshots.snapshots import Snapshots

        return Snapshots(self.root, self.database, self.blobs, self.driver)

    def container(self, container_id: str) -> Path:
        """The folder of a container, which is also its bundle: config.json, rootfs/, logs, state.json."""
        return self.root / "containers" / container_id
