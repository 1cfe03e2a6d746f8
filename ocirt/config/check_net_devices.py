"""What linux.netDevices must say beyond its shape. Only read if there is any."""

from __future__ import annotations

from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any

POINTER = "/linux/netDevices"
MAX_NAME = 15
"""IFNAMSIZ, without the NUL (netdevice(7))."""
TEMPLATE = "%d"


def check_net_devices(devices: dict[str, Any], namespaces: Container[str]) -> None:
    """Raise ConfigError for the first rule that is broken. namespaces: those that the configuration lists."""
    if "network" not in namespaces:
        raise ConfigError(
            "network devices need a network namespace to be moved to",
            pointer=POINTER,
            hint='add {"type": "network"} to /linux/namespaces',
        )
    targets: dict[str, str] = {}
    for name, device in devices.items():
        pointer = f"{POINTER}/{name.replace('~', '~0').replace('/', '~1')}"
        _name(name, pointer)
        if "%" in name:
            raise ConfigError(f'expected the name of one device, got "{name}"', pointer=pointer)
        if name == "lo":
            raise ConfigError("lo cannot be moved", pointer=pointer, hint="each network namespace has its own")
        target = (device or {}).get("name") or name
        pointer = f"{pointer}/name" if target != name else pointer
        _name(target, pointer)
        if "%" in target.replace(TEMPLATE, "", 1):
            raise ConfigError(f'expected at most one "%", as "%d", got "{target}"', pointer=pointer)
        if target == "lo":
            raise ConfigError("the container has a lo already", pointer=pointer)
        if target in targets and TEMPLATE not in target:
            first = f"{POINTER}/{targets[target]}"
            raise ConfigError(f"a second device that is to be {target}, after {first}", pointer=pointer)
        targets[target] = name


def _name(name: str, pointer: str) -> None:
    """The kernel's dev_valid_name()."""
    if not name or name in (".", "..") or any(letter in "/:" or letter.isspace() for letter in name):
        raise ConfigError(f'expected a name without "/", ":" and spaces, got "{name}"', pointer=pointer)
    if len(name.encode()) > MAX_NAME:
        raise ConfigError(
            f"expected a name of at most {MAX_NAME} bytes, got {len(name.encode())}",
            pointer=pointer,
            hint="the kernel's limit",
        )
