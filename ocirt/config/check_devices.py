"""What linux.devices must say. Imported only for a configuration that lists some."""

from __future__ import annotations

from ocirt.config.check import check_path, guess
from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FILE_TYPES = {"b": 0o060000, "c": 0o020000, "u": 0o020000, "p": 0o010000}
"""The specification's letter → the bits of stat(2)'s st_mode."""
_NUMBERS = {"major": 12, "minor": 20}
"""Bits that the kernel keeps of each (its dev_t)."""
_TYPE_BITS = 0o170000


def check_devices(devices: Sequence[dict[str, Any]]) -> None:
    """Raise ConfigError for the first rule that is broken."""
    seen: dict[str, int] = {}
    for index, device in enumerate(devices):
        pointer, path, kind = f"/linux/devices/{index}", device["path"], device["type"]
        if kind not in FILE_TYPES:
            raise ConfigError(f'unknown device type "{kind}"', pointer=pointer + "/type", hint=guess(kind, FILE_TYPES))
        check_path(path, pointer + "/path")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if not path.startswith("/") or not parts or ".." in parts:
            raise ConfigError(
                f'expected the absolute path of a file, without "..", got "{path}"', pointer=pointer + "/path"
            )
        plain = "/".join(parts)
        if plain in seen:
            raise ConfigError(
                f"/{plain} is listed twice, first at /linux/devices/{seen[plain]}", pointer=pointer + "/path"
            )
        seen[plain] = index
        if kind != "p":
            _numbers(device, pointer)
        bits = device.get("fileMode", 0) & ~0o7777
        if bits not in (0, FILE_TYPES[kind]):
            raise ConfigError(
                f"the mode {device['fileMode']:#o} is not of a file of type {kind}",
                pointer=pointer + "/fileMode",
                hint="in decimal: 438 is 0666" if bits & ~_TYPE_BITS else "give the permissions alone",
            )


def _numbers(device: dict[str, Any], pointer: str) -> None:
    for name, bits in _NUMBERS.items():
        number = device.get(name)
        if number is None:
            raise ConfigError("expected a value: only a FIFO has no numbers, got nothing", pointer=f"{pointer}/{name}")
        if not 0 <= number < 1 << bits:
            raise ConfigError(f"expected a number below 2^{bits}, got {number}", pointer=f"{pointer}/{name}")
