"""config-linux.md: "Default Devices"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


@pytest.mark.parametrize("name", DEVICES)
def test_a_default_device_is_there_for_everyone(container: Container, name: str) -> None:
    """config-linux.md, Default Devices: the runtime MUST also supply these."""
    major, minor = DEVICES[name]
    out = container.run(f"stat -c '%F %t %T %a' /dev/{name}").out
    assert out == f"character special file {major:x} {minor:x} 666\n"


def test_default_devices_work(container: Container) -> None:
    """config-linux.md, Default Devices."""
    script = (
        "echo x > /dev/null; for d in zero urandom; do head -c 3 /dev/$d | wc -c; done; echo x > /dev/full || echo full"
    )
    assert container.run(script).out.split() == ["3", "3", "full"]


def test_ptmx_is_that_of_the_containers_devpts(container: Container) -> None:
    """config-linux.md, Default Devices: /dev/ptmx is a bind mount or symlink of the container's /dev/pts/ptmx."""
    assert container.run("(exec 3<>/dev/ptmx) && stat -L -c '%t %T' /dev/ptmx").out == "5 2\n"
