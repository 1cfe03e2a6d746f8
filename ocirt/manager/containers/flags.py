"""The flags of `create` and `run`: their texts become Options.

A value that was not given is None, False or an empty sequence. What the command line alone deals with (--pull,
--detach-keys …) may be among the values and means nothing here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ocirt.manager import documents, names
from ocirt.manager.containers import values as v
from ocirt.manager.containers.confinement import ALL, security_options
from ocirt.manager.containers.options import Options
from ocirt.manager.containers.volume_flags import binds, mount_flag, tmpfs_flag
from ocirt.manager.errors import GrammarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Setter = Callable[[Options, str, Any], None]

_ELSEWHERE = frozenset(
    "pull quiet detach detach_keys sig_proxy attach disable_content_trust platform name env env_file label"
    " label_file help".split()
)
"""The command line's own, and those that `options` itself looks at."""
_LATER = "ocim has no networks of its own yet: none, host and container:NAME are there"
_REFUSED = {
    "gpus": "GPUs need their vendor's hooks; --device gives a device",
    "mac_address": _LATER,
    "ip": _LATER,
    "ip6": _LATER,
    "link": _LATER,
    "link_local_ip": _LATER,
    "network_alias": _LATER,
    "publish": _LATER,
    "publish_all": _LATER,
    "isolation": "it is Windows'",
    "runtime": "OCIM_RUNTIME names the runtime",
    "kernel_memory": "Linux has it no more",
    "volume_driver": "volumes are local",
    "use_api_socket": "there is no API yet",
}
_MEMORY = 6 << 20


def options(values: Mapping[str, object], environment: Mapping[str, str] | None = None) -> Options:
    """What flags say. `environment`: the caller's, of which `--env NAME` takes a variable; None is this process's.

    Raises GrammarError, ManagerError (a file that a flag names).
    """
    environment = os.environ if environment is None else environment
    found = Options()
    for key, value in values.items():
        if value is None or value is False or value == () or value == [] or key in _ELSEWHERE:
            continue
        flag = key.replace("_", "-")
        if key in _REFUSED:
            raise GrammarError(f"--{flag} is refused", hint=_REFUSED[key])
        if key not in _SETTERS:
            raise GrammarError(f"--{flag} is no flag of a container")
        _SETTERS[key](found, flag, value)
    _names(found, values)
    _variables(found, values, environment)
    _attached(found, values)
    _health(found, values)
    _together(found)
    return found


def _names(found: Options, values: Mapping[str, object]) -> None:
    name, platform = str(values.get("name") or ""), str(values.get("platform") or "")
    if name:
        found.name = names.name(name.removeprefix("/"))
    if platform:
        found.platform = str(documents.platform(platform))


def _texts(values: Mapping[str, object], key: str) -> list[str]:
    value = values.get(key) or ()
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def _variables(found: Options, values: Mapping[str, object], environment: Mapping[str, str]) -> None:
    """Files first: a flag has the last word."""
    for path in _texts(values, "env_file"):
        found.config["Env"] += v.variables("env-file", v.lines("env-file", path), environment)
    found.config["Env"] += v.variables("env", _texts(values, "env"), environment)
    for path in _texts(values, "label_file"):
        found.config["Labels"] |= v.pairs("label-file", v.lines("label-file", path))
    found.config["Labels"] |= v.pairs("label", _texts(values, "label"))


def _attached(found: Options, values: Mapping[str, object]) -> None:
    """Who is attached: by --attach, or all that there is; nobody with --detach."""
    chosen = [text.lower() for text in _texts(values, "attach")]
    for text in chosen:
        if text not in ("stdin", "stdout", "stderr"):
            raise v.wrong("attach", text, "no stream", "stdin, stdout or stderr")
    if values.get("detach"):
        if chosen:
            raise GrammarError("--attach and --detach are against each other")
        return
    config = found.config
    config["AttachStdin"] = "stdin" in chosen if chosen else config["OpenStdin"]
    config["AttachStdout"] = "stdout" in chosen if chosen else True
    config["AttachStderr"] = "stderr" in chosen if chosen else True
    config["StdinOnce"] = config["OpenStdin"] and config["AttachStdin"]


def _health(found: Options, values: Mapping[str, object]) -> None:
    health = found.config.get("Healthcheck")
    if values.get("no_healthcheck"):
        if health:
            raise GrammarError("--no-healthcheck and --health-… are against each other")
        found.config["Healthcheck"] = {"Test": ["NONE"]}


