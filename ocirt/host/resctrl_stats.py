"""What resctrl counts and allots (Documentation/filesystems/resctrl.rst), in the shape of runc's events.

Imported only for a container that has linux.intelRdt.
"""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import exists, read
from ocirt.errors import from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_KINDS = (
    ("L3", "l3_cache", ("min_cbm_bits", "num_closids")),
    ("MB", "mem_bw", ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids")),
)
_COUNTS = (("mbm_stats", ("mbm_total_bytes", "mbm_local_bytes")), ("cmt_stats", ("llc_occupancy",)))


def resctrl_stats(mount: str, group: str, monitoring: str) -> dict[str, Any]:
    """runc's IntelRdt. group: the container's class; monitoring: its monitoring group, or "". Raises KernelError."""
    try:
        return _read(mount, group, monitoring or group)
    except OSError as error:
        error.filename = error.filename or group
        raise from_os_error(error, "read the statistics of resctrl") from None


def _read(mount: str, group: str, monitored: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at_root, own = (read(f"{folder}/schemata").splitlines() for folder in (mount, group))
    for kind, name, files in _KINDS:
        info = f"{mount}/info/{kind}"
        if not exists(info):
            continue
        values: dict[str, Any] = {file: int(read(f"{info}/{file}")) for file in files}
        if kind == "L3":
            values["cbm_mask"] = read(f"{info}/cbm_mask").strip()
        found[f"{name}_info"] = values
        for key, lines in ((f"{name}_schema_root", at_root), (f"{name}_schema", own)):
            line = next((line.strip() for line in lines if line.strip().startswith(kind + ":")), "")
            if line:
                found[key] = line
    found["schemata"] = [line.strip() for line in own]
    if exists(f"{mount}/info/L3_MON/mon_features"):
        features = read(f"{mount}/info/L3_MON/mon_features").split()
        domains = sorted(posix.listdir(f"{monitored}/mon_data"))
        for key, names in _COUNTS:
            wanted = [name for name in names if name in features]
            if wanted:
                found[key] = [_counts(f"{monitored}/mon_data/{domain}", wanted) for domain in domains]
    return found


def _counts(folder: str, names: Sequence[str]) -> dict[str, int]:
    """Of one domain. What the processor cannot say now ("Unavailable", "Error") is 0, which runc gives up on."""
    counts = {name: read(f"{folder}/{name}").strip() for name in names}
    return {name: int(value) if value.isdigit() else 0 for name, value in counts.items()}
