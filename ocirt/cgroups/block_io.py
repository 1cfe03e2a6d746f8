"""linux.resources.blockIO (admin-guide/cgroup-v1/blkio-controller.rst, cgroup-v2.rst "IO", block/bfq-iosched.rst)."""

from __future__ import annotations

from ocirt.cgroups.setting import Setting, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POINTER = "/linux/resources/blockIO"

_THROTTLE = (
    # property, v1 file, key in v2's io.max
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
)


def v1(block_io: dict[str, Any]) -> list[Setting]:
    """Weights are BFQ's today (`blkio.bfq.weight`); CFQ, with other names and leaf weights, went with Linux 5.0."""
    settings = []
    if weight := block_io.get("weight"):
        settings.append(Setting(POINTER + "/weight", "blkio.bfq.weight", weight, instead=("blkio.weight", str(weight))))
    if leaf := block_io.get("leafWeight"):
        settings.append(Setting(POINTER + "/leafWeight", "blkio.leaf_weight", leaf))
    for index, device in enumerate(block_io.get("weightDevice") or ()):
        pointer, numbers = f"{POINTER}/weightDevice/{index}", _numbers(device)
        if weight := device.get("weight"):
            line = f"{numbers} {weight}"
            instead = ("blkio.weight_device", line)
            settings.append(Setting(pointer + "/weight", "blkio.bfq.weight_device", line, instead=instead))
        if leaf := device.get("leafWeight"):
            settings.append(Setting(pointer + "/leafWeight", "blkio.leaf_weight_device", f"{numbers} {leaf}"))
    for name, file, _ in _THROTTLE:
        for index, device in enumerate(block_io.get(name) or ()):
            settings.append(Setting(f"{POINTER}/{name}/{index}", file, f"{_numbers(device)} {device['rate']}"))
    return settings


def v2(block_io: dict[str, Any]) -> list[Setting]:
    """BFQ's own weights are v1's; io.weight's go further. io.max has one line for all limits of a device."""
    settings = []
    if block_io.get("leafWeight"):
        raise refuse(POINTER + "/leafWeight", "cgroup v2 has no leaf weights")
    if weight := block_io.get("weight"):
        instead = ("io.weight", str(io_weight(weight)))
        settings.append(Setting(POINTER + "/weight", "io.bfq.weight", weight, instead=instead))
    for index, device in enumerate(block_io.get("weightDevice") or ()):
        pointer, numbers = f"{POINTER}/weightDevice/{index}", _numbers(device)
        if device.get("leafWeight"):
            raise refuse(pointer + "/leafWeight", "cgroup v2 has no leaf weights")
        if weight := device.get("weight"):
            instead = ("io.weight", f"{numbers} {io_weight(weight)}")
            settings.append(Setting(pointer + "/weight", "io.bfq.weight", f"{numbers} {weight}", instead=instead))
    lines: dict[str, tuple[str, list[str]]] = {}
    for name, _, key in _THROTTLE:
        for index, device in enumerate(block_io.get(name) or ()):
            _, limits = lines.setdefault(_numbers(device), (f"{POINTER}/{name}/{index}", []))
            limits.append(f"{key}={device['rate'] or 'max'}")  # 0 takes a limit away, as on v1
    for numbers, (pointer, limits) in lines.items():
        settings.append(Setting(pointer, "io.max", f"{numbers} {' '.join(limits)}"))
    return settings


def io_weight(weight: int) -> int:
    """v1's 10 to 1000 → io.weight's 1 to 10000."""
    return max(1, 1 + (weight - 10) * 9999 // 990)


def _numbers(device: dict[str, Any]) -> str:
    return f"{device['major']}:{device['minor']}"
