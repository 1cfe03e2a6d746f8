"""A configuration that is valid and has every property of the schema: tests change one value of it.

What it says is meant for no host. tests/config/test_full.py proves that it is valid, and complete.
"""

from __future__ import annotations

import json
from typing import Any

MAPPING = [{"containerID": 0, "hostID": 1000, "size": 10}]
OTHERS = ("solaris", "windows", "vm", "zos", "freebsd")
HOOKS = [{"path": "/hook", "args": ["hook"], "env": ["A=b"], "timeout": 3}]
RATES = [{"major": 8, "minor": 0, "rate": 1000}]
_FULL: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "name",
    "domainname": "example",
    "annotations": {"a": "b"},
    "hooks": dict.fromkeys(
        ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"), HOOKS
    ),
    "mounts": [
        {
            "destination": "/x",
            "type": "none",
            "source": "/y",
            "options": ["bind", "idmap"],
            "uidMappings": MAPPING,
            "gidMappings": MAPPING,
        }
    ],
    "process": {
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "cwd": "/",
        "env": ["A="],
        "args": ["sh"],
        "commandLine": "",
        "rlimits": [{"type": "RLIMIT_RTTIME", "soft": 0, "hard": 2**64 - 1}],
        "apparmorProfile": "p",
        "capabilities": {
            name: ["CAP_KILL"] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
        },
        "noNewPrivileges": False,
        "oomScoreAdj": -1000,
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "nice": 0,
            "priority": 0,
            "flags": ["SCHED_FLAG_RECLAIM"],
            "runtime": 2000,
            "deadline": 3000,
            "period": 4000,
        },
        "selinuxLabel": "l",
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 7},
        "execCPUAffinity": {"initial": "0-3,7", "final": "1"},
        "user": {"uid": 0, "gid": 0, "umask": 0o777, "additionalGids": [9], "username": ""},
    },
    "linux": {
        "namespaces": [
            *({"type": kind} for kind in ("user", "pid", "network", "mount", "uts", "cgroup", "time")),
            {"type": "ipc", "path": "/proc/1/ns/ipc"},
        ],
        "uidMappings": MAPPING,
        "gidMappings": MAPPING,
        "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 999999999}, "boottime": {"secs": 5, "nanosecs": 0}},
        "devices": [
            {"type": "c", "path": "/d", "major": 1, "minor": 2, "fileMode": 8630, "uid": 0, "gid": 0},
            {"type": "p", "path": "/f"},
        ],
        "netDevices": {"eth0": {"name": "eth1"}},
        "cgroupsPath": "/a",
        "rootfsPropagation": "rslave",
        "maskedPaths": ["/a"],
        "readonlyPaths": ["/a"],
        "mountLabel": "l",
        "personality": {"domain": "LINUX32", "flags": []},
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "intelRdt": {
            "closID": "a",
            "schemata": ["L3:0=f"],
            "l3CacheSchema": "L3:0=f",
            "memBwSchema": "MB:0=5",
            "enableMonitoring": True,
            "enableCMT": True,
            "enableMBM": True,
        },
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1", "flags": ["MPOL_F_STATIC_NODES"]},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/s",
            "listenerMetadata": "m",
            "syscalls": [
                {
                    "names": ["read"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 1,
                    "args": [{"index": 5, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}],
                }
            ],
        },
        "resources": {
            "devices": [{"allow": True, "type": "c", "major": -1, "minor": 5, "access": "rw"}],
            "memory": {
                "limit": -1,
                "reservation": 1,
                "swap": 1,
                "kernel": 1,
                "kernelTCP": 1,
                "swappiness": 60,
                "disableOOMKiller": False,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1024,
                "quota": -1,
                "burst": 0,
                "period": 100000,
                "realtimeRuntime": 1,
                "realtimePeriod": 2,
                "cpus": "0-1",
                "mems": "0",
                "idle": 1,
            },
            "pids": {"limit": 0},
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": RATES,
                "throttleWriteBpsDevice": RATES,
                "throttleReadIOPSDevice": RATES,
                "throttleWriteIOPSDevice": RATES,
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 2}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}},
            "unified": {"memory.high": "max"},
        },
    },
} | {platform: {} for platform in OTHERS}
FULL: dict[str, Any] = json.loads(json.dumps(_FULL))
"""Without parts that several places share."""
