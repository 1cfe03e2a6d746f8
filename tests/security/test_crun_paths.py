"""Links of an image that led crun to the host's files.

What holds in all of them is said in test_runc_paths.py: init reaches into the root by openat2(2) with RESOLVE_IN_ROOT
alone (plan/paths.py), and makes files only below descriptors that it got in this way.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from security.attacks import add_mount, bind, mounts_without, refused
from support import Bundle, Done, Runtime

pytestmark = pytest.mark.root
OUT = ("{host}", "../../host", "../../../../../../../../..{host}", "/proc/self/root{host}", "/proc/1/root{host}")
"""Ways for a link of the image to a folder of the host; the last two by way of a magic link, should it be followed."""


def plant(bundle: Bundle, name: str, target: str) -> Path:
    """A link of this name in the image, instead of the empty folder that may be there; returns it."""
    place = bundle.rootfs / name
    if place.is_dir() and not place.is_symlink():
        place.rmdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    return place


def ran(done: Done) -> bool:
    """Whether it ran. If not, it was refused by ocirt; what the program itself says is no refusal."""
    assert done.code == 0 or (done.code == 1 and done.err.startswith("ocirt: ")), done
    return done.code == 0


# CVE-2019-18837: a link as a mount target


@pytest.mark.parametrize("out", OUT)
@pytest.mark.parametrize("deeper", ["", "/new", "/new/folder"])
def test_cve_2019_18837_a_mount_target_that_is_a_link_is_in_the_root(
    runtime: Runtime, bundle: Bundle, host: Path, out: str, deeper: str
) -> None:
    """Without RESOLVE_IN_ROOT (plan/paths.py, IN_ROOT) and `verify` the tmpfs is mounted on the host's folder, in the
    container's mount namespace, and "/new" is made in the host's folder, which the fixture sees."""
    plant(bundle, "data", out.format(host=host))
    inside = bundle.rootfs / str(host).lstrip("/")
    inside.mkdir(parents=True)
    (bundle.rootfs / "host").mkdir()
    add_mount(bundle, destination=f"/data{deeper}", type="tmpfs", source="tmpfs", options=["size=64k"])
    done = runtime.sh(bundle, f"echo x > /data{deeper}/mine && cat /data{deeper}/mine && grep -c 64k /proc/mounts")
    if ran(done):
        assert done.out == "x\n1\n"
    else:
        assert out.startswith("/proc/"), done


@pytest.mark.parametrize("depth", range(1, 6))
def test_cve_2019_18837_a_chain_of_links(runtime: Runtime, bundle: Bundle, host: Path, depth: int) -> None:
    """Each link leads to the next, relative and absolute ones in turn. The same is seen without RESOLVE_IN_ROOT."""
    for number in range(depth):
        following = f"l{number + 1}/" if number % 2 else f"/l{number + 1}"
        plant(bundle, f"l{number}", following)
    plant(bundle, f"l{depth}", f"../../../../../../..{host}")
    (bundle.rootfs / str(host).lstrip("/")).mkdir(parents=True)
    add_mount(bundle, destination="/l0/new", type="tmpfs", source="tmpfs", options=["size=64k"])
    done = runtime.sh(bundle, "echo x > /l0/new/mine && cat /l0/new/mine")
    assert (done.code, done.out) == (0, "x\n"), done.err


def test_cve_2019_18837_a_bound_file_over_a_link_to_a_file_of_the_host(
    runtime: Runtime, bundle: Bundle, host: Path
) -> None:
    """Without RESOLVE_IN_ROOT and `verify` /etc/mine, read in the container, has still the image's link to nothing,
    and the host's file is what the file is mounted on."""
    plant(bundle, "etc/mine", f"{host}/ptmx")
    own = bundle.path / "own"
    own.write_text("own\n")
    bind(bundle, own, "/etc/mine")
    done = runtime.sh(bundle, "cat /etc/mine")
    assert (done.code, done.out) == (0, "own\n"), done.err
    assert (host / "ptmx").read_text() == "host's"


def test_cve_2019_18837_too_many_links_and_too_long_a_path_are_refused(
    runtime: Runtime, bundle: Bundle, host: Path
) -> None:
    """What a resolver in user space has to count, and crun's had buffers for (1.28), the kernel does."""
    plant(bundle, "loop", "loop/x")
    add_mount(bundle, destination="/loop/new", type="tmpfs", source="tmpfs")
    refused(runtime.sh(bundle, "true"), "/mounts/", "Too many levels of symbolic links")
    bundle.config["mounts"][-1]["destination"] = "/" + "long/" * 1000
    refused(runtime.sh(bundle, "true"), "/mounts/")
    deep = "x" * 255
    for number in range(20):
        plant(bundle, f"d{number}", f"{deep}/../" * 14 + f"d{number + 1}")
    (bundle.rootfs / deep).mkdir()
    bundle.config["mounts"][-1]["destination"] = "/d0/new"
    ran(runtime.sh(bundle, "true"))


