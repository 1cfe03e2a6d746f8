"""linux.rootfsPropagation, and the propagation options of mounts: who sees what is mounted later."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime.test_mounts import Mount, bind, mounts, privileged, tmpfs
from support import Bundle, Runtime

pytestmark = pytest.mark.root


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that is a shared mount."""
    folder = tmp_path / "shared"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
    subprocess.run(["mount", "--make-shared", folder], check=True)
    (folder / "on").mkdir()
    (folder / "from").mkdir()
    yield folder
    subprocess.run(["umount", "-R", folder], check=True)


def on_host() -> list[Mount]:
    return [Mount(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]


@pytest.mark.parametrize(
    ("value", "tags", "below"),
    [
        ("", set(), set()),
        ("private", set(), set()),
        ("rprivate", set(), set()),
        ("slave", {"master"}, {"master"}),
        ("rslave", {"master"}, {"master"}),
        ("shared", {"shared"}, set()),
        ("rshared", {"shared"}, {"shared"}),
        ("unbindable", {"unbindable"}, set()),
        ("runbindable", {"unbindable"}, {"unbindable"}),
    ],
)
def test_the_root(runtime: Runtime, bundle: Bundle, value: str, tags: set[str], below: set[str]) -> None:
    if value:
        bundle.config["linux"]["rootfsPropagation"] = value
    tmpfs(bundle, "/m", "mode=755")
    found = mounts(runtime, bundle)
    assert found["/"].tags == tags
    assert found["/m"].tags == (below if value[:1] == "r" and value != "rslave" else set())


@pytest.mark.parametrize(("value", "exposed"), [("shared", True), ("slave", False), ("private", False)])
def test_what_the_container_mounts_shows_in_copies_of_a_shared_root(
    runtime: Runtime, bundle: Bundle, value: str, exposed: bool
) -> None:
    """runtime-tools' linux_rootfs_propagation."""
    bundle.config["linux"]["rootfsPropagation"] = value
    bundle.config["root"]["readonly"] = False
    privileged(bundle)
    done = runtime.sh(
        bundle,
        "mkdir /target /mnt /test; touch /test/file; mount -o rbind / /target && mount -o rbind /test /mnt"
        " && ls /target/mnt",
    )
    assert done.code == 0, done.err
    assert done.out.split() == (["file"] if exposed else [])


def test_an_unbindable_root_cannot_be_bound(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["rootfsPropagation"] = "unbindable"
    bundle.config["root"]["readonly"] = False
    privileged(bundle)
    done = runtime.sh(bundle, "mkdir /target; mount -o rbind / /target")
    assert done.code != 0
    assert "Invalid argument" in done.err


@pytest.mark.parametrize(
    ("option", "tags"),
    [("private", set()), ("rprivate", set()), ("slave", {"master"}), ("rslave", {"master"}),
     ("shared", {"shared", "master"}), ("rshared", {"shared", "master"}), ("unbindable", {"unbindable"}),
     ("runbindable", {"unbindable"}), ("rbind", {"master"})],
)  # fmt: skip
def test_a_bind_mount(runtime: Runtime, bundle: Bundle, shared: Path, option: str, tags: set[str]) -> None:
    bind(bundle, shared, "/m", "rbind", "ro", option)
    found = mounts(runtime, bundle)["/m"]
    assert found.tags == tags
    assert "ro" in found.options


def test_peers_stay_peers(runtime: Runtime, bundle: Bundle, shared: Path) -> None:
    """A bind mount with other flags than its source is still the source's slave: crun once lost that."""
    bind(bundle, shared, "/m", "bind", "ro", "nosuid", "rslave")
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    assert runtime("create", "-b", bundle.path, "p").code == 0
    try:
        subprocess.run(["mount", "--bind", shared / "from", shared / "on"], check=True)
        inside = Path(f"/proc/{runtime.state('p')['pid']}/mountinfo").read_text()
        assert any(Mount(line).place == "/m/on" for line in inside.splitlines())
    finally:
        runtime("delete", "--force", "p")


@pytest.mark.parametrize("value", ["shared", "rshared", "rslave", ""])
def test_a_shared_volume_of_a_shared_root_shows_the_host_what_is_mounted_in_it(
    runtime: Runtime, bundle: Bundle, shared: Path, value: str
) -> None:
    """What engines call bidirectional propagation. All else that the container mounts stays its own."""
    bundle.config["linux"]["rootfsPropagation"] = value
    privileged(bundle)
    bind(bundle, shared, "/m", "rbind", "rshared")
    bind(bundle, shared, "/own", "rbind", "rprivate")
    tmpfs(bundle, "/tmp", "mode=755")
    before = [mount.place for mount in on_host()]
    script = (
        "mount -t tmpfs inside /m/on && mount -t tmpfs inside /own/from && mount -t tmpfs inside /tmp && sleep 1000"
    )
    bundle.config["process"]["args"] = ["/bin/sh", "-c", script]
    bundle.write()
    assert runtime("create", "-b", bundle.path, "p").code == 0
    try:
        assert runtime("start", "p").code == 0
        pid = runtime.state("p")["pid"]
        for _ in range(200):
            if "inside" in Path(f"/proc/{pid}/mountinfo").read_text().rsplit(" /tmp ", 1)[-1]:
                break
            time.sleep(0.02)
        new = [mount.place for mount in on_host()]
    finally:
        runtime("delete", "--force", "p")
    for place in before:
        new.remove(place)
    assert new == ([str(shared / "on")] if "shared" in value else [])