def _in_health(key: str, read: Callable[[str, Any], Any]) -> Setter:
    def put(found: Options, flag: str, value: Any) -> None:
        found.config.setdefault("Healthcheck", {})[key] = read(flag, value)

    return put


def _together(found: Options) -> None:
    """What flags must be to each other. Fills in what follows from them."""
    host = found.host
    memory, swap = host["Memory"], host["MemorySwap"]
    if memory and memory < _MEMORY:
        raise v.wrong("memory", str(memory), f"less than {_MEMORY} bytes, with which no container starts")
    if swap > 0 and not memory:
        raise GrammarError("--memory-swap needs --memory", hint="it is memory and swap together")
    if 0 < swap < memory:
        raise GrammarError("--memory-swap is less than --memory", hint="it is memory and swap together")
    if memory and host["MemoryReservation"] > memory:
        raise GrammarError("--memory-reservation is more than --memory")
    if host["NanoCpus"] and (host["CpuPeriod"] or host["CpuQuota"]):
        raise GrammarError("--cpus and --cpu-period or --cpu-quota are against each other")
    if host["AutoRemove"] and host["RestartPolicy"]["Name"] not in ("", "no"):
        raise GrammarError("--rm and --restart are against each other")
    if memory and not swap:
        host["MemorySwap"] = 2 * memory
    if host["NetworkMode"].startswith("container:"):
        for flag, given in (
            ("hostname", found.config["Hostname"]),
            ("dns", host["Dns"]),
            ("add-host", host["ExtraHosts"]),
        ):
            if given:
                raise GrammarError(f"--{flag} and --network container: are against each other")
    if host["UTSMode"] == "host" and (found.config["Hostname"] or found.config["Domainname"]):
        raise GrammarError("--hostname and --uts host are against each other")


# The setters: what a flag's text becomes, and where.


def _put(part: str, key: str, read: Callable[[str, Any], Any] = lambda _flag, value: str(value)) -> Setter:
    def put(found: Options, flag: str, value: Any) -> None:
        getattr(found, part)[key] = read(flag, value)

    return put


def _each(key: str, read: Callable[[str, str], Any] = lambda _flag, text: text) -> Setter:
    def put(found: Options, flag: str, value: Sequence[str]) -> None:
        found.host[key] = [*(found.host[key] or ()), *(read(flag, str(text)) for text in value)]

    return put


def _true(_flag: str, value: object) -> bool:
    return bool(value)


def _number(least: int, most: int = v.LARGEST) -> Callable[[str, Any], int]:
    return lambda flag, value: v.whole(flag, value, least, most)


def _swap(flag: str, value: object) -> int:
    return -1 if str(value).strip() == "-1" else v.size(flag, str(value))


def _shares(flag: str, value: object) -> int:
    number = v.whole(flag, value, 0, 262144)
    if number == 1:
        raise v.wrong(flag, str(value), "the kernel takes 2 and more")
    return number


def _weight(flag: str, value: object) -> int:
    number = v.whole(flag, value, 0, 1000)
    if 0 < number < 10:
        raise v.wrong(flag, str(value), "not from 10 to 1000")
    return number


def _cpuset(flag: str, value: object) -> str:
    text = str(value)
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.isascii() and end.isdecimal() and len(end) < 6 for end in ends):
            raise v.wrong(flag, text, "no list of numbers", "such as 0-3,5")
        if int(ends[0]) > int(ends[-1]):
            raise v.wrong(flag, text, f"{part} goes down")
    return text


def _capability(flag: str, text: str) -> str:
    name = text.upper()
    if name == "ALL":
        return name
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in ALL:
        raise v.wrong(flag, text, "no capability", "as in capabilities(7), or ALL")
    return name


def _mode(*words: str, other: bool = False) -> Callable[[str, Any], str]:
    """One of some words, or with `other` "container:NAME"."""

    def read(flag: str, value: object) -> str:
        text = str(value)
        if text in words or (other and text.startswith("container:") and text != "container:"):
            return text
        hint = ", ".join((*(word for word in words if word), *(("container:NAME",) if other else ())))
        raise v.wrong(flag, text, "not known", hint)

    return read


def _network(flag: str, value: object) -> str:
    text = str(value[0] if isinstance(value, list | tuple) and len(value) == 1 else value)
    if text in ("none", "host") or (text.startswith("container:") and text != "container:"):
        return text
    raise v.wrong(flag, text, "there is no such network", _LATER)


