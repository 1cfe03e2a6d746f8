"""The hosted build of init's decoder, as a judge of plans."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from struct import pack

from ocirt.plan.syscalls import MACHINES
from ocirt.plan.wire import MSG_GO, PATCH, REPLY

FOLDER = Path(__file__).parent
REFUSED, NOT_RELOCATABLE, VALID, REPLY_APPLIED = "0123"
X86_64 = MACHINES["x86_64"][0]
NO_PATCHES = REPLY.pack(MSG_GO, 0)
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]


class SanitizerError(Exception):
    """The decoder did what it must never do; the message is the sanitizer's."""


class Hosted:
    """Compiled once; each `judge` is one run over many plans."""

    def __init__(self, folder: Path, compiler: str = "gcc") -> None:
        self.program = folder / f"hosted-{compiler}"
        flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", *SANITIZE]
        subprocess.run([compiler, *flags, "-o", self.program, FOLDER / "hosted.c"], check=True)

    def judge(self, records: Iterable[tuple[bytes, bytes]], machine: int = X86_64) -> str:
        """A verdict for each (plan, reply)."""
        content = b"".join(
            pack("<II", machine, len(plan)) + plan + pack("<I", len(reply)) + reply for plan, reply in records
        )
        # Without a leak check, which needs ptrace: containers of CI may not have it.
        done = subprocess.run(
            [self.program], input=content, capture_output=True, env={"ASAN_OPTIONS": "detect_leaks=0"}, check=False
        )
        if done.returncode:
            raise SanitizerError(done.stderr.decode("utf-8", "replace"))
        return done.stdout.decode()

    def is_valid(self, plan: bytes, machine: int = X86_64) -> bool:
        return self.judge([(plan, NO_PATCHES)], machine) == REPLY_APPLIED


def reply(*patches: tuple[int, bytes]) -> bytes:
    """A well-formed answer that writes each content at its place."""
    content = REPLY.pack(MSG_GO, len(patches))
    for at, new in patches:
        content += PATCH.pack(at, len(new)) + new + bytes(-len(new) % 4)
    return content
