"""The one exception of ocirt and its kinds.

An error is one line for a person and fields for a program: what failed, where in the configuration
(a JSON pointer, RFC 6901), the kernel's errno, the call, and a hint. Which exit code a kind means is
on its class; nothing but the CLI prints or exits.
"""

from __future__ import annotations

# errno(3), as all architectures that ocirt knows have it: importing `errno` costs every command 0.1 ms.
EPERM, ENOENT, ESRCH, EACCES, EBUSY, ENODEV, EINVAL, EMFILE = 1, 2, 3, 13, 16, 19, 22, 24
ERANGE, ELOOP, EOPNOTSUPP = 34, 40, 95


class Error(Exception):
    """Something failed. `str()` gives one line; the parts stay in the fields.

    pointer   JSON pointer of the value in config.json that caused it, or None
    hint      what to do about it, or ""
    errno     the kernel's error number, or 0
    call      the system call that failed, or ""
    phase     the operation that was under way ("create", "start", …), or ""
    place     "FILE" or "FILE:LINE" or "FILE:LINE:COLUMN" of the value, or ""
    """

    code = "error"
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        pointer: str | None = None,
        hint: str = "",
        errno: int = 0,
        call: str = "",
        phase: str = "",
        place: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.pointer = pointer
        self.hint = hint
        self.errno = errno
        self.call = call
        self.phase = phase
        self.place = place

    def __str__(self) -> str:
        parts = [part for part in (self.place, self.pointer) if part]
        parts.append(self.message)
        text = ": ".join(map(bounded, parts))
        if self.hint:
            text += f" ({self.hint})"
        return printable(text)

    def fields(self) -> dict[str, str | int]:
        """The parts that are set, for the JSON log."""
        parts: dict[str, str | int] = {"code": self.code}
        for name in ("pointer", "hint", "errno", "call", "phase", "place"):
            value = getattr(self, name)
            if value:
                parts[name] = value
        return parts


class ConfigError(Error):
    """config.json, or the bundle around it, is not what the specification asks for."""

    code = "config"


class UnsupportedError(ConfigError):
    """A property that the specification knows and this version of ocirt does not implement."""

    code = "unsupported"


class UsageError(Error):
    """The command line, or the arguments of a library call, make no sense."""

    code = "usage"


class ContainerError(Error):
    """The container does not exist, exists already, or is in the wrong state."""

    code = "container"


class NotFoundError(ContainerError):
    """No container has this id."""

    code = "not-found"


class KernelError(Error):
    """The kernel refused a system call."""

    code = "kernel"


class HookError(Error):
    """A hook could not be run, failed, or took too long."""

    code = "hook"


class PlanError(Error):
    """A plan breaks a safety rule or cannot be encoded: a defect in ocirt, never run."""

    code = "plan"


LONGEST = 4200  # of one part, in characters: the longest path that the kernel takes is shown whole
_SHOWN = 1000


def bounded(part: str) -> str:
    """A value of the configuration may be as long as it likes, a line for a person not: the middle is left out."""
    if len(part) <= LONGEST:
        return part
    left_out = len(part) - 2 * _SHOWN
    return f"{part[:_SHOWN]}…({left_out} characters)…{part[-_SHOWN:]}"


def printable(text: str) -> str:
    """The text on one line, control characters and the like escaped."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    """What may come from a config.json must neither break the line nor command the terminal."""
    return character if character.isprintable() else character.encode("unicode_escape", "replace").decode("ascii")


def from_os_error(error: OSError, doing: str, *, pointer: str | None = None, hint: str = "") -> KernelError:
    """What an OSError says, with what was being done: `doing`, such as "write /run/ocirt/x"."""
    name = f" {error.filename}" if isinstance(error.filename, str) and error.filename not in doing else ""
    return KernelError(f"{doing}{name}: {error.strerror or error}", pointer=pointer, hint=hint, errno=error.errno or 0)
