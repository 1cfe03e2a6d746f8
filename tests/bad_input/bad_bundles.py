"""Cases: bundles whose configuration is fine by itself, and whose root file system or mounts are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bad_values import put
from support import Bundle

Spoil = Callable[[Bundle, Path], object]


@dataclass
class BadBundle:
    """`spoil` changes a bundle, and may use a folder of the host that no container may touch."""

    name: str
    spoil: Spoil
    pointer: str
    words: tuple[str, ...]


def config(*changes: tuple[str, Any]) -> Spoil:
    """Only config.json is bad."""

    def spoil(bundle: Bundle, outside: Path) -> None:
        for pointer, value in changes:
            put(pointer, value)(bundle.config)

    return spoil


def program(path: str, content: bytes, mode: int, *args: str) -> Spoil:
    """A file in the root file system, which is the program to run."""

    def spoil(bundle: Bundle, outside: Path) -> None:
        file = bundle.rootfs / path
        file.write_bytes(content)
        file.chmod(mode)
        bundle.config["process"]["args"] = list(args) or ["/" + path]

    return spoil


def mount(destination: str, **rest: Any) -> Spoil:
    """One more mount; a source "outside/…" is in the folder of the host."""

    def spoil(bundle: Bundle, outside: Path) -> None:
        added = {"destination": destination, **rest}
        if added.get("source", "").startswith("outside"):
            added["source"] = str(outside) + added["source"][7:]
        bundle.config["mounts"].append(added)

    return spoil


def link(name: str, target: str, *more: Spoil) -> Spoil:
    """A symlink in the root file system instead of whatever is there, and then more. {} is the folder of the host."""

    def spoil(bundle: Bundle, outside: Path) -> None:
        place = bundle.rootfs / name
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        place.symlink_to(target.format(outside))
        for one in more:
            one(bundle, outside)

    return spoil


def no_rootfs(bundle: Bundle, outside: Path) -> None:
    bundle.rootfs.rename(bundle.path / "elsewhere")


def rootfs_is_a_file(bundle: Bundle, outside: Path) -> None:
    no_rootfs(bundle, outside)
    bundle.rootfs.write_text("no directory\n")


def rootfs_is_a_dangling_link(bundle: Bundle, outside: Path) -> None:
    no_rootfs(bundle, outside)
    bundle.rootfs.symlink_to("nowhere")


def rootfs_is_a_loop(bundle: Bundle, outside: Path) -> None:
    no_rootfs(bundle, outside)
    bundle.rootfs.symlink_to("rootfs")


def noexec_mount(bundle: Bundle, outside: Path) -> None:
    mount("/tmp", source=str(bundle.rootfs / "bin"), options=["bind", "noexec"])(bundle, outside)
    bundle.config["process"]["args"] = ["/tmp/true"]


def unreadable_for_user(bundle: Bundle, outside: Path) -> None:
    program("bin/mine", b"#!/bin/sh\n", 0o700)(bundle, outside)
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}


ARGS = "/process/args"
ARG0 = "/process/args/0"
MOUNT = "/mounts/7"
NOT_FOUND = "executable file not found in $PATH"

PROGRAMS = [
    BadBundle("a program in no folder", config((ARGS, ["nope", "-x"])), ARG0,
              ('exec "nope"', NOT_FOUND, "/usr/local/sbin:", ":/bin")),
    BadBundle("a program with a path", config((ARGS, ["/opt/nope"])), ARG0,
              ('exec "/opt/nope"', "no such file or directory in the container")),
    BadBundle("a program below a file", config((ARGS, ["/etc/passwd/x"])), ARG0, ("no such file or directory",)),
    BadBundle("a program that is a link to itself", link("bin/loop", "loop", config((ARGS, ["/bin/loop"]))), ARG0,
              ('exec "/bin/loop"', "Too many levels of symbolic links")),
    BadBundle("a program name too long", config((ARGS, ["/bin/" + "x" * 256])), ARG0, ("File name too long",)),
    BadBundle("PATH without the program", config((ARGS, ["true"]), ("/process/env", ["PATH=/usr/bin:/opt"])), ARG0,
              (NOT_FOUND, "folders searched: /usr/bin:/opt")),
    BadBundle("an empty PATH", config((ARGS, ["true"]), ("/process/env", ["PATH="])), ARG0,
              (NOT_FOUND, "PATH has no absolute folder")),
    BadBundle("a relative PATH", config((ARGS, ["true"]), ("/process/env", ["PATH=bin:."])), ARG0,
              (NOT_FOUND, "PATH has no absolute folder")),
    BadBundle("not executable", config((ARGS, ["/etc/passwd"])), ARG0,
              ('exec "/etc/passwd"', "permission denied", "no execute permission")),
    BadBundle("not executable, in PATH", config((ARGS, ["passwd"]), ("/process/env", ["PATH=/bin:/etc"])), ARG0,
              ('exec "passwd"', "permission denied for /etc/passwd")),
    BadBundle("not executable for its user", unreadable_for_user, ARG0, ("permission denied for /bin/mine",)),
    BadBundle("a directory", config((ARGS, ["/etc"])), ARG0, ('exec "/etc": permission denied', "Is a directory")),
    BadBundle("on a noexec mount", noexec_mount, ARG0, ("permission denied for /tmp/true", "noexec")),
    BadBundle("cwd is a file", config(("/process/cwd", "/etc/passwd")), "/process/cwd",
              ("enter /etc/passwd", "Not a directory")),
    BadBundle("cwd below a file", config(("/process/cwd", "/etc/passwd/x")), "/process/cwd",
              ("/etc/passwd", "Not a directory")),
    BadBundle("cwd is a link to itself", link("loop", "loop", config(("/process/cwd", "/loop"))), "/process/cwd",
              ("/loop", "Too many levels of symbolic links")),
]  # fmt: skip

MIPS = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x08\0" + bytes(44)
"""The header of an ELF file for an architecture that no test runs on."""
LATE = [  # what the kernel finds out only when it executes the program
    BadBundle("a script without its interpreter", program("bin/script", b"#!/no/such/sh\n", 0o755), ARGS,
              ('exec "/bin/script": no such file or directory', "interpreter", "missing in the container")),
    BadBundle("no executable format", program("bin/data", b"\0\1\2\3", 0o755), ARGS,
              ('exec "/bin/data": exec format error', "wrong architecture")),
    BadBundle("an empty program", program("bin/empty", b"", 0o755), ARGS, ("exec format error", "#!")),
    BadBundle("another architecture", program("bin/mips", MIPS, 0o755), ARGS, ("exec format error", "architecture")),
]  # fmt: skip

ROOTS = [
    BadBundle("no root file system", no_rootfs, "/root/path", ("rootfs: No such file or directory", "relative to")),
    BadBundle("the root is a file", rootfs_is_a_file, "/root/path", ("Not a directory", "directory")),
    BadBundle("the root is a dangling link", rootfs_is_a_dangling_link, "/root/path", ("No such file or directory",)),
    BadBundle("the root is a link to itself", rootfs_is_a_loop, "/root/path", ("Too many levels of symbolic links",)),
    BadBundle("the root's path is too long", config(("/root/path", "r" * 256)), "/root/path", ("255 bytes",)),
]

MOUNTS = [
    BadBundle("an unknown file system", mount("/tmp", type="nofs"), MOUNT,
              ("mount nofs on /tmp", "No such device", "does not know this file system")),
    BadBundle("a bad value for an option", mount("/tmp", type="tmpfs", options=["nosuid", "size=lots"]), MOUNT,
              ("mount tmpfs on /tmp (nosuid,size=lots)", "tmpfs: Bad value for 'size'")),
    BadBundle("an unknown option", mount("/tmp", type="tmpfs", options=["noswop"]), MOUNT,
              ("tmpfs: Unknown parameter 'noswop'",)),
    BadBundle("a file over a directory", mount("/tmp", source="outside/file", options=["bind"]), MOUNT,
              ("on /tmp (bind)", "must both be directories, or neither")),
    BadBundle("a directory over a file", mount("/etc/passwd", source="outside", options=["rbind"]), MOUNT,
              ("on /etc/passwd (rbind)", "must both be directories, or neither")),
    BadBundle("a destination below a file", mount("/etc/passwd/x", type="tmpfs"), MOUNT,
              ("mount tmpfs on /etc/passwd/x", "Not a directory", "a part of the path is a file")),
    BadBundle("a destination through a loop", link("loop", "loop", mount("/loop/x", type="tmpfs")), MOUNT,
              ("mount tmpfs on /loop/x", "Too many levels of symbolic links")),
    BadBundle("proc over a link", link("proc", "etc"), "/mounts/0",
              ("mount proc on /proc", "goes through a symlink where none may be")),
    BadBundle("sysfs over a link", link("sys", "{}"), "/mounts/5", ("on /sys", "goes through a symlink")),
    BadBundle("a hard limit above ours", config(("/process/rlimits",
              [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 1 << 40}])), "/process/rlimits/0",
              ("set RLIMIT_NOFILE to 5, at most 1099511627776", "Operation not permitted", "CAP_SYS_RESOURCE")),
]  # fmt: skip
