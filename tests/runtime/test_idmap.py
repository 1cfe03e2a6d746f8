"""Idmapped mounts: whom files belong to in the container, and what it writes belongs to whom on the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from runtime.test_copyup import user_namespace
from runtime.test_mounts import add, bind, refused
from support import Bundle, Runtime, needs_kernel

pytestmark = pytest.mark.root

needs_tmpfs = needs_kernel(6, 3, "idmapped tmpfs")
TO_1000 = [{"containerID": 0, "hostID": 1000, "size": 10}]
TO_100000 = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """root's, with a file of 3:4, and open to everyone to look at."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    os.chown(folder / "file", 3, 4)
    return folder


def owners(runtime: Runtime, bundle: Bundle, place: str = "/m") -> str:
    done = runtime.sh(bundle, f"cd {place} && stat -c '%u:%g' . file && touch new && stat -c '%u:%g' new")
    assert done.code == 0, done.err
    return " ".join(done.out.split())


def test_its_own_map(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    bind(bundle, folder, "/m", "bind", "idmap")
    bundle.config["mounts"][-1] |= {"uidMappings": TO_1000, "gidMappings": TO_1000}
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1001}
    assert owners(runtime, bundle) == "1000:1000 1003:1004 1000:1001"
    assert (folder / "new").stat().st_uid == 0
    assert (folder / "new").stat().st_gid == 1


def test_maps_without_the_option_mean_it(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    bind(bundle, folder, "/m")
    bundle.config["mounts"][-1] |= {"uidMappings": TO_1000, "gidMappings": TO_1000}
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert owners(runtime, bundle).startswith("1000:1000 1003:1004")


def test_the_containers_map(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    user_namespace(bundle)
    bind(bundle, folder, "/m", "bind", "idmap")
    bind(bundle, folder, "/plain", "bind")
    assert owners(runtime, bundle) == "0:0 3:4 0:0"
    assert (folder / "new").stat().st_uid == 0
    done = runtime.sh(bundle, "stat -c '%u:%g' /plain")
    assert done.out == "65534:65534\n"


def test_another_map_than_the_containers(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    user_namespace(bundle)
    bind(bundle, folder, "/m", "bind", "idmap")
    bundle.config["mounts"][-1] |= {
        name: [{"containerID": 0, "hostID": 100500, "size": 10}] for name in ("uidMappings", "gidMappings")
    }
    bundle.config["process"]["user"] = {"uid": 500, "gid": 500}
    assert owners(runtime, bundle) == "500:500 503:504 500:500"


@needs_tmpfs
def test_a_map_for_all_that_is_mounted_below(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    from subprocess import run

    (folder / "below").mkdir()
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder / "below"], check=True)
    try:
        for place, option in (("/one", "idmap"), ("/all", "ridmap")):
            bind(bundle, folder, place, "rbind", option)
            bundle.config["mounts"][-1] |= {"uidMappings": TO_1000, "gidMappings": TO_1000}
        done = runtime.sh(bundle, "stat -c %u /one /one/below /all /all/below")
    finally:
        run(["umount", folder / "below"], check=True)
    assert done.out.split() == ["1000", "0", "1000", "1000"], done.err


@needs_tmpfs
@pytest.mark.parametrize("own", [True, False])
def test_a_tmpfs(runtime: Runtime, bundle: Bundle, own: bool) -> None:
    if not own:
        user_namespace(bundle)
    add(bundle, "/m", "idmap", "mode=755", "ro", type="tmpfs", source="tmpfs")
    if own:
        bundle.config["mounts"][-1] |= {"uidMappings": TO_1000, "gidMappings": TO_1000}
    done = runtime.sh(bundle, "stat -c %u:%g /m; touch /m/x")
    assert done.out == ("1000:1000\n" if own else "0:0\n"), done.err
    assert "Read-only file system" in done.err


def test_cruns_notation(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    bind(bundle, folder, "/m", "bind", "idmap=uids=0-1000-1#3-7-1;gids=0-2000-10")
    done = runtime.sh(bundle, "stat -c '%u:%g' /m /m/file")
    assert done.out.split() == ["1000:2000", "7:2004"], done.err
    user_namespace(bundle)
    bundle.config["mounts"][-1]["options"][-1] = "idmap=uids=@0-5-10;gids=@0-6-10"
    done = runtime.sh(bundle, "stat -c '%u:%g' /m /m/file")
    assert done.out.split() == ["5:6", "8:10"], done.err


def test_a_file_system_without_id_maps(runtime: Runtime, bundle: Bundle) -> None:
    add(bundle, "/m", "idmap", type="proc", source="proc", uidMappings=TO_1000, gidMappings=TO_1000)
    refused(runtime.sh(bundle, "true"), "/mounts/7: mount proc on /m (idmap): Invalid argument", "id map")


def test_nothing_of_the_map_is_left_in_the_container(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    bind(bundle, folder, "/m", "bind", "idmap")
    bundle.config["mounts"][-1] |= {"uidMappings": TO_1000, "gidMappings": TO_1000}
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    assert runtime("create", "-b", bundle.path, "p").code == 0
    try:
        fds = Path(f"/proc/{runtime.state('p')['pid']}/fd")
        assert not [fd for fd in fds.iterdir() if "user:" in os.readlink(fd)]
    finally:
        runtime("delete", "--force", "p")
