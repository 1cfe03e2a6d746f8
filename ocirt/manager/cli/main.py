"""From the command line of `ocim` to an exit code. What a command needs is imported when it is called."""

from __future__ import annotations

import _signal
import posix
import sys

from ocirt.errors import Error, printable
from ocirt.manager.cli.grammar import Help, UsageError, parse, read
from ocirt.manager.cli.postponed import postpone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ocirt.manager.cli.grammar import Command, Value

FLAGS_ARE_WRONG = 125
"""Exit code of docker's: the command itself failed, not what it was to run."""
_SIGHUP, _SIGINT, _SIGPIPE, _SIGTERM = 1, 2, 13, 15  # signal(7); the module would be one more to import
EXTRA = ("backports", "h11", "isal", "rich", "urllib3")
"""The packages of the extra `manager`."""


class Interrupted(BaseException):
    """A signal asks us to end: what is half made is undone on the way out."""

    def __init__(self, number: int) -> None:
        self.number = number


def _interrupt(number: int, frame: object) -> NoReturn:
    raise Interrupted(number)


def main(args: list[str]) -> NoReturn:
    """`args`: without the name of the command."""
    postpone()
    for number in (_SIGHUP, _SIGINT, _SIGTERM):
        if _signal.signal(number, _interrupt) is _signal.SIG_IGN:
            _signal.signal(number, _signal.SIG_IGN)
    try:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_SIGINT,))  # the launcher blocked it
        code = run(args)
    except Interrupted as interrupted:
        code = 128 + interrupted.number
    except BrokenPipeError:
        code = 128 + _SIGPIPE  # who reads us has seen enough
    code = flush(code)
    # Nothing that the interpreter does at its end is needed: what lasts is in files, closed or renamed by now.
    posix._exit(code)


def flush(code: int) -> int:
    """Write out what was printed."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return code or 128 + _SIGPIPE
    except OSError as error:
        complain(f"stdout: {error.strerror}")
        return code or 1
    return code


def complain(message: str) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.write(f"ocim: {message}\n")
        sys.stderr.flush()
    except OSError:
        pass


def run(args: list[str]) -> int:
    """Carry out a command line; report what fails in one line. Returns the exit code."""
    failed = 1
    try:
        options, words = common(args)
        for name in ("root", "run"):
            if options[name]:
                posix.putenv(f"OCIM_{name.upper()}", str(options[name]))
                import os

                os.environ[f"OCIM_{name.upper()}"] = str(options[name])
        if options["version"]:
            words = ["version"]
        if not words:
            from ocirt.manager.cli.help import overview

            sys.stdout.write(overview())
            return 0
        command, rest = find(words)
        if command.name in ("run", "create", "exec"):
            failed = FLAGS_ARE_WRONG if command.name != "exec" else 1
        values, arguments = parse(command, rest)
        return act(command, values, arguments)
    except Help:
        from ocirt.manager.cli.help import of_words

        sys.stdout.write(of_words(args))
        return 0
    except UsageError as error:
        hint = f"see ocim {error.command} --help" if error.command else "see ocim --help"
        complain(printable(f"{error.command}: {error} ({hint})" if error.command else f"{error} ({hint})"))
        return FLAGS_ARE_WRONG
    except Error as error:
        complain(str(error))
        return error.exit_code if error.exit_code != 1 else failed
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        complain(f"the package {package} is not installed (pip install 'ocirt[manager]')")
        return failed
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        complain(printable(f"{place}{error.strerror or error}"))
        return failed
    except Exception as error:
        if b"OCIM_DEBUG" in posix.environ:
            raise
        complain(printable(f"{type(error).__name__}: {error} (a fault of ocim: OCIM_DEBUG=1 shows where)"))
        return failed


def common(args: list[str]) -> tuple[dict[str, Value], list[str]]:
    """The flags before the command, and what follows them."""
    from ocirt.manager.cli.table import COMMON

    values: dict[str, Value] = {flag.key: flag.start for flag in COMMON}
    words = read("", COMMON, args, values, open_ended=True)
    return values, words


def find(words: list[str]) -> tuple[Command, list[str]]:
    """The command that the first words name, and the words after its name. Raises UsageError, Help."""
    from ocirt.manager.cli.table import GROUPS, named

    command = named(words[0])
    if command is not None:
        return command, words[1:]
    if words[0] not in GROUPS:
        raise UsageError("", f"{words[0]!r} is not a command")
    if len(words) == 1 or words[1] in ("--help", "-h"):
        raise Help
    command = named(f"{words[0]} {words[1]}")
    if command is None:
        raise UsageError(words[0], f"{words[1]!r} is not a command")
    return command, words[2:]


def act(command: Command, values: dict[str, Value], arguments: list[str]) -> int:
    """Call the command's action: a function of (values, arguments) that returns the exit code or None for 0."""
    module, _, function = command.action.partition(":")
    name = f"ocirt.manager.cli.{module}"
    __import__(name)
    code = getattr(sys.modules[name], function)(values, arguments)
    return 0 if code is None else int(code)
