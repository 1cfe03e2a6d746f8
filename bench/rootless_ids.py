"""Rows of docs/rootless.md's table: ids."""

from __future__ import annotations

import json
import os

from rootless_case import Case
from rootless_rows import MAPS, Rows

IDS = Rows()


@IDS.row("one id, without newuidmap in the PATH")
def _(c: Case) -> None:
    c.environment["PATH"] = str(c.folder)
    c.says(f"{MAPS}; cat /proc/self/setgroups", f" 0 {c.person.uid} 1\ndeny")


@IDS.row("ranges, by newuidmap")
def _(c: Case) -> None:
    c.ranges()
    look = f"{MAPS}; touch /tmp/x && chown 7:7 /tmp/x && stat -c %u:%g /tmp/x"
    c.says(look, f" 0 {c.person.uid} 1\n 1 {c.person.first} {c.person.size}\n7:7")


@IDS.row("a user and groups of the range")
def _(c: Case) -> None:
    c.ranges()
    c.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 1000]}
    c.says("id -u; id -G", "1000\n1000 5")


@IDS.row("a configuration for root, without a user namespace: one is made")
def _(c: Case) -> None:
    c.without_namespace("user")
    for name in ("uidMappings", "gidMappings"):
        del c.config["linux"][name]
    c.says("id -u; touch /x && echo made", "0\nmade")


@IDS.row("the same, with `user.uid` 1000")
def _(c: Case) -> None:
    c.without_namespace("user")
    for name in ("uidMappings", "gidMappings"):
        del c.config["linux"][name]
    c.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    c.says("id -u", "1000")


@IDS.row("`spec --rootless`, and `run` of that")
def _(c: Case) -> None:
    (c.folder / "config.json").unlink(missing_ok=True)
    c.ok("spec", "--rootless")
    c.config = json.loads((c.folder / "config.json").read_text())
    c.config["process"]["terminal"] = False
    c.config["root"]["readonly"] = False
    c.says("id -u; touch /x && echo made", "0\nmade")


@IDS.row("state below `$XDG_RUNTIME_DIR`, without `--root`")
def _(c: Case) -> None:
    c.global_flags = c.global_flags[2:]
    c.start()
    assert c.state()["status"] == "running"
    assert os.listdir(c.environment["XDG_RUNTIME_DIR"])


@IDS.row("the same without `$XDG_RUNTIME_DIR`")
def _(c: Case) -> None:
    c.global_flags = c.global_flags[2:]
    del c.environment["XDG_RUNTIME_DIR"]
    c.start()
    assert c.state()["status"] == "running"


@IDS.row("somebody else's id is refused")
def _(c: Case) -> None:
    c.config["linux"]["uidMappings"][0]["hostID"] = 0
    c.write()
    done = c("run", "box")
    assert done.code and done.err, "it ran"
    assert c("state", "box").code, "something is left"


@IDS.row("in a container of its own")
def _(c: Case) -> None:
    """The host's programs, read-only, and in it the same runtime with the same root file system."""
    c.ranges()
    for place in ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc"):
        c.mount(place, "bind", place, "rbind", "ro")
    c.mount("/program", "bind", os.path.dirname(os.path.dirname(os.path.realpath(c.path))), "rbind", "ro")
    c.mount("/tmp", "tmpfs")
    c.mount("/sys", "sysfs", "sysfs", "ro")
    c.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    c.namespace("cgroup")
    inner = json.loads(json.dumps({**c.config, "mounts": c.config["mounts"][:3]}))
    for kind in ("uidMappings", "gidMappings"):
        inner["linux"][kind] = [{"containerID": 0, "hostID": 0, "size": 1}]
    inner["linux"].pop("cgroupsPath", None)
    inner["process"]["args"] = ["sh", "-c", f"{MAPS}; ls /data"]
    bundle = c.own_folder("inner")
    (bundle / "config.json").write_text(json.dumps(inner))
    c.mount("/inner", "bind", bundle, "rbind")
    c.mount("/inner/rootfs", "bind", c.rootfs, "rbind")
    (bundle / "rootfs").mkdir()
    program = f"/program/{os.path.basename(os.path.dirname(os.path.realpath(c.path)))}/{os.path.basename(c.path)}"
    c.config["root"]["path"] = str(c.own_folder("outer"))
    c.config["process"]["capabilities"] = {
        kind: ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]
        for kind in ("bounding", "effective", "permitted")
    }
    c.says(f"cd /inner && {program} --root /tmp/state run box", " 0 0 1\nfile")
