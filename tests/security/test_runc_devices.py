"""Devices and terminals: links of an image in their place, and names that somebody exchanges."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.test_terminal import Terminals
from security.attacks import ROUNDS, bind, mounts_without, refused, runs_or_is_refused, swapping
from support import Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
IN_DEV = ("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
NULL = "1:3"


@pytest.fixture
def dev(bundle: Bundle) -> Path:
    """A /dev that the container shares with others, with the devices that a program needs."""
    folder = bundle.path / "dev"
    folder.mkdir()
    for name, minor in (("null", 3), ("zero", 5), ("tty", 0)):
        os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(5 if name == "tty" else 1, minor))
    (folder / "pts").mkdir()
    mounts = bundle.config["mounts"]
    mounts_without(bundle, *IN_DEV)
    bind(bundle, folder, "/dev")
    bundle.config["mounts"] += [mount for mount in mounts if mount["destination"] == "/dev/pts"]
    return folder


# /dev/null, which hides files


@pytest.mark.parametrize("target", ["{host}/ptmx", "/proc/sys/kernel/core_pattern", "nowhere"])
def test_cve_2025_31133_a_null_device_of_the_image_that_is_a_link_is_not_used(
    runtime: Runtime, bundle: Bundle, host: Path, target: str
) -> None:
    (bundle.rootfs / "dev/null").symlink_to(target.format(host=host))
    mounts_without(bundle, *IN_DEV)
    refused(runtime.sh(bundle, "true"), "make /dev/null, character device 1:3")


def test_cve_2025_31133_a_regular_file_at_a_default_device_is_refused(
    runtime: Runtime, bundle: Bundle, host: Path
) -> None:
    (bundle.rootfs / "dev/zero").write_text("not zero")
    mounts_without(bundle, *IN_DEV)
    refused(runtime.sh(bundle, "true"), "make /dev/zero, character device 1:5")


MASKED = f"stat -c %t:%T /masked && cat /masked && [ $(stat -c %t:%T /proc/meminfo) = {NULL} ]"


@pytest.mark.parametrize("target", ["/secret", "/proc/sys/kernel/core_pattern"])
def test_cve_2025_31133_a_mask_is_the_hosts_null_device(
    runtime: Runtime, bundle: Bundle, dev: Path, host: Path, target: str
) -> None:
    """A /dev of somebody else's, as it is: what hides is not taken from there."""
    (bundle.rootfs / "masked").write_text("masked")
    (bundle.rootfs / "secret").write_text("secret")
    bundle.config["linux"]["maskedPaths"] = ["/masked", "/proc/meminfo"]
    (dev / "null").unlink()
    (dev / "null").symlink_to(target)
    done = runtime.sh(bundle, MASKED)
    assert (done.out, done.code) == (f"{NULL}\n", 0), done.err


def test_cve_2025_31133_a_null_device_that_is_exchanged_while_masks_are_made(
    runtime: Runtime, bundle: Bundle, dev: Path, host: Path
) -> None:
    (bundle.rootfs / "masked").write_text("masked")
    (bundle.rootfs / "secret").write_text("secret")
    bundle.config["linux"]["maskedPaths"] = ["/masked", "/proc/meminfo"]
    (dev / "link").symlink_to("/secret")
    with swapping(dev / "null", dev / "link"):
        for number in range(ROUNDS):
            done = runtime.sh(bundle, MASKED, f"race-{number}")
            assert runs_or_is_refused(done)
            assert done.out == f"{NULL}\n", f"round {number}: {done}"


# Terminals


@pytest.fixture
def terminals(runtime: Runtime, bundle: Bundle) -> Iterator[Terminals]:
    with contextlib.ExitStack() as stack:
        yield Terminals(runtime, bundle, stack)
    runtime("delete", "--force", "t")


CONSOLE = "grep -c ' /0 /dev/.* devpts ' /proc/self/mountinfo; stat -L -c %t /proc/self/fd/0; readlink /proc/self/fd/0"
"""One terminal mounted in /dev, by whatever name by now; the major number of stdin's, and its name."""


def shown(terminals: Terminals, script: str) -> tuple[int, list[str]]:
    console = terminals.run(script)
    code = console.end()
    words = console.output.decode().split()
    terminals.stack.close()
    return code, words


@pytest.mark.parametrize("target", ["{host}/ptmx", "/proc/sys/kernel/core_pattern", "pts/ptmx", "nowhere"])
def test_cve_2025_52565_a_console_that_is_a_link_is_refused(
    terminals: Terminals, dev: Path, host: Path, target: str
) -> None:
    """What it led to was covered by the terminal, or bound over the console before masks were there."""
    (dev / "console").symlink_to(target.format(host=host))
    code, words = shown(terminals, CONSOLE)
    assert (code, words[:1]) == (1, ["ocirt:"])
    assert "/process/terminal:" in words
    assert "/dev/console:" in words
    assert (dev / "console").is_symlink()


@pytest.mark.parametrize("target", ["{host}", "/proc", "/tmp/fake"])
def test_cve_2025_52565_terminals_that_are_behind_a_link_are_the_containers(
    terminals: Terminals, bundle: Bundle, host: Path, target: str
) -> None:
    """Refused, or a terminal that the kernel made in the container's own devpts: no path in /dev/pts is opened, and
    ptmx is looked at (5:2). A fake one that is another device is not taken."""
    (bundle.rootfs / "tmp/fake").mkdir()
    os.mknod(bundle.rootfs / "tmp/fake/ptmx", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    shutil.rmtree(bundle.rootfs / "dev")
    (bundle.rootfs / "dev").mkdir()
    (bundle.rootfs / "dev/pts").symlink_to(target.format(host=host))
    mounts_without(bundle, *IN_DEV)
    code, words = shown(terminals, CONSOLE)
    assert (code, words[:1]) == (1, ["ocirt:"])
    assert "/dev/pts/ptmx" in " ".join(words)


def test_cve_2025_52565_a_console_that_is_exchanged_for_a_link(
    terminals: Terminals, bundle: Bundle, dev: Path, host: Path
) -> None:
    (bundle.rootfs / "secret").write_text("secret")
    (dev / "console").touch()
    (dev / "link").symlink_to("../secret")
    ran = 0
    with swapping(dev / "console", dev / "link"):
        for number in range(ROUNDS // 3):
            code, words = shown(terminals, f"{CONSOLE}; stat -c %F /secret")
            ran += code == 0
            if code == 0:
                assert words == ["1", "88", "/dev/pts/0", "regular", "file"], f"round {number}: {words}"
            else:
                assert words[0] == "ocirt:", words
    print(f"{ran} rounds ran")
    assert ran
