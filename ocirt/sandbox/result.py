"""What a run in a sandbox has come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Usage:
    """What the sandbox has used, all its processes together.

    wall                   seconds from the program's start to its end
    cpu_user, cpu_system   seconds; None where no hierarchy counts them
    memory_peak            bytes, page cache and tmpfs included; None without the memory controller
    io_read, io_written    bytes that came from, and went to, block devices; on v1 as blkio.throttle counts them;
                           None without the controller io, or blkio
    pids_peak              processes and threads at once; None where the kernel does not count it (before Linux 6.1)
    """

    wall: float
    cpu_user: float | None = None
    cpu_system: float | None = None
    memory_peak: int | None = None
    pids_peak: int | None = None
    io_read: int | None = None
    io_written: int | None = None


@dataclass(frozen=True)
class Result:
    """How a program in a sandbox has ended.

    returncode        its exit code, or minus the signal that ended it, as subprocess has it
    stdout, stderr    the first max_output bytes of each
    timed_out         it was killed because its time was up
    oom_killed        the kernel killed one of its processes for want of memory (memory.events, memory.oom_control)
    usage             what it has used
    denied_syscalls   the name of each system call that was refused → how often
    truncated         it wrote more than max_output bytes to one of the two; the rest is gone
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool
    oom_killed: bool
    usage: Usage
    denied_syscalls: dict[str, int]
    truncated: bool = False

    @classmethod
    def from_reply(cls, reply: dict[str, Any]) -> Result:
        """As the keeper tells it."""
        return cls(**{**reply, "usage": Usage(**reply["usage"])})
