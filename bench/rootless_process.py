"""Rows of docs/rootless.md's table: the process and its namespaces."""

from __future__ import annotations

import json
import os
import socket

from rootless_case import Case
from rootless_rows import Rows

PROCESS = Rows()


@PROCESS.row("`create --console-socket`")
def _(c: Case) -> None:
    c.config["process"]["terminal"] = True
    c.args("sh", "-c", "tty; test -t 0 && echo yes")
    c.write()
    console = c.console()
    c.started.append("box")
    c.ok("create", "--console-socket", console.path, "box")
    c.ok("start", "box")
    assert console.read() == "/dev/pts/0\nyes\n"


@PROCESS.row("seccomp")
def _(c: Case) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    c.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    c.says("mkdir /x 2>/dev/null || echo no; grep Seccomp: /proc/self/status", "no\nSeccomp:\t2")


@PROCESS.row("seccomp with an agent (`listenerPath`)")
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


@PROCESS.row("`noNewPrivileges`, capabilities, ambient ones")
def _(c: Case) -> None:
    c.config["process"]["noNewPrivileges"] = True
    for kind in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        c.config["process"]["capabilities"][kind] = ["CAP_KILL"]
    look = "grep -E 'Cap(Eff|Bnd|Amb)|NoNew' /proc/self/status | cut -f 2 | tr '\\n' ' '"
    c.says(look, " ".join([f"{1 << 5:016x}"] * 3) + " 1")


@PROCESS.row("`rlimits` below one's own")
def _(c: Case) -> None:
    c.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    c.says("ulimit -Sn; ulimit -Hn", "100\n200")


@PROCESS.row("`oomScoreAdj` above one's own")
def _(c: Case) -> None:
    c.config["process"]["oomScoreAdj"] = 300
    c.says("cat /proc/self/oom_score_adj", "300")


@PROCESS.row("`sysctl`: net, with a network namespace; kernel.msgmax, with an ipc namespace")
def _(c: Case) -> None:
    c.config["linux"]["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "4096"}
    c.says("cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/msgmax", "80\n4096")


@PROCESS.row("hooks of all six kinds")
def _(c: Case) -> None:
    log = c.folder / "log"
    on_host = {"path": "/bin/sh", "args": ["sh", "-c", f"cat >/dev/null; echo h >>{log}"]}
    inside = {"path": "/bin/sh", "args": ["sh", "-c", "cat >/dev/null; echo c >>/hooks"]}
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    c.config["hooks"] = {**{kind: [on_host] for kind in kinds}, "startContainer": [inside]}
    assert c.sh("cat /hooks") == "c"
    assert c.eventually(lambda: log.read_text().count("h") == len(kinds), "hooks are missing")


@PROCESS.row("`NOTIFY_SOCKET`: readiness is handed on")
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


@PROCESS.row("namespaces of another container, with its user namespace")
def _(c: Case) -> None:
    c.joins_without_maps = True
    join(c)


PROCESS.row("the same, and its maps given once more")(join)


@PROCESS.row("a time namespace")
def _(c: Case) -> None:
    c.namespace("time")
    c.config["linux"]["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 0}}
    assert float(c.sh("cut -d ' ' -f 1 /proc/uptime")) > 1000000
