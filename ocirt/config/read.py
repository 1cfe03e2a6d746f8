"""Read config.json, and other JSON that users write: its text, its value, the place of an error in it.

The good path uses the C scanner of `_json` alone; after a failure everything is done again, slowly, for the message.
"""

from __future__ import annotations

import posix

from ocirt.errors import ConfigError, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SIZE = 16 << 20
"""A config.json of more bytes is refused (Docker's largest are some 100 KB)."""


class Config:
    """A bundle's configuration.

    spec     the parsed config.json: plain dicts, lists and scalars of the specification's types
    text     what was read, to keep a copy and to find line numbers
    bundle   absolute path of the bundle
    path     of the file: its config.json, unless another was named
    added    does spec say more than text, because the host had to add something?
    """

    __slots__ = ("added", "bundle", "path", "spec", "text", "warnings")

    def __init__(self, spec: dict[str, Any], text: str, bundle: str, path: str = "") -> None:
        self.spec = spec
        self.text = text
        self.bundle = bundle
        self.path = path or f"{bundle}/config.json"
        self.added = False
        self.warnings: list[str] = []


class DuplicateKey(Exception):
    """An object has the same key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKey(key)
            seen.add(key)
    return result


class _Scanner:
    """What `_json`'s scanner wants to know (the attributes of json.JSONDecoder)."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_unique)
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")


def parse(text: str) -> Any:
    """JSON text → value; raises ConfigError with line and column, also for a key that stands twice."""
    from _json import make_scanner

    try:
        value, end = make_scanner(_Scanner())(  # type: ignore[arg-type]
            text, _skip_space(text, 0)
        )
        if _skip_space(text, end) == len(text):
            return value
    except (ValueError, StopIteration, SystemError, DuplicateKey, RecursionError):
        pass
    from ocirt.config.locate import syntax_error

    raise syntax_error(text)


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\t", "\r"):
        at += 1
    return at


def read_json(path: str, *, folder: int = -1) -> str:
    """The text of a JSON file. Raises ConfigError if there is none, or it is too large, or not UTF-8.

    folder: a descriptor of the folder that it is in, if that must not be another one than the path said then.
    """
    flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
    try:
        if folder < 0:
            fd = posix.open(path, flags)
        else:
            fd = posix.open(path.rpartition("/")[2], flags | posix.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        hint = "is this the bundle's folder? `ocirt spec` writes a config.json" if error.errno == 2 else ""
        raise ConfigError(f"cannot open it: {error.strerror}", place=path, hint=hint, errno=error.errno or 0) from None
    try:
        status = posix.fstat(fd)
        if status.st_mode & 0o170000 != 0o100000:
            raise ConfigError("expected a regular file", place=path)
        if status.st_size > MAX_SIZE:
            raise ConfigError(f"{status.st_size} bytes are more than {MAX_SIZE}", place=path)
        content = b""
        while chunk := posix.read(fd, 65536):
            content += chunk
    finally:
        posix.close(fd)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = len(content[content.rfind(b"\n", 0, error.start) + 1 : error.start].decode()) + 1
        raise ConfigError("not UTF-8", place=f"{path}:{line}:{column}") from None


def absolute(path: str) -> str:
    """The absolute path of an existing folder, symlinks resolved."""
    fd = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def placed(error: Error, path: str, text: str) -> Error:
    """The error, with file, line and column for its pointer."""
    if not error.place:
        from ocirt.config.locate import Places

        line, column = Places(text).of(error.pointer) if error.pointer is not None else (0, 0)
        error.place = f"{path}:{line}:{column}" if line else path
    elif not error.place.startswith("/"):
        error.place = f"{path}:{error.place}"
    return error
