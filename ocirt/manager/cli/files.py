"""What a container has in its files: diff, cp, commit, export."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ocirt.manager.cli.here import find, read, site, text, texts, written
from ocirt.manager.cli.output import line
from ocirt.manager.errors import GrammarError

if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value


def diff(values: dict[str, Value], arguments: list[str]) -> None:
    here = site()
    record = find(here, arguments[0])
    for change in here.snapshots.changes(record.id):
        sys.stdout.buffer.write(f"{change.kind} ".encode() + _absolute(change.path) + b"\n")
    sys.stdout.buffer.flush()


def _absolute(path: bytes) -> bytes:
    return path if path.startswith(b"/") else b"/" + path


def export(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.images import committing

    here = site()
    record = find(here, arguments[0])
    with written(text(values["output"])) as out:
        committing.export(here, record, out)


def commit(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.images import committing

    here = site()
    record = find(here, arguments[0])
    digest = committing.commit(
        here,
        record,
        arguments[1] if len(arguments) > 1 else "",
        author=text(values["author"]),
        message=text(values["message"]),
        changes=texts(values["change"]),
        pause=bool(values["pause"]),
    )
    line(digest)


def _place(said: str) -> tuple[str, str]:
    """(container, path); the container is "" for a path here. As docker: a path here with a colon begins with / or ."""
    name, colon, path = said.partition(":")
    if not colon or said.startswith(("/", ".")) or not name:
        return "", said
    return name, path or "/"


def copy(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.cli import transfer
    from ocirt.manager.containers import copying

    (source, source_path), (target, target_path) = (_place(one) for one in arguments)
    if bool(source) == bool(target):
        raise GrammarError("cp is between a container and here", hint="CONTAINER:PATH on one side")
    here = site()
    follow, archive = bool(values["follow_link"]), bool(values["archive"])
    if source:
        record = find(here, source)
        if target_path == "-":
            with written("") as out:
                copying.copy_out(here, record.id, source_path, out, follow=follow)
            return
        transfer.to_host(here, record.id, source_path, target_path, follow=follow, archive=archive)
    else:
        record = find(here, target)
        if source_path == "-":
            with read("") as stream:
                copying.copy_in(here, record.id, target_path, stream)
            return
        transfer.from_host(here, record.id, source_path, target_path, follow=follow, archive=archive)
    if not values["quiet"] and sys.stderr.isatty():
        sys.stderr.write(f"{os.fspath(source_path)} was copied to {arguments[1]}\n")
