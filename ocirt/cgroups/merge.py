"""What a change of linux.resources makes of those that a container has.

What the change leaves out stays. So does what it has as 0 or "", where that is no value but Go's way to say "unset":
docker sends all of its fields. Entries of lists are the same if they are about the same device, page size or interface.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

POINTER = "/linux/resources"
_UNSET = {
    "memory": ("limit", "reservation", "swap", "kernel", "kernelTCP"),
    "cpu": ("shares", "quota", "period", "realtimeRuntime", "realtimePeriod", "cpus", "mems"),
    "blockIO": ("weight", "leafWeight"),
}
"""Of these 0, or "", is no value. Of all others it is: no process, no burst, not idle."""
_KEYS = {
    "weightDevice": ("major", "minor"),
    "throttleReadBpsDevice": ("major", "minor"),
    "throttleWriteBpsDevice": ("major", "minor"),
    "throttleReadIOPSDevice": ("major", "minor"),
    "throttleWriteIOPSDevice": ("major", "minor"),
    "hugepageLimits": ("pageSize",),
    "priorities": ("name",),
}
"""What makes two entries of a list the same one."""


class Merged:
    """resources: the new linux.resources. touched: the pointer of each value in it that the change names → the pointer
    of that value in the change."""

    def __init__(self, old: dict[str, Any], change: dict[str, Any]) -> None:
        self.touched: dict[str, str] = {}
        self.resources: dict[str, Any] = {name: value for name, value in old.items() if name != "devices"}
        for section, value in change.items():
            if not value or section == "devices":
                continue
            pointer = f"/{section}"
            known = self.resources.get(section)
            if isinstance(value, list):
                self.resources[section] = self._list(known or (), value, _KEYS[section], pointer)
            else:
                self.resources[section] = self._object(known or {}, value, _UNSET.get(section, ()), pointer)

    def _object(self, old: dict[str, Any], change: dict[str, Any], unset: Sequence[str], at: str) -> dict[str, Any]:
        merged = dict(old)
        for name, value in change.items():
            if value is None or (not value and name in unset):
                continue
            pointer = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
            if isinstance(value, list):
                merged[name] = self._list(old.get(name) or (), value, _KEYS[name], pointer)
            elif isinstance(value, dict):
                merged[name] = self._object(old.get(name) or {}, value, (), pointer)
                self.touched[POINTER + pointer] = pointer
            else:
                merged[name] = value
                self.touched[POINTER + pointer] = pointer
        return merged

    def _list(
        self, old: Sequence[dict[str, Any]], change: Sequence[dict[str, Any]], keys: Sequence[str], at: str
    ) -> list[dict[str, Any]]:
        merged = list(old)
        for index, entry in enumerate(change):
            same = [place for place, known in enumerate(merged) if all(known[key] == entry[key] for key in keys)]
            place = same[0] if same else len(merged)
            if same:
                merged[place] = {**merged[place], **{name: value for name, value in entry.items() if value is not None}}
            else:
                merged.append(entry)
            for pointer in ("", *(f"/{name}" for name in entry)):
                self.touched[f"{POINTER}{at}/{place}{pointer}"] = f"{at}/{index}{pointer}"
        return merged