# CVE-2025-24965: a file that the runtime writes into the root, where the image has put a link; crun's was
# .krun_config.json. This is every file that ocirt ever makes there.

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
MADE_IN_DEV = (*DEVICES, "fd", "stdin", "stdout", "stderr", "core", "ptmx")


@pytest.mark.parametrize("name", [*MADE_IN_DEV, "console", "pts", "shm", "mqueue"])
@pytest.mark.parametrize("target", ["ptmx", "new"])
def test_cve_2025_24965_nothing_is_written_through_a_link_in_the_images_dev(
    runtime: Runtime, bundle: Bundle, host: Path, name: str, target: str
) -> None:
    """A link in the place of a device is refused, one in another place stays. Without the check of what is there
    already (plan/devices.py, expect_device) and `verify` the container runs, with the image's link for /dev/null;
    nothing is written even then, as mknodat(2) and symlinkat(2) follow no link."""
    mounts_without(bundle, "/dev")
    plant(bundle, f"dev/{name}", f"{host}/{target}")
    bundle.config["root"]["readonly"] = False
    done = runtime.sh(bundle, "true")
    if name in DEVICES:
        refused(done, f"/dev/{name}")
    else:
        ran(done)


@pytest.mark.parametrize("out", OUT)
@pytest.mark.parametrize("path", ["/data/node", "/data/new/node", "/node"])
def test_cve_2025_24965_no_device_is_made_behind_a_link(
    runtime: Runtime, bundle: Bundle, host: Path, out: str, path: str
) -> None:
    """Without RESOLVE_IN_ROOT and `verify` the node is on the host."""
    plant(bundle, "data", out.format(host=host))
    plant(bundle, "node", f"{host}/node")
    (bundle.rootfs / str(host).lstrip("/")).mkdir(parents=True)
    (bundle.rootfs / "host").mkdir()
    bundle.config["linux"]["devices"] = [
        {"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o644, "uid": 1, "gid": 1}
    ]
    bundle.config["root"]["readonly"] = False
    ran(runtime.sh(bundle, "true"))


@pytest.mark.parametrize("out", OUT)
@pytest.mark.parametrize("cwd", ["/data", "/data/new/folder"])
def test_cve_2025_24965_no_working_directory_is_made_behind_a_link(
    runtime: Runtime, bundle: Bundle, host: Path, out: str, cwd: str
) -> None:
    """Also podman's CVE-2026-55686. Without the pivot before it (plan/compile.py: process.enter_directory before
    rootfs.pivot, and no `verify`) new/folder is made on the host."""
    plant(bundle, "data", out.format(host=host))
    bundle.config["process"]["cwd"] = cwd
    bundle.config["root"]["readonly"] = False
    done = runtime.sh(bundle, "pwd -P > /tmp/where; test ! -e ptmx")
    if ran(done):
        assert not (bundle.rootfs / "tmp/where").read_text().startswith("(unreachable)")


@pytest.mark.parametrize("out", OUT)
def test_cve_2025_24965_a_tmpfs_is_filled_from_the_image_only(
    runtime: Runtime, bundle: Bundle, host: Path, out: str
) -> None:
    """tmpcopyup reads what is under the mount, and a dangling destination is made by the host's Python. Without
    RESOLVE_IN_ROOT and `verify` the tmpfs is filled from the host's folder, and mounted over it."""
    plant(bundle, "data", out.format(host=host))
    plant(bundle, "etc/dangling", f"{host}/new")
    (bundle.rootfs / str(host).lstrip("/")).mkdir(parents=True)
    (bundle.rootfs / "host").mkdir()
    own = bundle.path / "own"
    own.write_text("own\n")
    add_mount(bundle, destination="/data", type="tmpfs", source="tmpfs", options=["tmpcopyup", "size=64k"])
    bind(bundle, own, "/etc/dangling")
    done = runtime.sh(bundle, "ls -A /data; cat /etc/dangling; grep -c size=64k /proc/mounts")
    if ran(done):
        assert "ptmx" not in done.out
        assert done.out.endswith("own\n1\n")
    else:
        assert out.startswith("/proc/"), done


@pytest.mark.parametrize("name", [".krun_config.json", ".ocirt", "run", "config.json", "etc/passwd", "etc/group"])
def test_cve_2025_24965_no_other_file_of_the_root_is_written(
    runtime: Runtime, bundle: Bundle, host: Path, name: str
) -> None:
    """The whole of the root is compared: ocirt has no file of its own in there. (That this sees one: with
    `mkdirat(root, "run")` added to plan/rootfs.py, attach, the root has changed.)"""
    place = bundle.rootfs / name
    if place.exists():
        place.unlink()
    place.symlink_to(host / "ptmx")
    bundle.config["process"]["terminal"] = False
    bundle.write()

    def names() -> dict[str, int]:
        return {str(path): os.lstat(path).st_mode for path in bundle.rootfs.rglob("*")}

    before = names()
    assert runtime("run", "-b", bundle.path, "c").code == 0
    made = {str(bundle.rootfs / "dev" / name) for name in ("pts", "shm", "mqueue")}
    assert {path: mode for path, mode in names().items() if path not in made} == before
