"""Docker's flags: what they become, and what is refused with a word that names the flag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ocirt.errors import Error
from ocirt.manager.containers import values as v
from ocirt.manager.containers.flags import options
from ocirt.manager.containers.volume_flags import bind
from ocirt.manager.errors import GrammarError, ManagerError

BOUND = {"Type": "bind", "Target": "/e", "Source": "/etc", "ReadOnly": True, "BindOptions": {"Propagation": "rslave"}}


def host(**values: Any) -> dict[str, Any]:
    return options(values, {}).host


def config(**values: Any) -> dict[str, Any]:
    return options(values, {}).config


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64mb", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("1073741824", 1 << 30),
        ("8 k", 8192),
        ("7b", 7),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert v.size("memory", text) == size


@pytest.mark.parametrize("text", ["", "m", "1x", "-1", "1e9", "64mm", "1 gib b", "9999999p", "0x10", "١m"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(GrammarError, match=r"^--memory"):
        v.size("memory", text)


@pytest.mark.parametrize(
    ("text", "duration"),
    [("30s", 30 * 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), ("100ms", 10**8), ("0", 0), ("5us", 5000)],
)
def test_durations(text: str, duration: int) -> None:
    assert v.duration("health-interval", text) == duration


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1s 2s", "1d", "99999999999h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(GrammarError, match=r"^--health-interval"):
        v.duration("health-interval", text)


@pytest.mark.parametrize(
    ("values", "key", "value"),
    [
        ({"cpus": "0.5"}, "NanoCpus", 500_000_000),
        ({"memory": "64m"}, "MemorySwap", 128 << 20),
        ({"memory": "64m", "memory_swap": "-1"}, "MemorySwap", -1),
        ({"cap_add": ("net_admin", "CAP_SYS_TIME")}, "CapAdd", ["CAP_NET_ADMIN", "CAP_SYS_TIME"]),
        ({"cap_drop": ("all",)}, "CapDrop", ["ALL"]),
        ({"ulimit": ("nofile=10:20",)}, "Ulimits", [{"Name": "nofile", "Hard": 20, "Soft": 10}]),
        ({"ulimit": ("core=-1",)}, "Ulimits", [{"Name": "core", "Hard": -1, "Soft": -1}]),
        ({"restart": "on-failure:3"}, "RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 3}),
        ({"add_host": ("a:1.2.3.4", "b=::1")}, "ExtraHosts", ["a:1.2.3.4", "b:::1"]),
        ({"sysctl": ("net.core.somaxconn=7",)}, "Sysctls", {"net.core.somaxconn": "7"}),
        ({"tmpfs": ("/run:size=1m,exec",)}, "Tmpfs", {"/run": "size=1m,exec"}),
        ({"security_opt": ("no-new-privileges",)}, "SecurityOpt", ["no-new-privileges"]),
        ({"security_opt": ("seccomp:unconfined",)}, "SecurityOpt", ["seccomp=unconfined"]),
        ({"log_opt": ("max-size=1m",)}, "LogConfig", {"Type": "file", "Config": {"max-size": "1m"}}),
        ({"network": ("host",)}, "NetworkMode", "host"),
        ({"net": "container:a"}, "NetworkMode", "container:a"),
        ({"pids_limit": "-1"}, "PidsLimit", -1),
        ({"init": True}, "Init", True),
        ({"cpuset_cpus": "0-1,3"}, "CpusetCpus", "0-1,3"),
        ({"annotation": ("a.b=c",)}, "Annotations", {"a.b": "c"}),
        (
            {"device": ("/dev/null:/dev/x:r",)},
            "Devices",
            [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}],
        ),
        (
            {"mount": ("type=bind,src=/etc,dst=/e,readonly,bind-propagation=rslave",)},
            "Mounts",
            [BOUND],
        ),
        (
            {"mount": ('source=vol,target=/v,volume-nocopy,volume-label=a=b,"volume-opt=o=size=1m,uid=1"',)},
            "Mounts",
            [
                {
                    "Type": "volume",
                    "Target": "/v",
                    "Source": "vol",
                    "VolumeOptions": {
                        "NoCopy": True,
                        "Labels": {"a": "b"},
                        "DriverConfig": {"Options": {"o": "size=1m,uid=1"}},
                    },
                }
            ],
        ),
        (
            {"mount": ("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770",)},
            "Mounts",
            [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}}],
        ),
    ],
)  # fmt: skip
def test_what_the_host_gives(values: dict[str, Any], key: str, value: object) -> None:
    assert host(**values)[key] == value


def test_what_the_program_gets(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# no\n\nA=1\nB\nFROM_CALLER\n")
    (tmp_path / "labels").write_text("x=1\ny\n")
    found = options(
        {
            "env_file": (str(tmp_path / "env"),),
            "env": ("A=2", "C=a=b", "FROM_CALLER", "NOT_THERE"),
            "label_file": (str(tmp_path / "labels"),),
            "label": ("x=2",),
            "interactive": True,
            "tty": True,
            "user": "1000:ann",
            "workdir": "/w",
            "entrypoint": "",
            "hostname": "a.b",
            "stop_signal": "SIGRTMIN+3",
            "stop_timeout": "5",
            "health_cmd": "true",
            "health_interval": "3s",
            "name": "/fine",
            "platform": "arm64",
        },
        {"FROM_CALLER": "yes", "B": "here"},
    )
    wanted = {
        "Env": ["A=1", "B=here", "FROM_CALLER=yes", "A=2", "C=a=b", "FROM_CALLER=yes"],
        "Labels": {"x": "2", "y": ""},
        "Entrypoint": [""],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 3 * 10**9},
        "StdinOnce": True,
        "AttachStdin": True,
    }
    assert {key: found.config[key] for key in wanted} == wanted
    assert (found.name, found.platform) == ("fine", "linux/arm64/v8")


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"publish": ("80:80",)}, "--publish"),
        ({"gpus": "all"}, "--gpus"),
        ({"mac_address": "1"}, "--mac-address"),
        ({"network": ("bridge",)}, "--network"),
        ({"memory": "1m"}, "--memory"),
        ({"memory_swap": "64m"}, "--memory-swap"),
        ({"memory": "64m", "memory_swap": "32m"}, "--memory-swap"),
        ({"memory": "64m", "memory_reservation": "65m"}, "--memory-reservation"),
        ({"cpus": "1,5"}, "--cpus"),
        ({"cpus": "1", "cpu_quota": "5000"}, "--cpus"),
        ({"cpu_shares": "1"}, "--cpu-shares"),
        ({"cpuset_cpus": "3-1"}, "--cpuset-cpus"),
        ({"cpuset_cpus": "0,,1"}, "--cpuset-cpus"),
        ({"blkio_weight": "5"}, "--blkio-weight"),
        ({"cap_add": ("FLY",)}, "--cap-add"),
        ({"ulimit": ("nofile",)}, "--ulimit"),
        ({"ulimit": ("nofile=3:2",)}, "--ulimit"),
        ({"ulimit": ("open=3",)}, "--ulimit"),
        ({"device": ("null",)}, "--device"),
        ({"device": ("/dev/null:/dev/x:rx",)}, "--device"),
        ({"device_cgroup_rule": ("c 1:3",)}, "--device-cgroup-rule"),
        ({"restart": "on-crash"}, "--restart"),
        ({"restart": "always:3"}, "--restart"),
        ({"restart": "always", "rm": True}, "--rm"),
        ({"add_host": ("a",)}, "--add-host"),
        ({"dns": ("dns.example",)}, "--dns"),
        ({"dns_search": ("a b",)}, "--dns-search"),
        ({"hostname": "-a"}, "--hostname"),
        ({"hostname": "a" * 65}, "--hostname"),
        ({"hostname": "a", "network": "container:b"}, "--hostname"),
        ({"sysctl": ("kernel/core_pattern=|x",)}, "--sysctl"),
        ({"sysctl": ("a",)}, "--sysctl"),
        ({"tmpfs": ("run",)}, "--tmpfs"),
        ({"tmpfs": ("/run:lowerdir=/",)}, "--tmpfs"),
        ({"security_opt": ("label=type:x",)}, "--security-opt"),
        ({"security_opt": ("seccomp=",)}, "--security-opt"),
        ({"security_opt": ("apparmor=../x",)}, "--security-opt"),
        ({"security_opt": ("what=ever",)}, "--security-opt"),
        ({"log_driver": "syslog"}, "--log-driver"),
        ({"log_opt": ("tag=x",)}, "--log-opt"),
        ({"log_opt": ("max-file=0",)}, "--log-opt"),
        ({"stop_signal": "SIGFOO"}, "--stop-signal"),
        ({"stop_signal": "65"}, "--stop-signal"),
        ({"health_interval": "x"}, "--health-interval"),
        ({"health_cmd": "x", "no_healthcheck": True}, "--no-healthcheck"),
        ({"user": "4294967297"}, "--user"),
        ({"workdir": "a"}, "--workdir"),
        ({"pid": "bad"}, "--pid"),
        ({"ipc": "bad"}, "--ipc"),
        ({"userns": "keep-id"}, "--userns"),
        ({"env": ("=x",)}, "--env"),
        ({"env_file": ("/does/not/exist",)}, "--env-file"),
        ({"label_file": ("/proc/self/mem",)}, "--label-file"),
        ({"annotation": ("org.systemd.property.ExecStartPre=x",)}, "--annotation"),
        ({"attach": ("stdfoo",)}, "--attach"),
        ({"volume": ("a:b",)}, "--volume"),
        ({"volume": ("/a:/b:x",)}, "--volume"),
        ({"volume": ("/a:/b:ro,rw",)}, "--volume"),
        ({"volume": ("/a:/b:nocopy",)}, "--volume"),
        ({"volume": ("name:/b:rshared",)}, "--volume"),
        ({"volume": ("/a:/",)}, "--volume"),
        ({"volume": ("/a:/b/..",)}, "--volume"),
        ({"volume": ("a:/b:ro:x",)}, "--volume"),
        ({"volume": (":/b",)}, "--volume"),
        ({"mount": ("type=bind,dst=/e",)}, "--mount"),
        ({"mount": ("type=npipe,dst=/e",)}, "--mount"),
        ({"mount": ("type=bind,src=/e",)}, "--mount"),
        ({"mount": ("type=bind,src=/e,dst=/e,volume-nocopy",)}, "--mount"),
        ({"mount": ("type=tmpfs,src=/e,dst=/e",)}, "--mount"),
        ({"mount": ("type=tmpfs,dst=/e,tmpfs-mode=999",)}, "--mount"),
        ({"mount": ("dst=/e,readonly=perhaps",)}, "--mount"),
        ({"unknown": "x"}, "--unknown"),
    ],
)
def test_errors_name_the_flag(values: dict[str, Any], flag: str) -> None:
    with pytest.raises(ManagerError) as caught:
        options(values, {})
    assert flag in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_volumes_and_containers_are_checked() -> None:
    for values in ({"volume": ("a/b:/c",)}, {"name": "a b"}, {"mount": ("src=../x,dst=/y",)}):
        with pytest.raises(Error):
            options(values, {})


def test_values_that_were_not_given_change_nothing() -> None:
    nothing = {"memory": None, "env": (), "init": False, "publish": (), "gpus": None, "pull": "always", "detach": True}
    assert options(nothing, {}) == options({"detach": True}, {})


@pytest.mark.parametrize(
    ("text", "source", "destination", "writable", "propagation", "copy"),
    [
        ("/c", "", "/c", True, "", True),
        ("/a:/c", "/a", "/c", True, "", True),
        ("/a/../b:/c/:ro,rslave", "/b", "/c", False, "rslave", True),
        ("name:/c:nocopy,ro", "name", "/c", False, "", False),
        ("/a:/c:z,delegated", "/a", "/c", True, "", True),
    ],
)
def test_volumes(text: str, source: str, destination: str, writable: bool, propagation: str, copy: bool) -> None:
    one = bind(text)
    assert (one.source, one.destination, one.writable, one.propagation, one.copy) == (
        *(source, destination, writable, propagation, copy),
    )
