"""Cgroups: which devices a container may open, and whether an ordinary user's container may write to the user's own.

Run for each layout that a host may have: v1, hybrid, and v2 (PURE_V2=1; tests/vm).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.ordinary import UID, Ordinary
from runtime.test_delegation import PURE_V2, theirs, user  # noqa: F401  (fixtures)
from support import Bundle, Runtime

from ocirt.runtime.spec import rootless_spec

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root


def test_ghsa_g54h_m393_cpwq_a_list_of_allowed_devices_is_not_all_devices(runtime: Runtime, bundle: Bundle) -> None:
    """By the kernel's word: "not permitted" is the cgroup's, "no such device" would be the driver's."""
    bundle.config["root"]["readonly"] = False
    bundle.config["linux"]["resources"] = {
        "devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]
    }
    bundle.config["process"]["capabilities"] = {
        name: ["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYSLOG"] for name in ("bounding", "permitted", "effective")
    }
    (bundle.rootfs / "bin/mknod").symlink_to("busybox")
    nodes = {"/kmsg": "c 1 11", "/sda": "b 8 0", "/loop": "b 7 0", "/tty0": "c 4 0"}
    made = " && ".join(f"mknod {path} {kind}" for path, kind in nodes.items())
    done = runtime.sh(bundle, f"{made}; for node in {' '.join(nodes)}; do (: < $node) 2>&1; done; cat /dev/null")
    assert done.err == ""
    assert [line.rpartition(": ")[2] for line in done.out.splitlines()] == ["Operation not permitted"] * len(nodes)


WRITE = """
for procs in $(busybox find /sys/fs/cgroup -name cgroup.procs); do
    echo seen
    mkdir ${procs%/*}/made 2> /dev/null && echo made ${procs%/*}/made
    (echo $$ > $procs) 2> /dev/null && echo wrote to $procs
done
true
"""


@pytest.mark.parametrize("spec", ["spec", "spec --rootless"])
@pytest.mark.parametrize("caller", ["a user", "root of a user namespace"])
def test_cve_2023_25809_the_users_own_cgroups_are_readonly_without_a_cgroup_namespace(
    user: Ordinary,  # noqa: F811
    theirs: Callable[..., list[Path]],  # noqa: F811
    spec: str,
    caller: str,
) -> None:
    """They are the user's, and so is the container's root, but the configuration shows them readonly. With --rootless
    the host's /sys is shown, with the hierarchies writable as they are there; what is mounted over that is not."""
    user.cgroups = tuple(theirs(*(("",) if PURE_V2 else ("systemd", "pids"))))
    if spec == "spec --rootless":
        user.bundle.config = rootless_spec(UID, UID)
        user.bundle.config["process"]["terminal"] = False
    if caller == "root of a user namespace":
        user.root = True
        for name in ("uidMappings", "gidMappings"):
            for mapping in user.bundle.config["linux"].get(name, ()):
                mapping["hostID"] = 0
        for mount in user.bundle.config["mounts"]:
            if "gid=5" in mount.get("options", ()):
                mount["options"].remove("gid=5")  # there is one group
    linux = user.bundle.config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "cgroup"]
    done = user.run(WRITE)
    assert (done.code, set(done.out.splitlines())) == (0, {"seen"}), done
