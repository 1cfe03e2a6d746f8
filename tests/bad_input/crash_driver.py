"""Make a container and die by SIGKILL at the n-th point on the way.

usage: python -IS crash_driver.py PACKAGES ROOT BUNDLE ID N VERB

Points are before each of the functions below, whenever it is called, and after those that are in AFTER: after the
others comes the next one at once. At the end of the way it prints how many points there were and exits with 0.
"""

from __future__ import annotations

import os
import signal
import sys

packages, root, bundle, container_id, number, verb = sys.argv[1:]
sys.path.append(packages)

from ocirt.cgroups.manager import Cgroups  # noqa: E402
from ocirt.host.launch import Init  # noqa: E402
from ocirt.runtime.create import create  # noqa: E402
from ocirt.runtime.creation import Creation  # noqa: E402
from ocirt.runtime.run import run  # noqa: E402
from ocirt.state import entry  # noqa: E402
from ocirt.state.store import Store  # noqa: E402

POINTS = {
    Store: ("create",),
    entry: ("lock",),
    entry.Entry: ("write", "write_state", "close"),
    Cgroups: ("plan", "create", "_make", "attach", "set_devices", "remove"),
    Init: ("spawn", "answer", "wait_for_program", "close"),
    Creation: ("_prepare", "_spawn", "started", "received", "meet", "_finish", "release"),
}
AFTER = {
    "create",
    "write_state",
    "attach",
    "set_devices",
    "spawn",
    "answer",
    "started",
    "received",
    "_finish",
    "release",
}
passed = 0


def point() -> None:
    global passed
    if passed == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    passed += 1


def wrapped(function):  # type: ignore[no-untyped-def]
    def call(*args, **kwargs):  # type: ignore[no-untyped-def]
        point()
        result = function(*args, **kwargs)
        if function.__name__ in AFTER:
            point()
        return result

    return call


for kind, names in POINTS.items():
    for name in names:
        setattr(kind, name, wrapped(getattr(kind, name)))
if verb == "create":
    create(root, container_id, bundle)
else:
    run(root, container_id, bundle, detach=True)
print(passed)
