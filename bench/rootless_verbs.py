"""Rows of docs/rootless.md's table: verbs, and what takes a cgroup."""

from __future__ import annotations

import json
import os

from rootless_case import SLEEP, Case
from rootless_rows import LOOP, Rows

VERBS = Rows()


@VERBS.row("`create`, `start`, `state`, `kill`, `delete`")
def _(c: Case) -> None:
    c.start(*LOOP)
    assert c.state()["status"] == "running"
    c.ok("kill", "box", "KILL")
    c.eventually(lambda: c.state()["status"] == "stopped", "it did not stop")
    c.ok("delete", "box")
    assert c("state", "box").code


@VERBS.row("`run --detach --pid-file`, `list`")
def _(c: Case) -> None:
    c.args(*SLEEP)
    c.write()
    c.started.append("box")
    c.ok("run", "--detach", "--pid-file", c.folder / "pid", "box")
    assert int((c.folder / "pid").read_text()) == c.state()["pid"]
    assert "box" in c.ok("list", "--quiet")


@VERBS.row("`exec`, with `--user`, `--cwd`, `--env`")
def _(c: Case) -> None:
    c.ranges()
    c.start()
    seen = c.exec("id -u; pwd; echo $A", "--user", "1000:1000", "--cwd", "/data", "--env", "A=b")
    assert seen == "1000\n/data\nb"
    assert c("exec", "box", "sh", "-c", "exit 9").code == 9


@VERBS.row("`exec --tty --console-socket`")
def _(c: Case) -> None:
    c.start()
    console = c.console()
    c.ok("exec", "--detach", "--tty", "--console-socket", console.path, "box", "tty")
    assert console.read() == "/dev/pts/0\n"


@VERBS.row("`delete --force` of one that runs")
def _(c: Case) -> None:
    pid = c.start()
    c.ok("delete", "--force", "box")
    c.eventually(lambda: not os.path.exists(f"/proc/{pid}"), "it runs")
    assert c("state", "box").code


@VERBS.row("`kill --all`, with a pid namespace")
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


VERBS.row("`pause` and `resume`")(pause)
VERBS.row("`ps`")(ps)
VERBS.row("`events --stats`")(stats)
VERBS.row("`kill --all`, without a pid namespace")(kill_all)


@VERBS.row("limits that cannot be: an error")
def _(c: Case) -> None:
    limits_refused(c)


@VERBS.row("`checkpoint`")
def _(c: Case) -> str:
    c.start()
    done = c("checkpoint", "--image-path", c.folder / "image", "box")
    assert done.code and done.err, "it answers with success"
    assert c.state()["status"] == "running"
    return "refused"


DELEGATED = {
    "`linux.resources`": limits,
    "`update`": update,
    "`pause` and `resume`": pause,
    "`ps`": ps,
    "`events --stats`": stats,
    "`kill --all`, without a pid namespace": kill_all,
}
"""What it takes a cgroup for."""
