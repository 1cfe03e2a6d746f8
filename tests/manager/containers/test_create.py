"""Containers from docker's flags, run by the real runtime."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from shop import Shop

from ocirt.errors import Error
from ocirt.manager.containers import bundle, create
from ocirt.manager.containers.records import Records
from ocirt.manager.errors import ConflictError, GrammarError, ManagerError, MissingError
from ocirt.manager.store.collect import collect
from ocirt.manager.volumes import Volumes

pytestmark = pytest.mark.root


def test_a_simple_one_runs_and_starts_again(shop: Shop) -> None:
    record = shop.sh("echo $HOSTNAME; hostname; id -G; pwd; grep CapEff /proc/self/status; cat /etc/hostname; exit 3")
    ended = shop.ran(record)
    short = record.id[:12]
    assert ended.out.split("\n") == [short, short, "0 1", "/", "CapEff:\t00000000a80425fb", short, ""]
    assert (ended.err, ended.code) == ("", 3)
    assert shop.ran(record).code == 3


def test_its_configuration_satisfies_the_strict_check(shop: Shop) -> None:
    config = shop.config(shop.sh("true"))
    known = ("unknown system call", "not set: set-user-ID")
    assert [one["message"] for one in shop.warnings if not one["message"].startswith(known)] == []
    assert config["process"]["args"] == ["sh", "-c", "true"]
    assert {each["type"] for each in config["linux"]["namespaces"]} == {
        *("mount", "network", "uts", "pid", "ipc", "cgroup")
    }


def has_init() -> bool:
    try:
        bundle.init()
    except MissingError:
        return False
    return True


HAS_INIT = has_init()
"""Whether docker-init or another one is installed."""
LIMITS = {"memory": "64m", "memory_reservation": "32m", "cpus": "0.5", "cpu_shares": "512", "pids_limit": "50"}
EVERYTHING: dict[str, Any] = {
    "cap_add": ("NET_ADMIN",),
    "cap_drop": ("MKNOD",),
    "ulimit": ("nofile=100:200", "core=0"),
    "device": ("/dev/null:/dev/x:r",),
    "device_cgroup_rule": ("c 7:* rwm",),
    "sysctl": ("net.core.somaxconn=77",),
    "security_opt": ("no-new-privileges", "seccomp=unconfined"),
    "tmpfs": ("/run:size=1m,exec", "/scratch"),
    "volume": ("named:/named", "/anonymous"),
    "mount": ("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1700",),
    "env": ("A=1", "FROM_CALLER"),
    "user": "ann",
    "workdir": "/new/dir",
    "hostname": "box",
    "domainname": "example",
    "add_host": ("friend:10.1.2.3",),
    "dns": ("10.9.8.7",),
    "dns_search": ("example.org",),
    "group_add": ("staff", "77"),
    "oom_score_adj": "100",
    "shm_size": "1m",
    "annotation": ("org.example=1",),
    "init": HAS_INIT,
    "read_only": True,
    "stop_signal": "SIGINT",
    "restart": "on-failure:2",
    "log_opt": ("max-size=1m", "max-file=2"),
    "health_cmd": "true",
}


def has_controllers() -> bool:
    """Not so on the v2 tree of a host whose controllers are on v1."""
    path = Path("/sys/fs/cgroup/cgroup.controllers")
    return not path.exists() or {"memory", "cpu", "pids"} <= set(path.read_text().split())


def test_many_flags_at_once(shop: Shop) -> None:
    record = shop.sh("true", **EVERYTHING, **LIMITS)
    config = shop.config(record, limits=has_controllers())
    process, linux = config["process"], config["linux"]
    assert process["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [1001, 1, 50, 77]}
    assert process["args"][:-3] == (["/sbin/docker-init", "--"] if HAS_INIT else [])
    assert (process["cwd"], process["noNewPrivileges"], process["oomScoreAdj"]) == ("/new/dir", True, 100)
    assert process["capabilities"]["ambient"] == ["CAP_NET_ADMIN"]
    assert "CAP_MKNOD" not in process["capabilities"]["bounding"]
    assert {"A=1", "FROM_CALLER=yes", "HOME=/home/ann", "HOSTNAME=box"} <= set(process["env"])
    assert linux["resources"]["cpu"] == {"period": 100000, "quota": 50000, "shares": 512}
    assert linux["resources"]["memory"]["limit"] == 64 << 20
    assert linux["resources"]["pids"] == {"limit": 50}
    assert linux["cgroupsPath"] == f"/ocim/{record.id}"
    assert linux["sysctl"]["net.core.somaxconn"] == "77"
    assert "seccomp" not in linux
    assert (config["root"]["readonly"], config["hostname"], config["domainname"]) == (True, "box", "example")
    told = record.document["monitor"]
    assert (told["stop_signal"], told["restart"]) == (2, {"policy": "on-failure", "most": 2})
    assert told["log"] == {"driver": "file", "max_size": 1 << 20, "max_file": 2}
    assert told["health"]["test"] == ["CMD-SHELL", "true"]
    folder = shop.container(record.id)
    assert "10.1.2.3\tfriend\n" in (folder / "hosts").read_text()
    assert "nameserver 10.9.8.7\n" in (folder / "resolv.conf").read_text()
    assert (folder / "hostname").read_text() == "box\n"


def test_what_a_program_sees_of_its_flags(shop: Shop) -> None:
    script = (
        "id; pwd; ulimit -n; stat -c %a:%u /new/dir; cat /proc/sys/net/core/somaxconn; touch /run/x && echo run;"
        " touch /x 2>/dev/null || echo refused; cat /etc/hostname; grep -c friend /etc/hosts;"
        " stat -c %a /t; grep CapEff /proc/self/status"
    )
    wanted = {key: EVERYTHING[key] for key in EVERYTHING if key not in ("restart", "health_cmd", "log_opt", "user")}
    out = shop.ran(shop.sh(script, user="ann", **wanted)).out.split("\n")
    assert out == [
        "uid=1000(ann) gid=1001(ann) groups=1(bin),50(staff),77,1001(ann)",
        *("/new/dir", "100", "755:0", "77", "run"),
        *("refused", "box", "1", "1700", "CapEff:\t0000000000001000", ""),
    ]


def test_the_image_says_what_nobody_else_does(shop: Shop) -> None:
    shop.image(
        "said",
        {
            "Env": ["A=image", "B=image", "FROM_CALLER", "=x", "PATH=/bin"],
            "Entrypoint": ["sh", "-c"],
            "Cmd": ["echo $A $B [$FROM_CALLER] $PATH; id -u; pwd"],
            "User": "1000",
            "WorkingDir": "/w",
            "Labels": {"a": "image", "b": "image"},
            "StopSignal": "SIGQUIT",
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9},
            "Volumes": {"/data": {}},
        },
    )
    record = shop.create(image="said", env=("B=user",), label=("a=user",), health_timeout="2s")
    assert shop.ran(record).out == "image user [] /bin\n1000\n/w\n"
    assert record.document["config"]["Labels"] == {"a": "user", "b": "image"}
    assert record.document["monitor"]["stop_signal"] == 3
    assert record.document["monitor"]["health"]["timeout"] == 2 * 10**9
    assert record.document["monitor"]["health"]["interval"] == 10**9
    assert [point["Destination"] for point in record.document["mounts"]] == ["/data"]
    assert shop.create("echo other", image="said").document["config"]["Cmd"] == ["echo other"]
    entry = shop.create("-c", "true", image="said", entrypoint="sh", no_healthcheck=True)
    assert (entry.document["config"]["Entrypoint"], entry.document["config"]["Cmd"]) == (["sh"], ["-c", "true"])
    assert entry.document["monitor"]["health"] is None
    with pytest.raises(GrammarError, match="nothing to run"):
        shop.create(image="said", entrypoint="")


PROBE = """
import os, socket
for family in (1, 2, 16, 38, 40):
    try:
        socket.socket(family, 5 if family == 38 else 1 if family != 16 else 3, 0).close()
        print(family, "fine")
    except OSError as error:
        print(family, error.errno)