def _restart(flag: str, value: object) -> dict[str, Any]:
    name, colon, most = str(value).partition(":")
    if name not in ("no", "always", "unless-stopped", "on-failure") or (colon and name != "on-failure"):
        raise v.wrong(flag, str(value), "no policy", "no, always, unless-stopped or on-failure[:N]")
    return {"Name": name, "MaximumRetryCount": v.whole(flag, most, 0, 1 << 31) if colon else 0}


def _log_driver(found: Options, flag: str, value: Any) -> None:
    text = str(value)
    if text not in ("file", "local", "json-file", "none"):
        raise v.wrong(flag, text, "no log driver", "file (also called local and json-file), or none")
    found.host["LogConfig"]["Type"] = text


def _log_options(found: Options, flag: str, value: Sequence[str]) -> None:
    for key, text in v.pairs(flag, value, value=True).items():
        if key == "max-size":
            v.size(flag, text)
        elif key == "max-file":
            v.whole(flag, text, 1, 1000)
        else:
            raise v.wrong(flag, key, "not known", "max-size and max-file")
        found.host["LogConfig"]["Config"][key] = text


def _host_entry(flag: str, text: str) -> str:
    """ "NAME:ADDRESS" or "NAME=ADDRESS"; the addresses of version 6 have colons too."""
    import ipaddress

    separator = "=" if "=" in text else ":"
    name, _, address = text.partition(separator)
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise v.wrong(flag, text, "no NAME:ADDRESS") from None
    if not name or any(character.isspace() or character == "#" for character in name):
        raise v.wrong(flag, text, "no name of a host")
    return f"{name}:{address}"


