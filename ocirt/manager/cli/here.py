"""What every command needs: this call's site, and what names mean there."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path

from ocirt.manager.errors import ManagerError
from ocirt.manager.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ocirt.manager.cli.grammar import Value
    from ocirt.manager.containers.records import Record


def site() -> Site:
    """Of whoever calls. For others than root this process is in the user's own namespaces from then on. Raises
    ManagerError."""
    uid = os.getuid()
    found = Site.of(os.environ, uid)
    if uid:
        from ocirt.manager.rootless import enter

        enter(found.run, uid, os.getgid())
    return found


def find(here: Site, text: str) -> Record:
    """The container of this name or id. Raises MissingError, ConflictError."""
    from ocirt.manager.containers.records import Records

    return Records(here.database).find(text)


def text(value: Value) -> str:
    """A flag's text; "" where it was not given."""
    return value if isinstance(value, str) else ""


def texts(value: Value) -> tuple[str, ...]:
    """All of a flag that may be repeated."""
    return value if isinstance(value, tuple) else ()


def confirmed(question: str, *, force: bool) -> bool:
    """Ask, unless --force was given; without somebody to ask that is a no."""
    if force:
        return True
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def settings_file() -> Path:
    """registries.toml: OCIM_REGISTRIES, else the user's own, else the host's."""
    named = os.environ.get("OCIM_REGISTRIES")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.environ.get("HOME", "/root"), ".config")
    own = Path(home) / "ocim" / "registries.toml"
    return own if own.exists() else Path("/etc/ocim/registries.toml")


@contextmanager
def read(path: str) -> Iterator[BinaryIO]:
    """A file; stdin for "" and "-", unless somebody would have to type it. Raises ManagerError."""
    if path in ("", "-"):
        if sys.stdin.isatty():
            raise ManagerError("stdin is a terminal", hint="name a file, or < FILE")
        yield sys.stdin.buffer
        return
    with open(path, "rb") as stream:
        yield stream


@contextmanager
def written(path: str) -> Iterator[BinaryIO]:
    """A file that is there when all of it was written; stdout for "", unless it is a terminal. Raises ManagerError."""
    if path in ("", "-"):
        if sys.stdout.isatty():
            raise ManagerError("stdout is a terminal", hint="--output FILE, or > FILE")
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    if os.path.exists(path) and not os.path.isfile(path):  # a device, a pipe
        with open(path, "wb") as out:
            yield out
        return
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "xb") as out:
            yield out
        os.rename(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise
