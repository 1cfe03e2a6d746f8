"""Where ocim keeps things, of root and of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.manager.errors import ManagerError
from ocirt.manager.site import Site


@pytest.mark.parametrize(
    ("environment", "uid", "root", "run"),
    [
        ({}, 0, "/var/lib/ocim", "/run/ocim"),
        ({"HOME": "/root", "XDG_DATA_HOME": "/x", "XDG_RUNTIME_DIR": "/y"}, 0, "/var/lib/ocim", "/run/ocim"),
        ({"HOME": "/home/a", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/home/a/.local/share/ocim", "/run/user/7/ocim"),
        ({"HOME": "/home/a", "XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "/r"}, 7, "/d/ocim", "/r/ocim"),
        ({"OCIM_ROOT": "/a", "OCIM_RUN": "/b"}, 7, "/a", "/b"),
    ],
)
def test_the_folders(environment: dict[str, str], uid: int, root: str, run: str) -> None:
    site = Site.of(environment, uid)
    assert (site.root, site.run) == (Path(root), Path(run))


def test_a_user_without_a_session_is_told() -> None:
    with pytest.raises(ManagerError, match="XDG_RUNTIME_DIR"):
        Site.of({"HOME": "/home/a"}, 7)


def test_its_parts_are_one_store(tmp_path: Path) -> None:
    site = Site(tmp_path / "root", tmp_path / "run")
    digest = site.blobs.put(b"{}", "application/json")
    assert site.database.read.execute("select digest from blobs").fetchall() == [(digest,)]
    assert site.root.stat().st_mode & 0o777 == 0o700
    assert list(site.images) == []
