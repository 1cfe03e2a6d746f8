"""config-linux.md: "Default Filesystems"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("path", "kind"), [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")]
)
def test_the_default_file_systems_are_there(container: Container, path: str, kind: str) -> None:
    """config-linux.md, Default Filesystems: they SHOULD be available in each container's filesystem."""
    for line in container.run("cat /proc/self/mountinfo").out.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == path:
            assert after.split()[0] == kind
            return
    pytest.fail(f"{path} is not mounted")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ],
)
def test_the_dev_symlinks_are_there(container: Container, name: str, target: str) -> None:
    """runtime-linux.md, Dev symbolic links: the runtime MUST set them up."""
    assert container.run(f"ls -l /dev/{name}").out.split(" -> ")[1].strip() == target


def test_the_file_descriptors_are_the_standard_ones_and_no_others(container: Container) -> None:
    """runtime-linux.md, File descriptors: by default only stdin, stdout and stderr are kept open."""
    container.process["args"] = ["/bin/ls", "/proc/self/fd"]
    assert container.run_program().out.split() == ["0", "1", "2", "3"]  # 3 is ls's own
