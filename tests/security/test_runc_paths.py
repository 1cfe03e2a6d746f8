"""Links of an image, and in volumes that two share, that lead a runtime to the host's files (runc's history).

What holds in all of them: init reaches into the root file system by openat2(2) with RESOLVE_IN_ROOT alone, and uses
what it has found by its descriptor (plan/paths.py). `verify` refuses a plan that does not (targets-by-descriptor,
writes-inside).
docs/security-tests.md says what was seen without that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from security.attacks import (
    ROUNDS,
    add_mount,
    bind,
    everything_of,
    mounts_without,
    refused,
    runs_or_is_refused,
    swapping,
)
from support import Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
OUT = ("{host}", "../../host", "../../../../../../../../..{host}")
"""Ways for a link of the image to a folder of the host."""


def link(bundle: Bundle, name: str, target: str, host: Path) -> Path:
    """A link instead of the folder of this name, if there is one; returns where in the root it leads."""
    place = bundle.rootfs / name
    if place.is_dir():
        place.rmdir()
    place.symlink_to(target.format(host=host))
    return bundle.rootfs / ("host" if target == "../../host" else str(host).lstrip("/"))


@pytest.mark.parametrize("target", OUT)
def test_cve_2015_3629_a_mount_through_a_link_of_the_image_stays_in_the_root(
    runtime: Runtime, bundle: Bundle, host: Path, target: str
) -> None:
    """CVE-2015-3627 (the opens) and CVE-2015-3629 (the mounts): links of the image led both to the host."""
    link(bundle, "data", target, host).mkdir(parents=True)
    add_mount(bundle, destination="/data", type="tmpfs", source="tmpfs", options=["size=64k"])
    done = runtime.sh(bundle, "echo x > /data/ptmx && cat /data/ptmx")
    assert (done.code, done.out) == (0, "x\n"), done.err


@pytest.mark.parametrize("target", OUT)
def test_cve_2015_3629_a_new_mount_point_below_a_link_is_made_in_the_root(
    runtime: Runtime, bundle: Bundle, host: Path, target: str
) -> None:
    inside = link(bundle, "data", target, host)
    inside.mkdir(parents=True)
    add_mount(bundle, destination="/data/new/folder", type="tmpfs", source="tmpfs")
    bind(bundle, bundle.path / "config.json", "/data/new/file")
    done = runtime.sh(bundle, f"test -f /{inside.relative_to(bundle.rootfs)}/new/file")
    assert (done.code, done.err) == (0, "")
    assert (inside / "new/folder").is_dir()


def test_cve_2015_3629_dots_in_a_destination_do_not_leave_the_root(
    runtime: Runtime, bundle: Bundle, host: Path
) -> None:
    add_mount(bundle, destination=f"/../../../../../../../../..{host}", type="tmpfs", source="caught")
    done = runtime.sh(bundle, f"grep -c ' {host} .* caught ' /proc/self/mountinfo")
    assert (done.code, done.out) == (0, "1\n"), done.err


def test_cve_2015_3630_what_of_proc_is_the_hosts_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    """As the default configuration asks it. Only what is the container's own is tried in earnest."""
    bundle.config["process"]["capabilities"] = {}  # some files ask for a capability, which is not what is meant here
    bundle.config["process"]["user"] = {"uid": 0, "gid": 0}
    done = runtime.sh(
        bundle,
        "grep ' /proc/' /proc/self/mountinfo; (echo x > /proc/sys/kernel/hostname) 2>&1;"
        " cat /proc/keys /proc/timer_list | wc -c",
    )
    *lines, written, read = done.out.splitlines()
    shown = {fields[4]: fields for fields in (line.split() for line in lines)}
    for path in ("bus", "fs", "irq", "sys", "sysrq-trigger"):
        if Path("/proc", path).exists():
            assert "ro" in shown[f"/proc/{path}"][5].split(","), path
    assert "Read-only file system" in written
    assert read == "0"


def test_cve_2015_3631_a_volume_over_a_part_of_proc_changes_nothing_but_what_is_seen_there(
    runtime: Runtime, bundle: Bundle, host: Path
) -> None:
    """It was the runtime that was led astray: it wrote a label to /proc, and a volume caught it. Ours writes to a
    procfs of its own (test_runc_procfs.py), so a volume there is its user's choice; masks and readonly paths lie above
    it."""
    add_mount(bundle, destination="/proc/sys", type="tmpfs", source="tmpfs", options=["mode=755"])
    bind(bundle, host, "/proc/bus")
    bundle.config["linux"]["maskedPaths"].append("/proc/sys/masked")
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    done = runtime.sh(bundle, "ls -A /proc/sys; touch /proc/sys/x || echo 1; echo x > /proc/bus/ptmx || echo 2")
    assert done.out.split() == ["1", "2"], done.err


