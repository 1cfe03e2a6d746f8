"""run, create, start, attach and exec: what should be fast. Imports what the good path needs and no more."""

from __future__ import annotations

import posix
import sys
from contextlib import contextmanager

from ocirt.manager.cli import terminal
from ocirt.manager.cli.here import find, site, text
from ocirt.manager.cli.main import complain
from ocirt.manager.containers import lifecycle
from ocirt.manager.errors import ConflictError, ManagerError, MissingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

    from ocirt.manager.cli.foreground import Foreground
    from ocirt.manager.cli.grammar import Value
    from ocirt.manager.containers.connection import Attachment
    from ocirt.manager.containers.options import Options
    from ocirt.manager.containers.records import Record
    from ocirt.manager.site import Site


def run(values: dict[str, Value], arguments: list[str]) -> int:
    """Returns the program's exit code, or 125, 126, 127."""
    from ocirt.manager.containers.flags import options as options_of

    keys = terminal.keys(text(values["detach_keys"]))
    options = options_of(values)
    detached, tty = bool(values["detach"]), bool(values["tty"])
    stdin = bool(options.config["AttachStdin"])
    if not detached:
        from ocirt.manager.cli.foreground import refuse_no_terminal

        refuse_no_terminal(stdin=stdin, tty=tty)
    here = site()
    record = _created(here, values, options, arguments)
    if detached:
        code = _started(here, record, values)
        if not code:
            sys.stdout.write(f"{record.id}\n")
        return code
    return _in_foreground(here, record, values, options, keys)


