"""run: the nodes of linux.devices, as the container sees them."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest
from support import Bundle, Runtime

pytestmark = pytest.mark.root

SHOW = "stat -c '%F %a %u:%g %t:%T'"
TUN = {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}


def listed(runtime: Runtime, bundle: Bundle, devices: list[dict[str, Any]], script: str) -> list[str]:
    bundle.config["linux"]["devices"] = devices
    done = runtime.sh(bundle, script)
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def test_each_type_with_mode_and_owner(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = False
    devices = [
        TUN,
        {"path": "/dev/disk", "type": "b", "major": 259, "minor": 70000, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/srv/deep/raw", "type": "u", "major": 1, "minor": 3, "fileMode": 0o20600},
        {"path": "/pipe", "type": "p", "major": 5, "fileMode": 0o622, "gid": 5},
        {"path": "/dev/closed", "type": "c", "major": 1, "minor": 5, "fileMode": 0},
    ]
    names = " ".join(str(device["path"]) for device in devices)
    assert listed(runtime, bundle, devices, f"{SHOW} {names} /srv/deep /dev/net; echo gone > /srv/deep/raw") == [
        "character special file 666 0:0 a:c8",
        "block special file 640 7:8 103:11170",
        "character special file 600 0:0 1:3",
        "fifo 622 0:5 0:0",
        "character special file 0 0:0 1:5",
        "directory 755 0:0 0:0",
        "directory 755 0:0 0:0",
    ]


def test_the_mode_is_not_cut_by_the_caller_s_umask(runtime: Runtime, bundle: Bundle) -> None:
    before = os.umask(0o077)
    try:
        assert listed(runtime, bundle, [TUN], f"{SHOW} /dev/net/tun") == ["character special file 666 0:0 a:c8"]
    finally:
        os.umask(before)


def test_a_default_device_may_be_listed(runtime: Runtime, bundle: Bundle) -> None:
    """With a mode of its own, which then counts; the others are made as always."""
    null = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o622, "uid": 3, "gid": 4}
    found = listed(runtime, bundle, [null], f"{SHOW} /dev/null /dev/zero; echo x > /dev/null")
    assert found == ["character special file 622 3:4 1:3", "character special file 666 0:0 1:5"]


def test_a_node_of_the_image_that_is_the_same_is_left_as_it_is(runtime: Runtime, bundle: Bundle) -> None:
    os.mknod(bundle.rootfs / "tun", stat.S_IFCHR | 0o640, os.makedev(10, 200))
    os.chown(bundle.rootfs / "tun", 12, 13)
    found = listed(runtime, bundle, [TUN | {"path": "/tun", "fileMode": 0o666, "uid": 1}], f"{SHOW} /tun")
    assert found == ["character special file 640 12:13 a:c8"]


@pytest.mark.parametrize("kind", ["another number", "another type", "a file", "a folder", "a symlink"])
def test_what_is_at_the_path_and_is_something_else_is_an_error(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    path = bundle.rootfs / "tun"
    if kind == "another number":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(10, 201))
    elif kind == "another type":
        os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(10, 200))
    elif kind == "a file":
        path.write_text("")
    elif kind == "a folder":
        path.mkdir()
    else:
        os.mknod(bundle.rootfs / "real", stat.S_IFCHR | 0o666, os.makedev(10, 200))
        path.symlink_to("real")
    bundle.config["linux"]["devices"] = [TUN | {"path": "/tun"}]
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert "/linux/devices/0: make /tun, character device 10:200: No such device" in done.err
    assert "something else is at this path already" in done.err


def test_a_folder_that_is_a_symlink_leads_into_the_image_only(runtime: Runtime, bundle: Bundle) -> None:
    """/dev is the image's own here, and a symlink to an absolute path: that of the container."""
    bundle.config["root"]["readonly"] = False
    bundle.config["mounts"] = [one for one in bundle.config["mounts"] if not one["destination"].startswith("/dev")]
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to("/tmp/elsewhere")
    (bundle.rootfs / "tmp/elsewhere").mkdir()
    (bundle.rootfs / "tmp/elsewhere/net").symlink_to("../../../../../../tmp")
    found = listed(runtime, bundle, [TUN | {"uid": 5}], f"{SHOW} /tmp/tun")
    assert found == ["character special file 666 5:0 a:c8"]
    assert not os.path.exists("/tmp/tun")
    assert stat.S_ISCHR(os.lstat(bundle.rootfs / "tmp/tun").st_mode)


def test_nothing_is_made_in_a_dev_of_the_host_s(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["mounts"] = [one for one in bundle.config["mounts"] if not one["destination"].startswith("/dev")]
    bundle.config["mounts"].append({"destination": "/dev", "source": "/dev", "options": ["rbind", "rw"]})
    before = sorted(os.listdir("/dev"))
    listed(runtime, bundle, [TUN | {"path": "/dev/ocirt-test-device"}], "true")
    assert sorted(os.listdir("/dev")) == before


def test_in_a_user_namespace_devices_are_the_host_s_own(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)
    zero = {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5}
    pipe = {"path": "/dev/pipe", "type": "p", "uid": 1, "gid": 2}
    script = "stat -c '%F %t:%T' /dev/zero /dev/null; stat -c '%F %u:%g' /dev/pipe; head -c 3 /dev/zero | wc -c"
    assert listed(runtime, bundle, [zero, pipe], script) == [
        "character special file 1:5",
        "character special file 1:3",
        "fifo 1:2",
        "3",
    ]
    bundle.config["linux"]["devices"] = [zero | {"minor": 7}]
    done = runtime.sh(bundle, "true")
    assert "/linux/devices/0: take /dev/zero from the host, character device 1:7: No such device" in done.err
    bundle.config["linux"]["devices"] = [zero | {"path": "/dev/ocirt-test-device"}]
    done = runtime.sh(bundle, "true")
    assert "take /dev/ocirt-test-device from the host" in done.err and "which has none there" in done.err


def test_too_many_devices_for_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    bundle.config["linux"]["devices"] = [TUN | {"path": f"/dev/tun{number}"} for number in range(33)]
    done = runtime.sh(bundle, "true")
    assert done.code == 1 and "/linux/devices: in a user namespace at most 32 devices" in done.err
    bundle.config["linux"]["namespaces"].pop()
    bundle.config["linux"] |= {"uidMappings": None, "gidMappings": None}
    bundle.config["linux"]["devices"] *= 1
    assert runtime.sh(bundle, "ls /dev | grep -c tun", "many").out == "33\n"
