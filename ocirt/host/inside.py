"""The host's part of a container's mounts, done in its user namespace: for a caller who is an ordinary user.

Such a caller has no rights over files of other ids, which the container's root has. A Python of its own joins the
namespace (setns(2) takes no process with threads, and there is no way back), becomes root there, and does what
host.mounting does for a privileged caller. It sees no more than the descriptors that init has sent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ocirt._sys import setns
from ocirt.config.names import NAMESPACES
from ocirt.errors import Error, KernelError, from_os_error
from ocirt.host.itself import command


def help_inside(pid: int, descriptors: list[int], work: dict[str, Any]) -> None:
    """work: mount, pointer, and directory if a destination is to be made. Raises KernelError."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = [str(fd) for fd in (namespace, *descriptors)]
            done = subprocess.run(
                command("ocirt.host.inside", json.dumps(work), *words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env={},
                pass_fds=(namespace, *descriptors),
                check=False,
            )
        finally:
            os.close(namespace)
        answer = json.loads(done.stdout or b'{"message": "the helper ended early"}')
    except (OSError, ValueError) as error:
        if not isinstance(error, OSError):
            raise KernelError(f"enter the user namespace: {error}", pointer=work["pointer"]) from None
        raise from_os_error(error, "enter the user namespace", pointer=work["pointer"]) from None
    if answer:
        raise KernelError(**answer)


def main(words: list[str]) -> None:
    """Of the other process. Writes {} or the error's fields."""
    work = json.loads(words[0])
    namespace, *descriptors = map(int, words[1:])
    answer: dict[str, Any] = {}
    try:
        setns(namespace, NAMESPACES["user"])
        try:
            os.setgroups(())
        except PermissionError:
            pass  # denied for good (user_namespaces(7)): they are the caller's own
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if "directory" in work:
            from ocirt.host.dangling import make

            make(descriptors[0], work["mount"]["destination"], work["pointer"], 0, directory=work["directory"])
        else:
            from ocirt.host.copyup import fill

            fill(work["mount"], work["pointer"], 0, *descriptors)
    except Error as error:
        answer = {key: value for key, value in error.fields().items() if key in ("pointer", "hint", "errno", "call")}
        answer["message"] = error.message
    except OSError as error:
        answer = {"message": f"become root in the user namespace: {error.strerror}", "errno": error.errno}
    sys.stdout.write(json.dumps(answer))