def _address(flag: str, text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise v.wrong(flag, text, "no address") from None


def _word(flag: str, text: str) -> str:
    if not text or not text.isprintable() or any(character.isspace() for character in text):
        raise v.wrong(flag, text, "white space, or nothing")
    return text


def _hostname(flag: str, value: object) -> str:
    text = str(value)
    fine = text.replace("-", "").replace(".", "").replace("_", "")
    if not 0 < len(text) < 65 or not (fine.isascii() and fine.isalnum()) or text[0] in "-.":
        raise v.wrong(flag, text, "no name of a host", "letters, digits, - and ., at most 64")
    return text


def _sysctls(found: Options, flag: str, value: Sequence[str]) -> None:
    for key, text in v.pairs(flag, value, value=True).items():
        if "/" in key or ".." in key:  # a slash is a dot's other spelling, and would hide a name from the checks
            raise v.wrong(flag, key, "written with dots")
        found.host.setdefault("Sysctls", {})[key] = text


def _entrypoint(found: Options, _flag: str, value: Any) -> None:
    """An empty one takes the image's away; `[""]` says so, as in docker's API."""
    found.config["Entrypoint"] = [str(value)]


def _user(flag: str, value: object) -> str:
    from ocirt.manager.containers.users import check

    return check(str(value), f"--{flag}")


def _workdir(flag: str, value: object) -> str:
    text = str(value)
    if not text.startswith("/") or "\0" in text:
        raise v.wrong(flag, text, "not an absolute path")
    return text


def _storage(found: Options, flag: str, value: Sequence[str]) -> None:
    given = v.pairs(flag, value, value=True)
    for key, text in given.items():
        if key != "size":
            raise v.wrong(flag, key, "not known", "size")
        v.size(flag, text)
    found.host["StorageOpt"] = given


def _annotations(found: Options, flag: str, value: Sequence[str]) -> None:
    """They are data, but some runtimes act on some: those are refused (CVE-2022-0811, CVE-2024-3154)."""
    for key, text in v.pairs(flag, value, value=True).items():
        if key.startswith(("org.systemd.property.", "run.oci.", "io.kubernetes.cri-o.")):
            raise v.wrong(flag, key, "a runtime would act on it")
        found.host.setdefault("Annotations", {})[key] = text


_SETTERS: dict[str, Setter] = {
    "add_host": _each("ExtraHosts", _host_entry),
    "annotation": _annotations,
    "blkio_weight": _put("host", "BlkioWeight", _weight),
    "cap_add": _each("CapAdd", _capability),
    "cap_drop": _each("CapDrop", _capability),
    "cgroup_parent": _put("host", "CgroupParent"),
    "cgroupns": _put("host", "CgroupnsMode", _mode("host", "private")),
    "cidfile": _put("host", "ContainerIDFile"),
    "cpu_period": _put("host", "CpuPeriod", _number(0, 1_000_000)),
    "cpu_quota": _put("host", "CpuQuota", _number(-1)),
    "cpu_rt_period": _put("host", "CpuRealtimePeriod", _number(0)),
    "cpu_rt_runtime": _put("host", "CpuRealtimeRuntime", _number(0)),
    "cpu_shares": _put("host", "CpuShares", _shares),
    "cpus": _put("host", "NanoCpus", v.cpus),
    "cpuset_cpus": _put("host", "CpusetCpus", _cpuset),
    "cpuset_mems": _put("host", "CpusetMems", _cpuset),
    "device": _each("Devices", v.device),
    "device_cgroup_rule": _each("DeviceCgroupRules", v.device_rule),
    "device_read_bps": _each("BlkioDeviceReadBps", lambda flag, text: v.throttle(flag, text, bytes_=True)),
    "device_write_bps": _each("BlkioDeviceWriteBps", lambda flag, text: v.throttle(flag, text, bytes_=True)),
    "device_read_iops": _each("BlkioDeviceReadIOps", lambda flag, text: v.throttle(flag, text, bytes_=False)),
    "device_write_iops": _each("BlkioDeviceWriteIOps", lambda flag, text: v.throttle(flag, text, bytes_=False)),
    "dns": _each("Dns", _address),
    "dns_option": _each("DnsOptions", _word),
    "dns_search": _each("DnsSearch", _word),
    "domainname": _put("config", "Domainname", _hostname),
    "entrypoint": _entrypoint,
    "expose": lambda found, _flag, value: found.config.__setitem__("ExposedPorts", {str(port): {} for port in value}),
    "group_add": _each("GroupAdd", _word),
    "health_cmd": _in_health("Test", lambda _flag, value: ["CMD-SHELL", str(value)]),
    "health_interval": _in_health("Interval", v.duration),
    "health_retries": _in_health("Retries", _number(0, 1 << 31)),
    "health_start_interval": _in_health("StartInterval", v.duration),
    "health_start_period": _in_health("StartPeriod", v.duration),
    "health_timeout": _in_health("Timeout", v.duration),
    "hostname": _put("config", "Hostname", _hostname),
    "init": _put("host", "Init", _true),
    "interactive": _put("config", "OpenStdin", _true),
    "ipc": _put("host", "IpcMode", _mode("none", "private", "shareable", "host", other=True)),
    "log_driver": _log_driver,
    "log_opt": _log_options,
    "memory": _put("host", "Memory", v.size),
    "memory_reservation": _put("host", "MemoryReservation", v.size),
    "memory_swap": _put("host", "MemorySwap", _swap),
    "memory_swappiness": _put("host", "MemorySwappiness", _number(-1, 100)),
    "mount": mount_flag,
    "net": _put("host", "NetworkMode", _network),
    "network": _put("host", "NetworkMode", _network),
    "no_healthcheck": lambda _found, _flag, _value: None,  # by `_health`, which knows the others
    "oom_kill_disable": _put("host", "OomKillDisable", _true),
    "oom_score_adj": _put("host", "OomScoreAdj", _number(-1000, 1000)),
    "pid": _put("host", "PidMode", _mode("", "host", other=True)),
    "pids_limit": _put("host", "PidsLimit", _number(-1)),
    "privileged": _put("host", "Privileged", _true),
    "read_only": _put("host", "ReadonlyRootfs", _true),
    "restart": _put("host", "RestartPolicy", _restart),
    "rm": _put("host", "AutoRemove", _true),
    "security_opt": security_options,
    "shm_size": _put("host", "ShmSize", v.size),
    "stop_signal": _put("config", "StopSignal", v.signal),
    "stop_timeout": _put("config", "StopTimeout", _number(-1, 1 << 31)),
    "storage_opt": _storage,
    "sysctl": _sysctls,
    "tmpfs": tmpfs_flag,
    "tty": _put("config", "Tty", _true),
    "ulimit": _each("Ulimits", v.ulimit),
    "user": _put("config", "User", _user),
    "userns": _put("host", "UsernsMode", _mode("", "host")),
    "uts": _put("host", "UTSMode", _mode("", "host")),
    "volume": binds,
    "volumes_from": _each("VolumesFrom"),
    "workdir": _put("config", "WorkingDir", _workdir),
}
