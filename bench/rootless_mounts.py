"""Rows of docs/rootless.md's table: mounts and devices."""

from __future__ import annotations

import os
import subprocess

from rootless_case import Case
from rootless_rows import Rows

MOUNTS = Rows()


def listed(c: Case, place: str) -> str:
    """The line of /proc/mounts of a place."""
    return c.sh(f"grep ' {place} ' /proc/mounts")


@MOUNTS.row("proc, with the pid namespace of the host")
def _(c: Case) -> None:
    c.without_namespace("pid")
    seen, number = c.sh("readlink /proc/self/ns/pid; ls /proc | grep -c '^[0-9]'").splitlines()
    assert (seen, int(number) > 1) == (os.readlink("/proc/self/ns/pid"), True)


@MOUNTS.row("sysfs, with a network namespace")
def _(c: Case) -> None:
    c.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    c.says("ls /sys/class/net; touch /sys/x 2>/dev/null || echo ro", "lo\nro")


@MOUNTS.row("sysfs, with the network of the host")
def _(c: Case) -> None:
    c.without_namespace("network")
    c.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    c.says("ls -d /sys/class/net; touch /sys/x 2>/dev/null || echo ro", "/sys/class/net\nro")


@MOUNTS.row("mqueue")
def _(c: Case) -> None:
    c.mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    assert listed(c, "/dev/mqueue").startswith("mqueue")


@MOUNTS.row("devpts with `gid=5`, and a range")
def _(c: Case) -> None:
    c.ranges()
    c.config["mounts"][2]["options"].append("gid=5")
    c.says("ls -d /dev/pts/ptmx", "/dev/pts/ptmx")


@MOUNTS.row("devpts with `gid=5`, and one id")
def _(c: Case) -> None:
    c.config["mounts"][2]["options"].append("gid=5")
    c.says("ls -d /dev/pts/ptmx", "/dev/pts/ptmx")


@MOUNTS.row("tmpfs with size, mode and flags")
def _(c: Case) -> None:
    c.mount("/new", "tmpfs", "tmpfs", "size=1m", "mode=751", "noexec", "nosuid")
    assert "noexec" in listed(c, "/new")
    assert "size=1024k" in listed(c, "/new")


@MOUNTS.row("tmpfs with `tmpcopyup`")
def _(c: Case) -> None:
    c.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    c.says("cat /data/file; stat -f -c %T /data", "of the image\ntmpfs")


@MOUNTS.row("a folder, read-only")
def _(c: Case) -> None:
    c.mount("/v", "bind", c.own_folder("v"), "rbind", "ro")
    c.says("touch /v/x 2>/dev/null || echo ro", "ro")


@MOUNTS.row("a folder on a mount with locked flags, read-only")
def _(c: Case) -> None:
    c.mount("/v", "bind", c.person.locked, "bind", "ro")
    assert {"ro", "nosuid", "nodev"} <= set(listed(c, "/v").split()[3].split(","))


@MOUNTS.row("`rro`: with all below it")
def _(c: Case) -> None:
    c.mount("/v", "bind", "/dev", "rbind", "rro")
    c.says("touch /v/shm/x 2>/dev/null || echo ro", "ro")


@MOUNTS.row("overlay")
def _(c: Case) -> None:
    folders = {name: c.own_folder(name) for name in ("lower", "upper", "work")}
    file = folders["lower"] / "f"
    file.write_text("lower\n")
    os.chown(file, c.person.uid, c.person.uid)
    options = [
        f"lowerdir={folders['lower']}",
        f"upperdir={folders['upper']}",
        f"workdir={folders['work']}",
        "userxattr",
    ]
    c.mount("/v", "overlay", "overlay", *options)
    c.says("cat /v/f; echo new >/v/f; cat /v/f", "lower\nnew")
    assert (folders["upper"] / "f").exists()


@MOUNTS.row("idmapped")
def _(c: Case) -> None:
    c.ranges()
    maps = [{"containerID": 0, "hostID": 1, "size": 1}]
    c.mount("/v", "bind", c.own_folder("v"), "bind", uidMappings=maps, gidMappings=maps)
    c.says("stat -c %u /v", "1")


@MOUNTS.row("cgroup")
def _(c: Case) -> None:
    c.namespace("cgroup")
    c.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    c.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
    find = "grep -m 1 -E '^cgroup2? /sys/fs/cgroup[^ ]* cgroup' /proc/mounts | cut -d ' ' -f 2"
    c.says(f"cd $({find}) && mkdir x 2>/dev/null || echo ro; test -e cgroup.procs && echo there", "ro\nthere")


@MOUNTS.row("the usual device nodes")
def _(c: Case) -> None:
    nodes = "null zero full random urandom tty"
    look = f"cd /dev; stat -c %t:%T {nodes} | tr '\\n' ' '; echo x >null; ls ptmx fd/0 stdin"
    c.says(look, "1:3 1:5 1:7 1:8 1:9 5:0 fd/0\nptmx\nstdin")


@MOUNTS.row("`linux.devices`: one of the host's")
def _(c: Case) -> None:
    device = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666, "uid": 0, "gid": 0}
    c.config["linux"]["devices"] = [device]
    c.says("stat -c %t:%T /dev/kmsg", "1:b")


@MOUNTS.row("a read-only root file system")
def _(c: Case) -> None:
    c.config["root"]["readonly"] = True
    c.says("touch /x 2>/dev/null || echo ro", "ro")


@MOUNTS.row("masked and read-only paths")
def _(c: Case) -> None:
    c.config["linux"] |= {"maskedPaths": ["/proc/keys", "/proc/acpi", "/data"], "readonlyPaths": ["/proc/sys", "/root"]}
    write = "for f in /root/x /proc/sys/kernel/domainname; do (: >$f) 2>/dev/null || echo ro; done"
    look = f"wc -c </proc/keys; ls /data; {write}"
    c.says(look, "0\nro\nro")


@MOUNTS.row("what is mounted later comes in: `rslave`")
def _(c: Case) -> str | None:
    if os.getuid():
        return "only root can try"
    folder = c.own_folder("v")
    (folder / "later").mkdir()
    c.mount("/v", "bind", folder, "rbind", "rslave")
    c.config["linux"]["rootfsPropagation"] = "rslave"
    c.start()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "later"], check=True)
    try:
        (folder / "later/f").touch()
        c.exec("test -e /v/later/f")
    finally:
        c("delete", "--force", "box")
        subprocess.run(["umount", folder / "later"], check=True)
    return None
