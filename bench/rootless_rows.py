"""The rows of docs/rootless.md's table: each tries one thing with one runtime, and raises if it is not as it has to be.

ROWS: section → title → function of a Case. A function that returns a text answers with that instead of "yes".
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

from rootless_case import SLEEP, Case

if TYPE_CHECKING:
    from collections.abc import Callable

    Cell = Callable[[Case], str | None]

ROWS: dict[str, dict[str, Cell]] = {}
MAPS = "tr -s ' ' </proc/self/uid_map"
LOOP = ("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")


def row(section: str, title: str) -> Callable[[Cell], Cell]:
    def add(cell: Cell) -> Cell:
        ROWS.setdefault(section, {})[title] = cell
        return cell

    return add


# Ids


@row("ids", "one id, without newuidmap in the PATH")
def _(c: Case) -> None:
    c.environment["PATH"] = str(c.folder)
    c.says(f"{MAPS}; cat /proc/self/setgroups", f" 0 {c.person.uid} 1\ndeny")


@row("ids", "ranges, by newuidmap")
def _(c: Case) -> None:
    c.ranges()
    look = f"{MAPS}; touch /tmp/x && chown 7:7 /tmp/x && stat -c %u:%g /tmp/x"
    c.says(look, f" 0 {c.person.uid} 1\n 1 {c.person.first} {c.person.size}\n7:7")


@row("ids", "a user and groups of the range")
def _(c: Case) -> None:
    c.ranges()
    c.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 1000]}
    c.says("id -u; id -G", "1000\n1000 5")


@row("ids", "a configuration for root, without a user namespace: one is made")
def _(c: Case) -> None:
    c.without_namespace("user")
    for name in ("uidMappings", "gidMappings"):
        del c.config["linux"][name]
    c.says("id -u; touch /x && echo made", "0\nmade")


@row("ids", "the same, with `user.uid` 1000")
def _(c: Case) -> None:
    c.without_namespace("user")
    for name in ("uidMappings", "gidMappings"):
        del c.config["linux"][name]
    c.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    c.says("id -u", "1000")


@row("ids", "`spec --rootless`, and `run` of that")
def _(c: Case) -> None:
    (c.folder / "config.json").unlink(missing_ok=True)
    c.ok("spec", "--rootless")
    c.config = json.loads((c.folder / "config.json").read_text())
    c.config["process"]["terminal"] = False
    c.config["root"]["readonly"] = False
    c.says("id -u; touch /x && echo made", "0\nmade")


@row("ids", "state below `$XDG_RUNTIME_DIR`, without `--root`")
def _(c: Case) -> None:
    c.global_flags = c.global_flags[2:]
    c.start()
    assert c.state()["status"] == "running"
    assert os.listdir(c.environment["XDG_RUNTIME_DIR"])


@row("ids", "the same without `$XDG_RUNTIME_DIR`")
def _(c: Case) -> None:
    c.global_flags = c.global_flags[2:]
    del c.environment["XDG_RUNTIME_DIR"]
    c.start()
    assert c.state()["status"] == "running"


@row("ids", "somebody else's id is refused")
def _(c: Case) -> None:
    c.config["linux"]["uidMappings"][0]["hostID"] = 0
    c.write()
    done = c("run", "box")
    assert done.code and done.err, "it ran"
    assert c("state", "box").code, "something is left"


@row("ids", "in a container of its own")
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
        kind: ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_NET_ADMIN", "CAP_SYS_CHROOT"]
        for kind in ("bounding", "effective", "permitted")
    }
    c.says(f"cd /inner && {program} --root /tmp/state run box", " 0 0 1\nfile")


# Mounts


def listed(c: Case, place: str) -> str:
    """The line of /proc/mounts of a place."""
    return c.sh(f"grep ' {place} ' /proc/mounts")


@row("mounts", "proc, with the pid namespace of the host")
def _(c: Case) -> None:
    c.without_namespace("pid")
    seen, number = c.sh("readlink /proc/self/ns/pid; ls /proc | grep -c '^[0-9]'").splitlines()
    assert (seen, int(number) > 1) == (os.readlink("/proc/self/ns/pid"), True)


@row("mounts", "sysfs, with a network namespace")
def _(c: Case) -> None:
    c.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    c.says("ls /sys/class/net; touch /sys/x 2>/dev/null || echo ro", "lo\nro")


@row("mounts", "sysfs, with the network of the host")
def _(c: Case) -> None:
    c.without_namespace("network")
    c.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    c.says("ls -d /sys/class/net; touch /sys/x 2>/dev/null || echo ro", "/sys/class/net\nro")


@row("mounts", "mqueue")
def _(c: Case) -> None:
    c.mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    assert listed(c, "/dev/mqueue").startswith("mqueue")


@row("mounts", "devpts with `gid=5`, and a range")
def _(c: Case) -> None:
    c.ranges()
    c.config["mounts"][2]["options"].append("gid=5")
    c.says("ls -d /dev/pts/ptmx", "/dev/pts/ptmx")


@row("mounts", "devpts with `gid=5`, and one id")
def _(c: Case) -> None:
    c.config["mounts"][2]["options"].append("gid=5")
    c.says("ls -d /dev/pts/ptmx", "/dev/pts/ptmx")


@row("mounts", "tmpfs with size, mode and flags")
def _(c: Case) -> None:
    c.mount("/new", "tmpfs", "tmpfs", "size=1m", "mode=751", "noexec", "nosuid")
    assert "noexec" in listed(c, "/new")
    assert "size=1024k" in listed(c, "/new")


@row("mounts", "tmpfs with `tmpcopyup`")
def _(c: Case) -> None:
    c.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    c.says("cat /data/file; stat -f -c %T /data", "of the image\ntmpfs")


@row("mounts", "a folder, read-only")
def _(c: Case) -> None:
    c.mount("/v", "bind", c.own_folder("v"), "rbind", "ro")
    c.says("touch /v/x 2>/dev/null || echo ro", "ro")


@row("mounts", "a folder on a mount with locked flags, read-only")
def _(c: Case) -> None:
    c.mount("/v", "bind", c.person.locked, "bind", "ro")
    assert {"ro", "nosuid", "nodev"} <= set(listed(c, "/v").split()[3].split(","))


@row("mounts", "`rro`: with all below it")
def _(c: Case) -> None:
    c.mount("/v", "bind", "/dev", "rbind", "rro")
    c.says("touch /v/shm/x 2>/dev/null || echo ro", "ro")


@row("mounts", "overlay")
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


@row("mounts", "idmapped")
def _(c: Case) -> None:
    c.ranges()
    maps = [{"containerID": 0, "hostID": 1, "size": 1}]
    c.mount("/v", "bind", c.own_folder("v"), "bind", uidMappings=maps, gidMappings=maps)
    c.says("stat -c %u /v", "1")


@row("mounts", "cgroup")
def _(c: Case) -> None:
    c.namespace("cgroup")
    c.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    c.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
    find = "grep -m 1 -E '^cgroup2? /sys/fs/cgroup[^ ]* cgroup' /proc/mounts | cut -d ' ' -f 2"
    c.says(f"cd $({find}) && mkdir x 2>/dev/null || echo ro; test -e cgroup.procs && echo there", "ro\nthere")


@row("mounts", "the usual device nodes")
def _(c: Case) -> None:
    nodes = "null zero full random urandom tty"
    look = f"cd /dev; stat -c %t:%T {nodes} | tr '\\n' ' '; echo x >null; ls ptmx fd/0 stdin"
    c.says(look, "1:3 1:5 1:7 1:8 1:9 5:0 fd/0\nptmx\nstdin")


@row("mounts", "`linux.devices`: one of the host's")
def _(c: Case) -> None:
    device = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666, "uid": 0, "gid": 0}
    c.config["linux"]["devices"] = [device]
    c.says("stat -c %t:%T /dev/kmsg", "1:b")


@row("mounts", "a read-only root file system")
def _(c: Case) -> None:
    c.config["root"]["readonly"] = True
    c.says("touch /x 2>/dev/null || echo ro", "ro")


@row("mounts", "masked and read-only paths")
def _(c: Case) -> None:
    c.config["linux"] |= {"maskedPaths": ["/proc/keys", "/proc/acpi", "/data"], "readonlyPaths": ["/proc/sys", "/root"]}
    look = "wc -c </proc/keys; ls /data; touch /root/x 2>/dev/null || echo ro; (: >/proc/sys/kernel/domainname) 2>/dev/null || echo ro"
    c.says(look, "0\nro\nro")


@row("mounts", "what is mounted later comes in: `rslave`")
def _(c: Case) -> None:
    c.mount("/v", "bind", c.own_folder("v"), "rbind", "rslave")
    c.config["linux"]["rootfsPropagation"] = "rslave"
    assert "master:" in c.sh("grep ' /v ' /proc/self/mountinfo"), "it is no slave"


# The process


@row("process", "`create --console-socket`")
def _(c: Case) -> None:
    c.config["process"]["terminal"] = True
    c.args("sh", "-c", "tty; test -t 0 && echo yes")
    c.write()
    console = c.console()
    c.started.append("box")
    c.ok("create", "--console-socket", console.path, "box")
    c.ok("start", "box")
    assert console.read() == "/dev/pts/0\nyes\n"


@row("process", "seccomp")
def _(c: Case) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    c.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    c.says("mkdir /x 2>/dev/null || echo no; grep Seccomp: /proc/self/status", "no\nSeccomp:\t2")


@row("process", "seccomp with an agent (`listenerPath`)")
def _(c: Case) -> None:
    agent = c.console()
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}
    c.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [rule],
        "listenerPath": str(agent.path),
    }
    c.config["process"]["noNewPrivileges"] = True
    c.start()
    with agent.socket, agent.socket.accept()[0] as connection:
        content, numbers, _, _ = socket.recv_fds(connection, 1 << 16, 4)
    for number in numbers:
        os.close(number)
    assert json.loads(content)["state"]["id"] == "box"


@row("process", "`noNewPrivileges`, capabilities, ambient ones")
def _(c: Case) -> None:
    c.config["process"]["noNewPrivileges"] = True
    for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        c.config["process"]["capabilities"][kind] = ["CAP_KILL"]
    look = "grep -E 'Cap(Eff|Bnd|Amb)|NoNew' /proc/self/status | cut -f 2 | tr '\\n' ' '"
    c.says(look, " ".join([f"{1 << 5:016x}"] * 3) + " 1")


@row("process", "`rlimits` below one's own")
def _(c: Case) -> None:
    c.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    c.says("ulimit -Sn; ulimit -Hn", "100\n200")


@row("process", "`oomScoreAdj` above one's own")
def _(c: Case) -> None:
    c.config["process"]["oomScoreAdj"] = 300
    c.says("cat /proc/self/oom_score_adj", "300")


@row("process", "`sysctl`: net, with a network namespace; kernel.msgmax, with an ipc namespace")
def _(c: Case) -> None:
    c.config["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "4096"}
    c.says("cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/msgmax", "80\n4096")


@row("process", "hooks of all six kinds")
def _(c: Case) -> None:
    log = c.folder / "log"
    on_host = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >/dev/null; echo h >>{log}"]}
    inside = {"path": "/bin/sh", "args": ["sh", "-c", "cat >/dev/null; echo c >>/hooks"]}
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    c.config["hooks"] = {**{kind: [on_host] for kind in kinds}, "startContainer": [inside]}
    assert c.sh("cat /hooks") == "c"
    assert c.eventually(lambda: log.read_text().count("h") == len(kinds), "hooks are missing")


@row("process", "`NOTIFY_SOCKET`: readiness is handed on")
def _(c: Case) -> None:
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(c.folder / "notify"))
    systemd.settimeout(5)
    os.chown(c.folder / "notify", c.person.uid, c.person.uid)
    c.environment["NOTIFY_SOCKET"] = str(c.folder / "notify")
    c.config["process"]["env"].append("NOTIFY_SOCKET=/nowhere")
    tell = (
        "import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        "s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']); time.sleep(1000)"
    )
    for place in ("/bin", "/lib", "/lib64", "/usr"):
        c.mount(place, "bind", place, "rbind", "ro")
    c.args("/usr/bin/python3", "-ISc", tell)
    c.config["process"]["env"].pop()
    c.write()
    c.started.append("box")
    c.command("/bin/sh", "-c", f"{c.path} {' '.join(c.global_flags)} run --detach box")
    with systemd:
        try:
            seen = systemd.recv(4096)
        except TimeoutError:
            raise AssertionError("nothing came") from None
    assert b"READY=1" in seen


def join(c: Case) -> None:
    pid = c.start()
    if c.joins_without_maps:
        for name in ("uidMappings", "gidMappings"):
            del c.config["linux"][name]
    for kind in ("user", "network", "ipc", "uts"):
        short = {"network": "net"}.get(kind, kind)
        c.namespace(kind, f"/proc/{pid}/ns/{short}")
    del c.config["hostname"]
    c.args("sh", "-c", "readlink /proc/self/ns/net; hostname")
    c.write()
    expected = f"{os.readlink(f'/proc/{pid}/ns/net')}\nbox"
    assert c.ok("run", "second") == expected


@row("process", "namespaces of another container, with its user namespace")
def _(c: Case) -> None:
    c.joins_without_maps = True
    join(c)


row("process", "the same, and its maps given once more")(join)


@row("process", "a time namespace")
def _(c: Case) -> None:
    c.namespace("time")
    c.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 0}}
    assert float(c.sh("cut -d ' ' -f 1 /proc/uptime")) > 1000000


# Verbs


@row("verbs", "`create`, `start`, `state`, `kill`, `delete`")
def _(c: Case) -> None:
    c.start(*LOOP)
    assert c.state()["status"] == "running"
    c.ok("kill", "box", "KILL")
    c.eventually(lambda: c.state()["status"] == "stopped", "it did not stop")
    c.ok("delete", "box")
    assert c("state", "box").code


@row("verbs", "`run --detach --pid-file`, `list`")
def _(c: Case) -> None:
    c.args(*SLEEP)
    c.write()
    c.started.append("box")
    c.ok("run", "--detach", "--pid-file", c.folder / "pid", "box")
    assert int((c.folder / "pid").read_text()) == c.state()["pid"]
    assert "box" in c.ok("list", "--quiet")


@row("verbs", "`exec`, with `--user`, `--cwd`, `--env`")
def _(c: Case) -> None:
    c.ranges()
    c.start()
    seen = c.exec("id -u; pwd; echo $A", "--user", "1000:1000", "--cwd", "/data", "--env", "A=b")
    assert seen == "1000\n/data\nb"
    assert c("exec", "box", "sh", "-c", "exit 9").code == 9


@row("verbs", "`exec --tty --console-socket`")
def _(c: Case) -> None:
    c.start()
    console = c.console()
    c.ok("exec", "--detach", "--tty", "--console-socket", console.path, "box", "tty")
    assert console.read() == "/dev/pts/0\n"


@row("verbs", "`delete --force` of one that runs")
def _(c: Case) -> None:
    pid = c.start()
    c.ok("delete", "--force", "box")
    c.eventually(lambda: not os.path.exists(f"/proc/{pid}"), "it runs")
    assert c("state", "box").code


@row("verbs", "`kill --all`, with a pid namespace")
def _(c: Case) -> None:
    c.start("sh", "-c", "sleep 1000 & wait")
    c.ok("kill", "--all", "box", "KILL")
    c.eventually(lambda: c.state()["status"] == "stopped", "it did not stop")


def pause(c: Case) -> None:
    c.start()
    c.ok("pause", "box")
    assert c.state()["status"] == "paused"
    c.ok("resume", "box")
    assert c.state()["status"] == "running"


def ps(c: Case) -> None:
    pid = c.start("sh", "-c", "sleep 1000 & wait")
    found = json.loads(c.ok("ps", "--format", "json", "box"))
    assert (pid in found, len(found)) == (True, 2), found


def stats(c: Case) -> None:
    c.start()
    found = json.loads(c.ok("events", "--stats", "box"))
    assert found["data"]["pids"]["current"] == 1


def update(c: Case) -> None:
    c.start()
    c.ok("update", "--pids-limit", "77", "box")
    assert "77" in [path_content(path) for path in cgroup_files(c, "pids.max")]


def cgroup_files(c: Case, name: str) -> list[str]:
    pid = c.state()["pid"]
    with open(f"/proc/{pid}/cgroup") as file:
        found = [line.rstrip().split(":", 2) for line in file]
    return [
        path
        for _, kinds, folder in found
        if os.path.exists(path := f"/sys/fs/cgroup/{kinds.removeprefix('name=')}{folder}/{name}")
    ]


def path_content(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def limits(c: Case) -> None:
    c.config["linux"]["resources"] = {"pids": {"limit": 50}}
    c.start()
    assert "50" in [path_content(path) for path in cgroup_files(c, "pids.max")]


def limits_refused(c: Case) -> None:
    c.config["linux"]["resources"] = {"pids": {"limit": 50}}
    c.args("true")
    c.write()
    done = c("run", "box")
    assert done.code and done.err, "it ran, without the limit"


def kill_all(c: Case) -> None:
    c.without_namespace("pid")
    c.mount("/proc", "bind", "/proc", "rbind")
    pid = c.start("sh", "-c", "sleep 1000 & echo $! >/tmp/child; wait")
    child = int(c.eventually(lambda: path_content(str(c.rootfs / "tmp/child"))))
    c.remember(child)
    c.ok("kill", "--all", "box", "KILL")
    for one in (pid, child):
        c.eventually(lambda one=one: gone(one), "a process is left")


def gone(pid: int) -> bool:
    try:
        return " Z " in path_content(f"/proc/{pid}/stat")
    except OSError:
        return True


row("verbs", "`pause` and `resume`")(pause)
row("verbs", "`ps`")(ps)
row("verbs", "`events --stats`")(stats)
row("verbs", "`kill --all`, without a pid namespace")(kill_all)


@row("verbs", "limits that cannot be: an error")
def _(c: Case) -> None:
    limits_refused(c)


@row("verbs", "`checkpoint`")
def _(c: Case) -> str:
    c.start()
    done = c("checkpoint", "--image-path", c.folder / "image", "box")
    assert done.code and done.err, "it answers with success"
    assert c.state()["status"] == "running"
    return "refused"


DELEGATED: dict[str, Cell] = {
    "`linux.resources`": limits,
    "`update`": update,
    "`pause` and `resume`": pause,
    "`ps`": ps,
    "`events --stats`": stats,
    "`kill --all`, without a pid namespace": kill_all,
}
"""What it takes a cgroup for."""
