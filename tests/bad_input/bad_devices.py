"""Cases: devices in linux.devices that make no sense."""

from __future__ import annotations

from typing import Any

from bad_values import Case, case


def device(name: str, *words: str, at: str = "", also: list[dict[str, Any]] | None = None, **changes: Any) -> Case:
    """/dev/one, c 10:200, with some changes; `also` are listed before it."""
    made = {"path": "/dev/one", "type": "c", "major": 10, "minor": 200} | changes
    devices = [*(also or ()), {key: value for key, value in made.items() if value is not None}]
    return case(name, "/linux/devices", devices, *words, at=f"/linux/devices/{len(devices) - 1}{at}")


DEVICES = [
    device("a device without a path", "required", at="/path", path=None),
    device("a device's path a number", "expected a string", "got 5", at="/path", path=5),
    device("a relative device", "expected the absolute path of a file", 'got "dev/one"', at="/path", path="dev/one"),
    device("a device upwards", 'without ".."', at="/path", path="/dev/../etc/passwd"),
    device("a device as the root", "expected the absolute path of a file", at="/path", path="//"),
    device("an unknown device type", 'unknown device type "a"', "one of b, c, u, p", at="/type", type="a"),
    device("a device without a type", "required", at="/type", type=None),
    device("a device without a major number", "only a FIFO has no numbers", at="/major", major=None),
    device("a device without a minor number", "only a FIFO has no numbers", at="/minor", type="b", minor=None),
    device("a major number negative", "below 2^12", "got -1", at="/major", major=-1),
    device("a major number too large", "below 2^12", "got 4096", at="/major", major=4096),
    device("a minor number too large", "below 2^20", "got 1048576", at="/minor", minor=1 << 20),
    device("a device's mode a string", "expected an integer", 'got "0666"', at="/fileMode", fileMode="0666"),
    device("a device's mode of another type", "0o60666 is not of a file of type c", at="/fileMode", fileMode=0o60666),
    device("a device's mode of no type", "in decimal", at="/fileMode", fileMode=0o1000666),
    device("a device's owner", "from 0 to 4294967294", at="/uid", uid=2**32 - 1),
    device("a device twice", "/dev/one is listed twice, first at /linux/devices/0", at="/path",
           path="/dev/./one", also=[{"path": "/dev//one", "type": "p"}]),
    device("a device over a folder", "make /dev/pts, character device 10:200: No such device",
           "something else is at this path already", path="/dev/pts"),
    device("a device that is another one", "something else is at this path already", path="/bin/sh"),
]  # fmt: skip