@pytest.mark.parametrize("target", [*OUT, "/../../../..{host}"])
@pytest.mark.parametrize("mounted", ["no mount", "a mount"])
def test_cve_2026_41579_a_dev_that_is_a_link_changes_nothing_on_the_host(
    runtime: Runtime, bundle: Bundle, host: Path, target: str, mounted: str
) -> None:
    """ptmx was removed, and links were made, in what the image's /dev led to."""
    inside = link(bundle, "dev", target, host)
    inside.mkdir(parents=True, exist_ok=True)
    if mounted == "no mount":
        mounts_without(bundle, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    bundle.config["root"]["readonly"] = False
    done = runtime.sh(bundle, "echo /dev/*")
    assert (done.code, done.err) == (0, "")
    assert "/dev/ptmx" in done.out.split()


# Races: somebody changes the way while it is walked.


@pytest.fixture
def volume(bundle: Bundle) -> Iterator[Path]:
    """A folder of the host's that the container has at /vol, as others may."""
    folder = bundle.path / "volume"
    (folder / "way" / "deep").mkdir(parents=True)
    bind(bundle, folder, "/vol")
    bundle.config["root"]["readonly"] = False
    return folder


@pytest.mark.parametrize("target", ["{host}", "../../../../../../../../../..{host}"])
def test_cve_2021_30465_a_mount_whose_way_is_exchanged_for_a_link_is_in_the_container(
    runtime: Runtime, bundle: Bundle, host: Path, volume: Path, target: str
) -> None:
    """A container that runs is one that sees its mount: it was made in its root, wherever that was."""
    (volume / "link").symlink_to(target.format(host=host))
    add_mount(bundle, destination="/vol/way/deep", type="tmpfs", source="caught", options=["size=64k"])
    before = Path("/proc/self/mountinfo").read_text()
    ran = 0
    with swapping(volume / "way", volume / "link"):
        for number in range(ROUNDS):
            done = runtime.sh(bundle, "grep ' caught ' /proc/self/mountinfo | wc -l", f"race-{number}")
            ran += runs_or_is_refused(done)
            assert done.out == ("1\n" if done.code == 0 else ""), done
    print(f"{ran} rounds ran")
    assert ran
    assert Path("/proc/self/mountinfo").read_text() == before


def test_cve_2021_30465_a_mount_point_that_is_exchanged_itself(
    runtime: Runtime, bundle: Bundle, host: Path, volume: Path
) -> None:
    (volume / "link").symlink_to(host)
    (bundle.rootfs / str(host).lstrip("/")).mkdir(parents=True)
    add_mount(bundle, destination="/vol/way", type="tmpfs", source="caught", options=["size=64k"])
    ran = 0
    with swapping(volume / "way", volume / "link"):
        for number in range(ROUNDS):
            done = runtime.sh(bundle, "grep ' caught ' /proc/self/mountinfo | wc -l", f"race-{number}")
            ran += runs_or_is_refused(done)
            assert done.out == ("1\n" if done.code == 0 else ""), done
    print(f"{ran} rounds ran")
    assert ran


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_cve_2024_45310_nothing_is_made_on_the_host_where_the_way_is_exchanged(
    runtime: Runtime, bundle: Bundle, host: Path, volume: Path, kind: str
) -> None:
    """The fixture `host` looks, and would see what was there for a moment, too."""
    (volume / "link").symlink_to(host)
    (bundle.rootfs / str(host).lstrip("/")).mkdir(parents=True)
    if kind == "folder":
        add_mount(bundle, destination="/vol/way/a/b/c", type="tmpfs", source="tmpfs", options=["size=64k"])
    else:
        bind(bundle, bundle.path / "config.json", "/vol/way/a/file")
    ran = 0
    before = everything_of(host)
    with swapping(volume / "way", volume / "link"):
        for number in range(ROUNDS):
            ran += runs_or_is_refused(runtime.sh(bundle, "true", f"race-{number}"))
            assert everything_of(host) == before, f"round {number}"
    print(f"{ran} rounds ran")
    assert ran


# /proc and /sys


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/etc", "../..", "/proc", "nowhere", "{host}", "/tmp/real"])
def test_cve_2019_19921_a_proc_that_is_a_link_is_refused(
    runtime: Runtime, bundle: Bundle, host: Path, name: str, target: str
) -> None:
    """The image would choose what the runtime takes for /proc. CVE-2023-27561 and CVE-2023-28642: the same, once more,
    when a library resolved the link before it was looked at."""
    link(bundle, name, target, host)
    (bundle.rootfs / "tmp/real").mkdir()
    refused(runtime.sh(bundle, "true"), f"on /{name}", "/mounts/", "Too many levels of symbolic links")
    assert list((bundle.rootfs / "tmp/real").iterdir()) == []


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_cve_2023_27561_a_proc_that_is_no_folder_is_refused(runtime: Runtime, bundle: Bundle, name: str) -> None:
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).write_text("")
    refused(runtime.sh(bundle, "true"), f"on /{name}", "/mounts/", "must both be directories")


def test_cve_2023_28642_a_proc_below_a_link_is_the_images_choice_only_of_where_it_is_seen(
    runtime: Runtime, bundle: Bundle, host: Path
) -> None:
    """A second procfs in a folder that is reached by a link; refused, or in the root."""
    (bundle.rootfs / "way").symlink_to(host)
    (bundle.rootfs / str(host).lstrip("/") / "proc").mkdir(parents=True)
    add_mount(bundle, destination="/way/proc", type="proc", source="proc")
    refused(runtime.sh(bundle, "true"), "on /way/proc", "/mounts/", "Too many levels of symbolic links")


def test_a_bind_mount_over_a_magic_link_is_refused(runtime: Runtime, bundle: Bundle, host: Path) -> None:
    """/proc/self/exe and /proc/1/root are magic links to what is outside."""
    add_mount(bundle, destination="/proc/self/cwd", type="tmpfs", source="tmpfs")
    refused(runtime.sh(bundle, "true"), "/mounts/")
