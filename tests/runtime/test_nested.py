"""ocirt inside an ocirt container: with all rights, in a user namespace, and there as an ordinary user.

The outer container has the host's programs, read-only, and this installation at its own path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import OCIRT, Bundle, Done, Runtime, default_config, make_rootfs

pytestmark = pytest.mark.root
FIRST, COUNT = 300_000, 65_536
"""The outer container's ids, where it has a user namespace."""
ALL = [f"CAP_{name}" for name in "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP".split()]
ALL += [f"CAP_{name}" for name in "NET_BIND_SERVICE NET_ADMIN NET_RAW SYS_CHROOT SYS_PTRACE SYS_ADMIN MKNOD".split()]
ALL += ["CAP_SYS_RESOURCE", "CAP_SETFCAP", "CAP_AUDIT_WRITE"]
LIFE = """
set -e
cd /bundles
ocirt() { %s "$@"; }
ocirt run --bundle inner one
ocirt create --bundle lasting two </dev/null >/dev/null 2>&1
ocirt start two
ocirt list --quiet
ocirt exec two /bin/echo executed
ocirt ps --format json two >/dev/null
ocirt kill two KILL
ocirt delete --force two
ocirt list --quiet
[ -z "$(ls "$1")" ] && echo "nothing left"
"""
DROP = "exec setpriv --reuid=1000 --regid=1000 --clear-groups --bounding-set=-all"
USER = f"{DROP} bash -c '{LIFE}' life /tmp/ocirt-1000"


def installation() -> list[Path]:
    """What has to be there beside the host's /usr: ours, and the interpreter, if it is somewhere else."""
    python = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable))).parents[1]
    return [path for path in dict.fromkeys([Path(OCIRT).parents[1], python]) if not path.is_relative_to("/usr")]


class Outer:
    """A container to run ocirt in. `config`: change it, then call it with a script."""

    def __init__(self, runtime: Runtime, place: Path) -> None:
        self.runtime = runtime
        self.place = place
        rootfs = place / "rootfs"
        for folder in ("dev", "etc", "proc", "run", "sys", "tmp", "usr", "bundles"):
            (rootfs / folder).mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if Path("/", link).is_symlink():
                (rootfs / link).symlink_to(os.readlink(f"/{link}"))
        (rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        self.config = default_config(noNewPrivileges=False)
        self.config["root"]["readonly"] = False
        self.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), ALL)
        for name in ("maskedPaths", "readonlyPaths"):
            del self.config["linux"][name]
        for mount in self.config["mounts"]:
            if mount["destination"].startswith("/sys"):
                mount["options"].remove("ro")
        self.tmpfs("/run", "mode=755")
        self.tmpfs("/tmp", "mode=1777")
        self.bind("/usr", "ro")
        self.bind("/etc/ld.so.cache", "ro")
        for path in installation():
            self.bind(str(path), "ro")
        self.bind(str(self.work()), to="/bundles")

    def work(self) -> Path:
        """The bundles of the inner containers."""
        path = self.place / "work"
        rootfs = make_rootfs(path / "rootfs")
        for name, args in {"inner": ["/bin/id"], "lasting": ["/bin/sleep", "1000"]}.items():
            bundle = Bundle(path / name, default_config(args=args))
            bundle.path.mkdir()
            bundle.rootfs.symlink_to(Path("..", rootfs.name))
            bundle.write()
        return path

    def bind(self, source: str, *options: str, to: str = "") -> None:
        mount = {"destination": to or source, "type": "bind", "source": source, "options": ["rbind", *options]}
        self.config["mounts"].append(mount)

    def tmpfs(self, destination: str, *options: str) -> None:
        self.config["mounts"].append(
            {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": list(options)}
        )

    def __call__(self, script: str, **options: Any) -> Done:
        self.config["process"]["args"] = ["/bin/bash", "-c", script, "life", "/run/ocirt"]
        bundle = Bundle(self.place, self.config).write()
        return self.runtime("run", "--bundle", bundle.path, "outer", timeout=120, **options)

    def with_user_namespace(self) -> None:
        """Its ids are others outside, also those of its files."""
        linux = self.config["linux"]
        linux["namespaces"].append({"type": "user"})
        for name in ("uidMappings", "gidMappings"):
            linux[name] = [{"containerID": 0, "hostID": FIRST, "size": COUNT}]
        for folder in ("rootfs", "work"):
            subprocess.run(["chown", "-hR", f"{FIRST}:{FIRST}", self.place / folder], check=True)


@pytest.fixture
def outer(runtime: Runtime) -> Iterator[Outer]:
    place = Path(tempfile.mkdtemp(prefix="ocirt-nested-"))
    place.chmod(0o755)
    yield Outer(runtime, place)
    assert runtime("delete", "--force", "outer").code == 0
    shutil.rmtree(place)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("user_namespace", [False, True], ids=["privileged", "user namespace"])
@pytest.mark.parametrize("life", [LIFE, USER], ids=["root", "user"])
def test_a_containers_life_inside_a_container(outer: Outer, life: str, user_namespace: bool) -> None:
    if user_namespace:
        outer.with_user_namespace()
    done = outer(life.replace("%s", OCIRT))
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["uid=0(root) gid=0(root)", "two", "executed", "nothing left"]
