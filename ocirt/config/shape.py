"""The shape of config.json: which properties runtime-spec 1.3 has (for Linux), and of which type.

One table, walked by plain functions, because it runs at every `create`: no value is ever coerced, and a wrong type
is an error with its pointer. `null` stands for an absent array or object, because Go writes its nil slices so (all
privileged containers of containerd, Docker and podman have one). Unknown properties are ignored, as the specification
demands.
"""

from __future__ import annotations

from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Shape: TypeAlias = Callable[[Any], None]


class Mismatch(Exception):
    """A value is not of its shape. `path` grows outwards from the value while the exception rises."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.value = value
        self.path: list[str | int] = []


class Missing:
    """Stands for the value of a property that is not there."""


def string(value: object) -> None:
    if type(value) is not str:
        raise Mismatch("a string", value)
    if "\0" in value:
        raise Mismatch("a string without NUL characters", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Mismatch("a string of whole Unicode characters", value) from None


def boolean(value: object) -> None:
    if type(value) is not bool:
        raise Mismatch("true or false", value)


def integer(low: int, high: int) -> Shape:
    def check(value: object) -> None:
        if type(value) is not int:
            raise Mismatch("an integer", value)
        if not low <= value <= high:
            raise Mismatch(f"an integer from {low} to {high}", value)

    return check


def array(item: Shape) -> Shape:
    def check(value: object) -> None:
        if type(value) is not list:
            if value is None:
                return
            raise Mismatch("an array", value)
        for index, member in enumerate(value):
            try:
                if member is None:  # stands for an absent property, but an entry of a list is there
                    raise Mismatch("a value", member)
                item(member)
            except Mismatch as mismatch:
                mismatch.path.append(index)
                raise

    return check


def mapping(item: Shape) -> Shape:
    """An object with any keys (not empty), all of whose values have one shape."""

    def check(value: object) -> None:
        if type(value) is not dict:
            if value is None:
                return
            raise Mismatch("an object", value)
        for key, member in value.items():
            try:
                if not key:
                    raise Mismatch("a key that is not empty", key)
                string(key)
                item(member)
            except Mismatch as mismatch:
                mismatch.path.append(key)
                raise

    return check


def record(properties: dict[str, Shape], required: tuple[str, ...] = ()) -> Shape:
    """An object with these properties; others are ignored."""

    def check(value: object) -> None:
        if type(value) is not dict:
            if value is None:
                return
            raise Mismatch("an object", value)
        for key, member in value.items():
            shape = properties.get(key)
            if shape is not None:
                try:
                    shape(member)
                except Mismatch as mismatch:
                    mismatch.path.append(key)
                    raise
        for key in required:
            if value.get(key) is None:
                missing = Mismatch("a value: this property is required", Missing)
                missing.path.append(key)
                raise missing

    return check


def hooks(value: object) -> None:
    """Of most configurations there are none: their shape is elsewhere."""
    if value is not None and value != {}:
        from ocirt.config.hooks import HOOKS

        HOOKS(value)


U16 = integer(0, 2**16 - 1)
U32 = integer(0, 2**32 - 1)
U64 = integer(0, 2**64 - 1)
I64 = integer(-(2**63), 2**63 - 1)
ID = integer(0, 2**32 - 2)  # (uid_t)-1 means "unchanged" to the kernel

_CAPABILITIES = record(
    {
        "bounding": array(string),
        "effective": array(string),
        "inheritable": array(string),
        "permitted": array(string),
        "ambient": array(string),
    }
)

_SCHEDULER = record(
    {
        "policy": string,
        "nice": integer(-20, 19),
        "priority": integer(-(2**31), 2**31 - 1),
        "flags": array(string),
        "runtime": U64,
        "deadline": U64,
        "period": U64,
    },
    ("policy",),
)

PROCESS = record(
    {
        "terminal": boolean,
        "consoleSize": record({"height": U16, "width": U16}, ("height", "width")),
        "user": record({"uid": ID, "gid": ID, "umask": integer(0, 0o777), "additionalGids": array(ID)}, ("uid", "gid")),
        "args": array(string),
        "env": array(string),
        "cwd": string,
        "capabilities": _CAPABILITIES,
        "rlimits": array(record({"type": string, "hard": U64, "soft": U64}, ("type", "hard", "soft"))),
        "noNewPrivileges": boolean,
        "apparmorProfile": string,
        "oomScoreAdj": integer(-1000, 1000),
        "scheduler": _SCHEDULER,
        "selinuxLabel": string,
        "ioPriority": record({"class": string, "priority": integer(0, 7)}, ("class", "priority")),
        "execCPUAffinity": record({"initial": string, "final": string}),
    },
    ("cwd", "user"),
)

_MAPPINGS = array(record({"containerID": U32, "hostID": U32, "size": U32}, ("containerID", "hostID", "size")))

_MOUNT = record(
    {
        "destination": string,
        "type": string,
        "source": string,
        "options": array(string),
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
    },
    ("destination",),
)

MOUNTS = array(_MOUNT)

_DEVICE = record(
    {"path": string, "type": string, "major": I64, "minor": I64, "fileMode": U32, "uid": ID, "gid": ID},
    ("path", "type"),
)

_DEVICE_RULE = record(
    {"allow": boolean, "type": string, "major": I64, "minor": I64, "access": string},
    ("allow",),
)

_MEMORY = record(
    {
        "limit": I64,
        "reservation": I64,
        "swap": I64,
        "kernel": I64,
        "kernelTCP": I64,
        "swappiness": U64,
        "disableOOMKiller": boolean,
        "useHierarchy": boolean,
        "checkBeforeUpdate": boolean,
    }
)

_CPU = record(
    {
        "shares": U64,
        "quota": I64,
        "burst": U64,
        "period": U64,
        "realtimeRuntime": I64,
        "realtimePeriod": U64,
        "cpus": string,
        "mems": string,
        "idle": I64,
    }
)

_RATES = array(record({"major": I64, "minor": I64, "rate": U64}, ("major", "minor", "rate")))
_WEIGHTS = record({"major": I64, "minor": I64, "weight": U16, "leafWeight": U16}, ("major", "minor"))
_BLOCK_IO = record(
    {
        "weight": U16,
        "leafWeight": U16,
        "weightDevice": array(_WEIGHTS),
        "throttleReadBpsDevice": _RATES,
        "throttleWriteBpsDevice": _RATES,
        "throttleReadIOPSDevice": _RATES,
        "throttleWriteIOPSDevice": _RATES,
    }
)

RESOURCES = record(
    {
        "devices": array(_DEVICE_RULE),
        "memory": _MEMORY,
        "cpu": _CPU,
        "pids": record({"limit": I64}),
        "blockIO": _BLOCK_IO,
        "hugepageLimits": array(record({"pageSize": string, "limit": U64}, ("pageSize", "limit"))),
        "network": record(
            {
                "classID": U32,
                "priorities": array(record({"name": string, "priority": U32}, ("name", "priority"))),
            }
        ),
        "rdma": mapping(record({"hcaHandles": U32, "hcaObjects": U32})),
        "unified": mapping(string),
    }
)

_INTEL_RDT = record(
    {
        "closID": string,
        "schemata": array(string),
        "l3CacheSchema": string,
        "memBwSchema": string,
        "enableMonitoring": boolean,
        "enableCMT": boolean,
        "enableMBM": boolean,
    }
)

_LINUX = record(
    {
        "namespaces": array(record({"type": string, "path": string}, ("type",))),
        "cgroupsPath": string,
        "resources": RESOURCES,
        "maskedPaths": array(string),
        "readonlyPaths": array(string),
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
        "timeOffsets": mapping(record({"secs": I64, "nanosecs": U32})),
        "devices": array(_DEVICE),
        "netDevices": mapping(record({"name": string})),
        "sysctl": mapping(string),
        "seccomp": record({}),  # its properties: config/seccomp.py, when there is a filter to compile
        "rootfsPropagation": string,
        "mountLabel": string,
        "intelRdt": _INTEL_RDT,
        "personality": record({"domain": string, "flags": array(string)}, ("domain",)),
        "memoryPolicy": record({"mode": string, "nodes": string, "flags": array(string)}, ("mode",)),
    }
)

CONFIG = record(
    {
        "ociVersion": string,
        "root": record({"path": string, "readonly": boolean}, ("path",)),
        "process": PROCESS,
        "hostname": string,
        "domainname": string,
        "mounts": MOUNTS,
        "annotations": mapping(string),
        "hooks": hooks,
        "linux": _LINUX,
    },
    ("ociVersion",),
)


def pointer_to(path: list[str | int]) -> str:
    """A JSON pointer (RFC 6901) from the keys and indices that lead to a value."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def shown(value: object) -> str:
    """A value as an error quotes it: short, and with its JSON type's look."""
    if value is Missing:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 60 else text[:56] + '…"'


def check_shape(value: object, shape: Shape = CONFIG, below: tuple[str, ...] = ()) -> None:
    """Raise ConfigError for the first value in config.json that is not of its shape.

    below: the names that lead from the whole configuration to `value`, if that is a part of it.
    """
    try:
        if value is None:
            raise Mismatch("an object", value)
        shape(value)
    except Mismatch as mismatch:
        pointer = pointer_to([*below, *mismatch.path[::-1]])
        raise ConfigError(f"expected {mismatch.expected}, got {shown(mismatch.value)}", pointer=pointer) from None
