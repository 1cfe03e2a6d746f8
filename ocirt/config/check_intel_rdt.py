"""What linux.intelRdt must say beyond its shape. Only read if there is any."""

from __future__ import annotations

from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.config.read import Config

POINTER = "/linux/intelRdt"
_KERNELS_OWN = ("info", "mon_groups", "mon_data", ".", "..")


def check_intel_rdt(rdt: dict[str, Any], config: Config) -> None:
    """Raise ConfigError for the first rule that is broken; note warnings."""
    clos = rdt.get("closID") or ""
    if clos != "/" and ("/" in clos or "\n" in clos or clos in _KERNELS_OWN):
        raise ConfigError(
            f'expected the name of a folder of resctrl, or "/", got "{clos}"', pointer=POINTER + "/closID"
        )
    for name, start in (("l3CacheSchema", "L3"), ("memBwSchema", "MB")):
        schema = rdt.get(name) or ""
        _line(schema, f"{POINTER}/{name}")
        # L3CODE and L3DATA stand in for L3 where code and data have caches of their own.
        if schema and not schema.startswith((start + ":", "L3CODE:", "L3DATA:") if start == "L3" else start + ":"):
            raise ConfigError(f'expected "{start}:…", got "{schema}"', pointer=f"{POINTER}/{name}")
    for index, line in enumerate(rdt.get("schemata") or ()):
        _line(line, f"{POINTER}/schemata/{index}")
        if ":" not in line:
            raise ConfigError(f'expected a line such as "L3:0=ff", got "{line}"', pointer=f"{POINTER}/schemata/{index}")
    for name in ("enableCMT", "enableMBM"):
        if rdt.get(name):
            config.warnings.append(f"{POINTER}/{name}: ignored: enableMonitoring replaced it in 1.3")


def _line(text: str, pointer: str) -> None:
    if "\n" in text:
        raise ConfigError("expected one line, got several", pointer=pointer)
