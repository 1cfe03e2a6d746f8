"""What a container is asked to be: docker's "Config" and "HostConfig", filled with what holds where nothing was said.

The keys are those of docker's API 1.41 (`POST /containers/create`), so that a request of that API and the flags of the
command line come to the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHM_SIZE = 64 << 20
STOP_TIMEOUT = 10  # seconds


@dataclass(slots=True)
class Options:
    """One container to be made.

    config     docker's Config: what the user said, which the image's configuration fills up
    host       docker's HostConfig
    name       "", for one that is made up
    platform   "linux/arm64", or "" for this host's
    """

    config: dict[str, Any] = field(default_factory=lambda: _config())
    host: dict[str, Any] = field(default_factory=lambda: _host())
    name: str = ""
    platform: str = ""


def _config() -> dict[str, Any]:
    return {
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": [],
        "Cmd": None,
        "Image": "",
        "Volumes": {},
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": {},
    }


def _host() -> dict[str, Any]:
    zero: dict[str, Any] = dict.fromkeys(
        "CpuShares Memory NanoCpus BlkioWeight CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime KernelMemory"
        " KernelMemoryTCP MemoryReservation MemorySwap CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth".split(),
        0,
    )
    return {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "file", "Config": {}},
        "NetworkMode": "none",
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "CapAdd": None,
        "CapDrop": None,
        "CgroupnsMode": "private",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": None,
        "GroupAdd": None,
        "IpcMode": "private",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": 0,
        "PidMode": "",
        "Privileged": False,
        "PublishAllPorts": False,
        "ReadonlyRootfs": False,
        "SecurityOpt": None,
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": SHM_SIZE,
        "Runtime": "ocirt",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        **zero,
        "CgroupParent": "",
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": None,
        "BlkioDeviceWriteBps": None,
        "BlkioDeviceReadIOps": None,
        "BlkioDeviceWriteIOps": None,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemorySwappiness": None,
        "OomKillDisable": False,
        "PidsLimit": None,
        "Ulimits": None,
        "MaskedPaths": list(MASKED),
        "ReadonlyPaths": list(READONLY),
    }


# What of /proc and /sys is hidden or not to be written, unless a container is privileged: docker's list, and what
# later versions of it added.
MASKED = tuple(
    "/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list"
    " /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap".split()
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