def create(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.containers.flags import options as options_of

    here = site()
    record = _created(here, values, options_of(values), arguments)
    sys.stdout.write(f"{record.id}\n")


def _created(here: Site, values: dict[str, Value], options: Options, arguments: list[str]) -> Record:
    """The container; its image is pulled if that is wished and needed. Raises ManagerError."""
    from ocirt.manager.containers import create as creation

    image, command = arguments[0], arguments[1:]
    when = values["pull"]
    if when == "always":
        _pull(here, image, values)
    with _id_file(text(values["cidfile"])) as wrote:
        try:
            record = creation.create(here, image, options, command)
        except MissingError:
            if when != "missing" or _is_here(here, image):
                raise
            if not values["quiet"]:
                complain(f"there is no image {image} here: it is pulled")
            _pull(here, image, values)
            record = creation.create(here, image, options, command)
        wrote(record.id)
    return record


@contextmanager
def _id_file(path: str) -> Iterator[Callable[[str], object]]:
    """For --cidfile: claimed first, so that it is nobody else's, and gone if nothing was made. Raises ConflictError."""
    if not path:
        yield lambda words: None
        return
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise ConflictError(f"{path} is there already", hint="remove it, or name another --cidfile") from None
    try:
        yield lambda words: posix.write(fd, words.encode())
    except BaseException:
        posix.unlink(path)
        raise
    finally:
        posix.close(fd)


def _is_here(here: Site, image: str) -> bool:
    try:
        here.images.find(image)
    except MissingError:
        return False
    return True


def _pull(here: Site, image: str, values: dict[str, Value]) -> None:
    from ocirt.manager import names
    from ocirt.manager.cli.images import client, pull_one

    quiet = bool(values["quiet"])
    pull_one(here, client(), names.parse(image), text(values["platform"]), quiet=quiet, out=sys.stderr)


def _started(here: Site, record: Record, values: dict[str, Value]) -> int:
    from ocirt.manager.containers.bundle import prepare

    try:
        lifecycle.start(here, record, prepare=prepare)
    except ManagerError as error:
        return _cannot_start(here, record, error, removes=bool(values["rm"]))
    return 0


def _cannot_start(here: Site, record: Record, error: ManagerError, *, removes: bool) -> int:
    complain(_shortened(str(error)))
    if removes:
        _remove(here, record)
    code = error.container_code if isinstance(error, lifecycle.StartError) else 125
    return code if code in (126, 127) else 125


def _shortened(words: str) -> str:
    """Without the place in config.json, which is not the caller's file: "/process/args/0: exec …"."""
    place, found, rest = words.partition("/config.json:")
    return rest.partition(": ")[2] if found and place.startswith("ocirt: /") else words


def _remove(here: Site, record: Record) -> None:
    from ocirt.manager.containers.create import remove

    remove(here, record, force=True, volumes=True)


def _in_foreground(here: Site, record: Record, values: dict[str, Value], options: Options, keys: bytes) -> int:
    from ocirt.manager.cli.foreground import Foreground, finish
    from ocirt.manager.containers.bundle import prepare

    config, removes = options.config, bool(values["rm"])
    streams = {"stdin": bool(config["AttachStdin"]), "stdout": bool(config["AttachStdout"])}
    streams["stderr"] = bool(config["AttachStderr"])
    foreground = Foreground(
        here, record, stdin=streams["stdin"], tty=bool(values["tty"]), keys=keys, proxy=bool(values["sig_proxy"])
    )
    foreground.begin()
    try:
        attachment = lifecycle.start(here, record, attach=True, removes=removes, prepare=prepare, **streams)
    except ManagerError as error:
        return _cannot_start(here, record, error, removes=removes)
    if attachment is None:
        raise ConflictError(f"container {record.id[:12]} was started by somebody else")

    return finish(lambda: _until_end(here, record, foreground, attachment, removes=removes))


def _until_end(here: Site, record: Record, foreground: Foreground, attachment: Attachment, *, removes: bool) -> int:
    """Its exit code. removes: as was promised to its monitor, which does it itself when we are gone before."""
    code = foreground.run(attachment)
    if removes:
        _remove(here, record)
    attachment.close()
    return code


def start(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.containers.bundle import prepare

    here = site()
    if values["attach"] or values["interactive"]:
        if len(arguments) > 1:
            raise ConflictError("only one container can be attached to", hint="start the others without --attach")
        return _start_attached(here, find(here, arguments[0]), values)
    from ocirt.manager.cli.output import each

    return each(arguments, lambda name: lifecycle.start(here, find(here, name), prepare=prepare))


def _start_attached(here: Site, record: Record, values: dict[str, Value]) -> int:
    from ocirt.manager.cli.foreground import finish
    from ocirt.manager.containers.bundle import prepare

    stdin = bool(values["interactive"])
    foreground = _foreground(here, record, values, stdin=stdin)
    removes = bool(record.document["monitor"]["auto_remove"])
    try:
        attachment = lifecycle.start(here, record, attach=True, stdin=stdin, removes=removes, prepare=prepare)
    except lifecycle.StartError as error:
        return _cannot_start(here, record, error, removes=False)
    if attachment is None:
        attachment = lifecycle.attach(here, record, stdin=stdin)
        removes = False

    return finish(lambda: _until_end(here, record, foreground, attachment, removes=removes))


def _foreground(here: Site, record: Record, values: dict[str, Value], *, stdin: bool) -> Foreground:
    """Of a container that is there already: what it was made with decides."""
    from ocirt.manager.cli.foreground import Foreground, refuse_no_terminal

    monitor = record.document["monitor"]
    tty = bool(monitor["tty"])
    stdin = stdin and bool(monitor["open_stdin"])
    refuse_no_terminal(stdin=stdin, tty=tty)
    keys = terminal.keys(text(values["detach_keys"]))
    foreground = Foreground(here, record, stdin=stdin, tty=tty, keys=keys, proxy=bool(values["sig_proxy"]))
    foreground.begin()
    return foreground


def attach(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.cli.foreground import finish
    from ocirt.manager.containers import state as states

    here = site()
    record = find(here, arguments[0])
    if states.read(here, record).status == "paused":
        raise ConflictError(f"container {record.name} is paused", hint="ocim unpause it first")
    stdin = not values["no_stdin"]
    foreground = _foreground(here, record, values, stdin=stdin)
    attachment = lifecycle.attach(here, record, stdin=stdin and bool(record.document["monitor"]["open_stdin"]))
    return finish(lambda: foreground.run(attachment))


def execute(values: dict[str, Value], arguments: list[str]) -> int:
    """Becomes the runtime's exec, which knows all that is left to do: nothing of us stays."""
    from ocirt.manager.containers import state as states

    here = site()
    record = find(here, arguments[0])
    state = states.read(here, record)
    if state.status == "paused":
        raise ConflictError(f"container {record.name} is paused", hint="ocim unpause it first")
    if state.status != "running":
        raise ConflictError(f"container {record.name} is not running", hint=f"ocim start {record.name}")
    tty, stdin, detached = bool(values["tty"]), bool(values["interactive"]), bool(values["detach"])
    if not detached:
        from ocirt.manager.cli.foreground import refuse_no_terminal

        refuse_no_terminal(stdin=stdin, tty=tty)
    from ocirt.manager.cli.executing import command

    words = command(here, record, values, arguments[1:], state.pid)
    _become(words, stdin=stdin and not detached, output=not detached)


def _become(command: list[str], *, stdin: bool, output: bool) -> NoReturn:
    sys.stdout.flush()
    if not stdin or not output:
        null = posix.open("/dev/null", posix.O_RDWR)
        for number in (0, 1, 2) if not output else (0,):
            posix.dup2(null, number)
    posix.execve(command[0], command, posix.environ)
