"""From the command line to an exit code. The only place, with `output`, where ocirt prints or exits."""

from __future__ import annotations

import _signal
import posix
import sys

from ocirt.cli.argv import parse
from ocirt.cli.output import Out
from ocirt.errors import Error, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


_WALL = 0x40000000  # waitpid(2): also a child that sends no SIGCHLD


class Interrupted(BaseException):
    """A signal asks us to end: what is half made is undone on the way out."""

    def __init__(self, number: int) -> None:
        self.number = number


def _interrupt(number: int, frame: object) -> NoReturn:
    raise Interrupted(number)


def main(name: str, args: list[str]) -> int:
    """`name`: what we were called as (argv[0]); `args`: the rest. Returns the exit code."""
    parsed = parse(args)
    if parsed is None:
        if args in (["--version"], ["-v"]):
            from ocirt.cli.version import print_version

            return print_version(name)
        if args[:1] == ["--module"]:
            from ocirt.host.itself import carry_out as carry_out_module

            return carry_out_module(args[1:])
        from ocirt.cli.commands import run_click

        return run_click(name, args)
    verb, options, positional = parsed
    from ocirt.cli import actions

    return carry_out(actions.of(verb.name), options, positional)


def root_of(said: object) -> str:
    """The state root: what --root says, or the caller's own."""
    if said:
        return str(said)
    from ocirt.state.place import own_folder

    return own_folder("ocirt")


def carry_out(action: object, options: dict[str, str | bool | list[str] | None], positional: list[str]) -> int:
    """Run a verb's action; turn what it raises into a message and an exit code."""
    root = root_of(options["root"])
    if not root.startswith("/"):
        try:
            root = f"{posix.getcwd()}/{root}"
        except FileNotFoundError:  # removed meanwhile: so nothing is below it
            root = f"/proc/self/cwd/{root}"
    log = options["log"]
    debug = bool(options["debug"]) or options["log_level"] in ("warning", "debug")
    out = Out(root.rstrip("/") or "/", str(log) if log else None, str(options["log_format"]), debug=debug)
    try:
        return action(out, options, positional)  # type: ignore[operator,no-any-return]
    except Error as error:
        out.fail(error)
        return error.exit_code
    except Interrupted as interrupted:
        return 128 + interrupted.number
    except Exception as error:
        if out.debug:
            import traceback

            traceback.print_exc()
        verb = getattr(action, "__name__", "ocirt").rstrip("_")
        if isinstance(error, OSError):  # the host refused what nobody foresaw, such as one more open file
            out.fail(from_os_error(error, verb, hint="--debug shows where"))
        else:
            out.fail(Error(f"{type(error).__name__}: {error}", hint="a defect in ocirt: --debug shows where"))
        if verb != "exec":
            return 1
        from ocirt.cli.actions import EXEC_FAILED

        return EXEC_FAILED


_helper = 0
"""The process that has the kernel's grace period begin early (starting.h); 0: none."""


def end_helper() -> None:
    """Its work is done. It is waited for later: by then it has ended."""
    if _helper:
        posix.kill(_helper, 9)


def entry() -> NoReturn:
    """What the installed executable calls: sys.argv is ("-c", hot/VERB.bin, helper, argv[0], arguments …)."""
    global _helper
    _helper = int(sys.argv[2])
    try:
        for number in (1, 2, 15):
            _signal.signal(number, _interrupt)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (2,))  # the launcher has blocked it
        code = main(sys.argv[3], sys.argv[4:])
    except Interrupted as interrupted:  # before anything began, or when all was done
        code = 128 + interrupted.number
    for number in (1, 2, 15):
        _signal.signal(number, _signal.SIG_IGN)
    if _helper:
        try:
            end_helper()
            posix.waitpid(_helper, _WALL)
        except OSError:  # who waits for every child of his has waited for this one
            pass
    # All is written and closed: the interpreter's own tear-down would only cost time.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    posix._exit(code)
