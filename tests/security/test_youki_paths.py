"""Links and mounts of an image that led youki, and crun, to the host's files where runc had been led before.

The same attacks stand in test_runc_*.py with what was seen without the defence; here are the ways that these two
fell for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from security.attacks import add_mount, bind, mounts_without, refused
from support import Bundle, Runtime

pytestmark = pytest.mark.root


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["{host}", "/", "../../host", "/proc/self/root", "nowhere", "/tmp", "."])
def test_cve_2025_54867_a_proc_or_sys_that_is_a_link_is_refused(
    runtime: Runtime, bundle: Bundle, host: Path, name: str, target: str
) -> None:
    """Also with masked and readonly paths below it, which youki resolved through the link. Without
    IN_ROOT_NO_SYMLINKS in plan/mounts.py, _file_system, the container runs with "proc -> /tmp" and its /proc in
    /tmp."""
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).symlink_to(target.format(host=host))
    refused(runtime.sh(bundle, "true"), f"/{name}", "/mounts/")


def test_cve_2025_54867_nor_one_that_is_made_by_another_mount(runtime: Runtime, bundle: Bundle, host: Path) -> None:
    """A volume with a link in it over the root's own folders: the same is seen."""
    volume = bundle.path / "volume"
    volume.mkdir()
    (volume / "proc").symlink_to(host)
    mounts_without(bundle, "/proc")
    bind(bundle, volume, "/tmp", "rbind")
    add_mount(bundle, destination="/tmp/proc", type="proc", source="proc")
    refused(runtime.sh(bundle, "true"), "/tmp/proc", "/mounts/")


@pytest.mark.parametrize("what", ["link", "file", "another device", "link to another device"])
def test_cve_2025_62161_a_null_device_that_is_none_is_not_used(
    runtime: Runtime, bundle: Bundle, host: Path, what: str
) -> None:
    """youki bound the image's /dev/null over masked paths. Ours is the host's, and one of the image is looked at.
    Without expect_device in plan/devices.py, make_devices, and `verify`, the container runs."""
    null = bundle.rootfs / "dev/null"
    if what == "link":
        null.symlink_to(host / "ptmx")
    elif what == "file":
        null.write_text("secret")
    elif what == "another device":
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    else:
        os.mknod(bundle.rootfs / "dev/other", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        null.symlink_to("other")
    mounts_without(bundle, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    bundle.config["linux"]["maskedPaths"] = ["/etc/passwd"]
    refused(runtime.sh(bundle, "cat /etc/passwd"), "/dev/null")


@pytest.mark.parametrize("key", ["kernel.domainname", "net.ipv4.ip_default_ttl"])
@pytest.mark.parametrize("over", ["/proc/sys", "/proc"])
def test_cve_2025_62596_a_kernel_parameter_is_written_where_the_kernel_has_it(
    runtime: Runtime, bundle: Bundle, host: Path, key: str, over: str
) -> None:
    """A volume over /proc with a link to the host's file in the parameter's place. Without the procfs of our own (the
    parameters set in the container's /proc, after the mounts; without RESOLVE_* in plan/sysctl.py and `verify`), the
    host's file has the value, and the parameter has not."""
    value = "37"
    volume = bundle.path / "volume"
    place = volume / ("" if over == "/proc/sys" else "sys") / key.replace(".", "/")
    place.parent.mkdir(parents=True)
    place.symlink_to(host / "ptmx")
    bind(bundle, volume, over, "rbind")
    bundle.config["linux"]["sysctl"] = {key: value}
    bundle.config["linux"]["readonlyPaths"] = bundle.config["linux"]["maskedPaths"] = []
    add_mount(bundle, destination="/tmp", type="proc", source="proc", options=["nosuid", "noexec", "nodev"])
    done = runtime.sh(bundle, f"cat /tmp/sys/{key.replace('.', '/')}")
    assert (done.code, done.out) == (0, f"{value}\n"), done.err
    assert (host / "ptmx").read_text() == "host's"


@pytest.mark.parametrize("target", ["{host}", "../../host", "/../../../..{host}"])
@pytest.mark.parametrize("mounted", [False, True])
def test_cve_2026_47766_a_dev_that_is_a_link_leads_to_nothing_of_the_host(
    runtime: Runtime, bundle: Bundle, host: Path, target: str, mounted: bool
) -> None:
    """GHSA-7vwr-4279-7gq5, crun 1.28; runc's is CVE-2026-41579. Without RESOLVE_IN_ROOT in plan/paths.py and
    `verify` there are null, zero, … and a link for ptmx in the host's folder."""
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to(target.format(host=host))
    if not mounted:
        mounts_without(bundle, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    bundle.config["root"]["readonly"] = False
    done = runtime.sh(bundle, "true")
    assert done.code == 0 or done.err.startswith("ocirt: "), done