"""


def test_sockets_of_two_families_are_refused(shop: Shop) -> None:
    """By the default profile: AF_ALG (CVE-2026-31431) and AF_VSOCK, with EPERM. And there is no new user namespace."""
    places = {os.path.realpath(path) for path in ("/usr", "/lib", "/lib64", sys.base_prefix) if os.path.exists(path)}
    links = {path[1:]: f"-> {os.readlink(path)}" for path in ("/lib", "/lib64") if os.path.islink(path)}
    shop.image("python", more=dict(links))
    own = [f"{place}:{place}:ro" for place in places if not any(place.startswith(f"{each}/") for each in places)]
    python = os.path.realpath(sys.executable)
    record = shop.create(python, "-I", "-S", "-c", PROBE, image="python", volume=tuple(own))
    ended = shop.ran(record)
    assert ended.out.split("\n") == ["1 fine", "2 fine", "16 fine", "38 1", "40 1", ""], ended.err
    assert shop.ran(shop.create("busybox", "unshare", "-U", "true")).code == 1


def test_confinement_can_be_lifted(shop: Shop) -> None:
    record = shop.sh(
        "mount -t tmpfs x /tmp && echo mounted; grep CapEff /proc/self/status; grep -c ' /proc/sys ' /proc/mounts",
        privileged=True,
    )
    out = shop.ran(record).out.split("\n")
    assert out[0] == "mounted"
    assert int(out[1].split()[1], 16) & (1 << 21)
    assert out[2] == "0"


def test_the_hosts_namespaces(shop: Shop) -> None:
    record = shop.sh(
        "hostname; cat /proc/net/dev | wc -l; readlink /proc/self/ns/pid; readlink /proc/self/ns/uts; echo $HOSTNAME",
        network="host",
        pid="host",
        uts="host",
        ipc="host",
        cgroupns="host",
    )
    shop.config(record)
    out = shop.ran(record).out.split("\n")
    assert out[0] == out[4] == os.uname().nodename
    assert out[2:4] == [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "uts")]


def test_the_network_and_the_memory_of_another_container(shop: Shop) -> None:
    first = shop.sh(
        "echo 10.0.0.1 x >> /etc/hosts; echo shared > /dev/shm/f; readlink /proc/self/ns/net; sleep 600",
        ipc="shareable",
    )
    with pytest.raises(ConflictError, match="does not run"):
        shop.ran(shop.sh("true", network=f"container:{first.name}"))
    from ocirt.manager.containers import lifecycle

    attachment = lifecycle.start(shop, first, attach=True, prepare=bundle.prepare)
    assert attachment is not None
    line = b""
    while not line.endswith(b"\n"):
        kind, value = attachment.receive()
        assert kind == "stdout"
        line += value
    second = shop.sh(
        "readlink /proc/self/ns/net; cat /dev/shm/f; grep -c 10.0.0.1 /etc/hosts; ps | grep -c 'sleep 600'",
        network=f"container:{first.name}", ipc=f"container:{first.id[:12]}", pid=f"container:{first.id}",
    )  # fmt: skip
    out = shop.ran(second).out.split("\n")
    attachment.close()
    assert out[:3] == [line.decode().strip(), "shared", "1"]
    assert int(out[3]) >= 1
    assert second.document["host"]["NetworkMode"] == f"container:{first.id}"
    with pytest.raises(ConflictError, match="network of another itself"):
        shop.sh("true", network=f"container:{second.id}")
    private = shop.sh("true")
    with pytest.raises(ConflictError, match="shareable"):
        shop.sh("true", ipc=f"container:{private.id}")


@pytest.mark.parametrize(
    "values",
    [
        {"user": "eve"},
        {"group_add": ("eve",)},
        {"device": ("/dev/does-not-exist",)},
        {"device": ("/etc/passwd",)},
    ],
)
def test_a_start_that_fails_leaves_nothing_mounted(shop: Shop, values: dict[str, Any]) -> None:
    record = shop.sh("true", **values)
    with pytest.raises(ManagerError):
        shop.ran(record)
    assert str(shop.container(record.id)) not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sysctl": ("kernel.core_pattern=|/bin/x",)}, "core_pattern"),
        ({"sysctl": ("net.core.somaxconn=5",), "network": "host"}, "network namespace"),
        ({"sysctl": ("kernel.hostname=x",)}, "--hostname"),
        ({"mount": ("type=bind,src=/does/not/exist,dst=/x",)}, "--mount"),
        ({"volume": ("/tmp:/x", "one:/x/")}, "two mounts"),
        ({"volume": ("one:/x",), "tmpfs": ("/x",)}, "two mounts"),
        ({"network": "container:nobody"}, "nobody"),
        ({"volumes_from": ("nobody",)}, "nobody"),
        ({"image": "none"}, "none"),
        ({"ipc": "shareable", "shm_size": "1m"}, "shareable"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_nothing(shop: Shop, values: dict[str, Any], words: str) -> None:
    with pytest.raises(Error) as caught:
        shop.sh("true", **values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(Records(shop.database)) == []
    assert not (shop.root / "containers").exists() or list((shop.root / "containers").iterdir()) == []


def test_names(shop: Shop) -> None:
    one, two = shop.sh("true", name="one"), shop.sh("true", name="two")
    records = Records(shop.database)
    with pytest.raises(ConflictError, match="the name one is taken"):
        shop.sh("true", name="one", volume=("/anonymous",))
    assert len(list(records)) == 2
    assert list(Volumes(shop)) == []
    with pytest.raises(ConflictError):
        create.rename(shop, one, "two")
    with pytest.raises(GrammarError):
        create.rename(shop, one, "not a name")
    assert create.rename(shop, one, "three").name == "three"
    assert records.find("three").id == records.find(one.id[:20]).id == records.find("/three").id == one.id
    for text in ("one", "", "zz", "%", "tw"):
        with pytest.raises(MissingError):
            records.find(text)
    assert [record.id for record in records] == [two.id, one.id]
    made_up = {shop.sh("true").name for _ in range(5)}
    assert len(made_up) == 5


def test_removal_takes_all_of_it(shop: Shop) -> None:
    record = shop.sh("echo > /f", volume=("/anonymous", "named:/named"))
    shop.ran(record)
    create.remove(shop, record, volumes=True)
    assert not shop.container(record.id).exists()
    assert not (shop.run / record.id).exists()
    assert list(Records(shop.database)) == []
    assert [volume.name for volume in Volumes(shop)] == ["named"]
    create.remove(shop, record)


def test_what_runs_is_removed_only_by_force(shop: Shop) -> None:
    from ocirt.manager.containers import lifecycle

    record = shop.sh("trap '' TERM; while :; do sleep 1; done")
    lifecycle.start(shop, record, prepare=bundle.prepare)
    with pytest.raises(ConflictError, match="running"):
        create.remove(shop, record)
    create.remove(shop, record, force=True)
    assert str(shop.container(record.id)) not in Path("/proc/self/mounts").read_text()
    assert list(Records(shop.database)) == []


def test_a_container_keeps_its_image(shop: Shop) -> None:
    record = shop.sh("echo here")
    shop.images.remove("docker.io/library/box:latest")
    collect(shop.blobs, shop.database)
    assert shop.ran(record).out == "here\n"
    create.remove(shop, record)
    assert collect(shop.blobs, shop.database).blobs == 3


def test_limits_are_put_in_force(shop: Shop) -> None:
    if not has_controllers():
        pytest.skip("the controllers are on v1")
    record = shop.sh("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null", **LIMITS)
    assert shop.ran(record).out == f"{64 << 20}\n"


def test_a_process_before_the_program(shop: Shop) -> None:
    """--init."""
    record = shop.sh("tr '\\0' ' ' < /proc/1/cmdline; echo $$; exit 4", init=True)
    if not HAS_INIT:
        with pytest.raises(MissingError, match="--init"):
            shop.ran(record)
        return
    ended = shop.ran(record)
    assert ended.out.startswith("/sbin/docker-init -- sh -c ")
    assert ended.out.split()[-1] != "1"
    assert ended.code == 4
