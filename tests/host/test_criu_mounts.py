"""Which mounts are external, and what is mounted for their keys; by made-up mount tables."""

from __future__ import annotations

from typing import Any

from ocirt.host.criu_mounts import Mount, external, on_tmpfs, parse, sources

MOUNTINFO = r"""
600 500 254:0 /root/fs / rw,relatime - ext4 /dev/vda rw
601 600 0:50 / /proc rw - proc proc rw
602 600 254:0 /srv/a\040b /data rw - ext4 /dev/vda rw
603 602 0:60 / /data/below rw master:3 - tmpfs tmpfs rw
604 601 0:5 /null /proc/kcore rw - devtmpfs devtmpfs rw
605 601 0:61 / /proc/acpi ro - tmpfs none ro
606 600 0:62 / /data/own rw - tmpfs tmpfs rw
607 600 0:5 /null /dev/null rw - devtmpfs devtmpfs rw
608 600 0:70 /c /sys/fs/cgroup/pids ro - cgroup cgroup ro
""".strip()


def bind(destination: str, source: str = "/srv/a b", *options: str) -> dict[str, Any]:
    return {"destination": destination, "source": source, "options": ["rbind", *options]}


def spec(*mounts: dict[str, Any], cgroup: bool = True, masked: tuple[str, ...] = (), **linux: Any) -> dict[str, Any]:
    namespaces = [{"type": "mount"}, *([{"type": "cgroup"}] if cgroup else [])]
    return {"mounts": list(mounts), "linux": {"namespaces": namespaces, "maskedPaths": list(masked), **linux}}


def keys(config: dict[str, Any], **links: str) -> dict[str, str]:
    found = external(config, parse(MOUNTINFO), lambda path: links.get(path.strip("/").replace("/", "_"), path))
    return {point: key for point, key in found.items() if not point.startswith("/dev/")}


def test_mountinfo_is_read_with_its_escapes() -> None:
    mounts = parse(MOUNTINFO)
    assert (mounts[2].point, mounts[2].root, mounts[2].kind) == ("/data", "/srv/a b", "ext4")
    assert [mount.kind for mount in mounts if mount.point == "/proc/kcore"] == ["devtmpfs"]


def test_a_bind_is_external_with_what_is_below_its_source() -> None:
    tmpfs = {"destination": "/data/own", "type": "tmpfs"}
    assert keys(spec(bind("/data"), tmpfs)) == {"/data": "/data", "/data/below": "/data/below"}
    assert keys(spec(bind("/elsewhere"))) == {}
    assert keys(spec(bind("/"))) == {}
    assert keys(spec(bind("/data", "/x", "remount"))) == {}


def test_the_key_is_the_destination_as_it_is_written() -> None:
    found = keys(spec(bind("/link/"), {"destination": "/data/own", "type": "tmpfs"}), link="/data")
    assert found == {"/data": "/link", "/data/below": "/link/below"}


def test_files_that_are_masked_share_a_key_and_folders_have_none() -> None:
    assert keys(spec(masked=("/proc/kcore", "/proc/acpi", "/absent"))) == {"/proc/kcore": "/dev/null"}
    mounts = [bind("/proc", "/proc")]
    assert keys(spec(*mounts, masked=("/proc/kcore", "/proc/acpi"))) == {"/proc": "/proc", "/proc/kcore": "/dev/null"}


def test_cgroups_are_external_without_a_namespace_of_theirs() -> None:
    assert keys(spec(cgroup=False)) == {"/sys/fs/cgroup/pids": "/sys/fs/cgroup/pids"}


def test_nodes_that_are_mounts_are_external() -> None:
    found = external(spec(devices=[{"path": "/data/own"}]), parse(MOUNTINFO), lambda path: path)
    assert found == {"/dev/null": "/dev/null", "/data/own": "/data/own"}


def test_sources_are_those_of_the_bundle_and_the_host() -> None:
    host = [Mount("/", "ext4"), Mount("/b/rel", "ext4"), Mount("/b/rel/deep", "tmpfs"), Mount("/b/relative", "tmpfs")]
    config = spec(
        bind("/data/", "rel"),
        bind("/proc", "/proc"),
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
        cgroup=False,
        readonlyPaths=["/proc/sys", "/other"],
    )
    found = sources(config, "/b", host, [("pids", "/host/pids/c"), ("", "/host/c")])
    assert {key: source for key, source in found.items() if not key.startswith("/dev/")} == {
        "/data": "/b/rel",
        "/data/deep": "/b/rel/deep",
        "/proc": "/proc",
        "/proc/sys": "/proc/sys",
        "/sys/fs/cgroup/pids": "/host/pids/c",
        "/sys/fs/cgroup": "/host/c",
    }
    assert found["/dev/null"] == "/dev/null"


def test_what_lies_on_a_tmpfs_comes_back_with_it() -> None:
    mounts = [{"destination": "/dev/", "type": "tmpfs"}, {"destination": "/run", "type": "tmpfs", "options": ["bind"]}]
    assert on_tmpfs("/dev/pts", mounts)
    assert not on_tmpfs("/dev", mounts)
    assert not on_tmpfs("/developer", mounts)
    assert not on_tmpfs("/run/x", mounts)
