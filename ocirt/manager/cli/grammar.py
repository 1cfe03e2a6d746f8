"""What a command line is made of, and how it is read: as docker does (pflag), from the table in `table`.

Imports nothing: `ocim run` and `exec` should be as fast as what they start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value = str | bool | tuple[str, ...] | None
"""What a flag gives: its text, for a switch a truth, for what may be repeated all texts; None: not given."""


class Flag:
    """--name, and its short letters. `metavar`: what its value is called; None for a switch. many: may it be given more
    than once? Then its value is a tuple. values: the only ones. completes: "container", "image", "volume", "file",
    "folder" or "": what the shell offers."""

    __slots__ = ("completes", "default", "help", "letters", "many", "metavar", "name", "values")

    def __init__(
        self,
        name: str,
        help: str,
        metavar: str | None = None,
        *,
        letters: str = "",
        default: str | bool | None = None,
        values: tuple[str, ...] = (),
        many: bool = False,
        completes: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.metavar = metavar
        self.letters = letters
        self.default = default
        self.values = values
        self.many = many
        self.completes = completes

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def start(self) -> Value:
        """Its value when it is not given."""
        return () if self.many else self.default if self.metavar else bool(self.default)


class Command:
    """One command.

    paths       its names, the usual one first: ("ps", "container ls", …)
    arguments   the positional ones: "[X]" is optional, "X..." one or more, "[X...]" any number
    action      "MODULE:FUNCTION" in this folder
    text        more than the one line of `help`, in paragraphs, for --help and the manual
    examples    (command line, what it does)
    open_ended  do flags end at the first argument, for what follows is another program's?
    completes   as Flag's, for the arguments
    hidden      is it for ocim itself?
    """

    __slots__ = (
        "action", "arguments", "completes", "examples", "flags", "help", "hidden", "open_ended", "paths", "text",
    )  # fmt: skip

    def __init__(
        self,
        paths: str,
        arguments: str,
        action: str,
        help: str,
        *flags: Flag,
        text: str = "",
        examples: tuple[tuple[str, str], ...] = (),
        open_ended: bool = False,
        completes: str = "",
        hidden: bool = False,
    ) -> None:
        self.paths = tuple(one.strip() for one in paths.split(","))
        self.arguments = tuple(arguments.split())
        self.action = action
        self.help = help
        self.flags = flags
        self.text = text
        self.examples = examples
        self.open_ended = open_ended
        self.completes = completes
        self.hidden = hidden

    @property
    def name(self) -> str:
        return self.paths[0]

    @property
    def least(self) -> int:
        """How many arguments there must be."""
        return sum(not one.startswith("[") for one in self.arguments)

    @property
    def most(self) -> int | None:
        """How many there may be; None: any number."""
        return None if any("..." in one for one in self.arguments) else len(self.arguments)


class UsageError(Exception):
    """The command line makes no sense. `command`: its name, or ""."""

    def __init__(self, command: str, message: str) -> None:
        super().__init__(message)
        self.command = command


class Help(Exception):
    """--help was among the flags."""


def parse(command: Command, words: Sequence[str]) -> tuple[dict[str, Value], list[str]]:
    """The values of a command's flags by key (those that were not given too), and the arguments.

    Raises UsageError, Help.
    """
    values: dict[str, Value] = {flag.key: flag.start for flag in command.flags}
    arguments = read(command.name, command.flags, words, values, open_ended=command.open_ended)
    count, most = len(arguments), command.most
    if count < command.least or (most is not None and count > most):
        if most is None:
            wanted = f"at least {number(command.least)}"
        elif most == command.least:
            wanted = f"exactly {number(most)}" if most else "no arguments"
        elif count < command.least:
            wanted = f"at least {number(command.least)}"
        else:
            wanted = f"at most {number(most)}"
        raise UsageError(command.name, f"needs {wanted}: {usage(command)}")
    return values, arguments


def number(count: int) -> str:
    return f"{count} argument" if count == 1 else f"{count} arguments"


def usage(command: Command, path: str = "") -> str:
    """One line: how it is called."""
    words = ["ocim", path or command.name, *(["[OPTIONS]"] if command.flags else []), *command.arguments]
    return " ".join(words)


def read(
    name: str, flags: Sequence[Flag], words: Sequence[str], values: dict[str, Value], *, open_ended: bool
) -> list[str]:
    """Put the flags' values into `values`; return the other words."""
    long: Mapping[str, Flag] = {flag.name: flag for flag in flags}
    short: Mapping[str, Flag] = {letter: flag for flag in flags for letter in flag.letters}
    rest = list(words)
    arguments: list[str] = []
    while rest:
        word = rest.pop(0)
        if word == "--":
            return arguments + rest
        if word.startswith("--"):
            text, equals, value = word[2:].partition("=")
            flag = long.get(text)
            if flag is None:
                if text == "help":
                    raise Help
                raise UsageError(name, f"unknown flag: --{text}")
            _set(name, flag, f"--{text}", value if equals else None, rest, values)
        elif word.startswith("-") and len(word) > 1:
            _letters(name, short, word[1:], rest, values)
        elif open_ended:
            return [word, *rest]
        else:
            arguments.append(word)
    return arguments


def _letters(name: str, short: Mapping[str, Flag], word: str, rest: list[str], values: dict[str, Value]) -> None:
    """-it, -eNAME, -e=NAME, -e NAME."""
    while word:
        letter, word = word[0], word[1:]
        flag = short.get(letter)
        if flag is None:
            if letter == "h":
                raise Help
            raise UsageError(name, f"unknown shorthand flag: -{letter}")
        if word.startswith("="):
            _set(name, flag, f"-{letter}", word[1:], rest, values)
            return
        if flag.metavar is not None:
            _set(name, flag, f"-{letter}", word or None, rest, values)
            return
        values[flag.key] = True


_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def _set(name: str, flag: Flag, written: str, value: str | None, rest: list[str], values: dict[str, Value]) -> None:
    if flag.metavar is None:
        if value is not None and value not in _TRUE + _FALSE:
            raise UsageError(name, f"{written}: {value!r} is neither true nor false")
        values[flag.key] = value is None or value in _TRUE
        return
    if value is None:
        if not rest:
            raise UsageError(name, f"flag needs an argument: {written}")
        value = rest.pop(0)
    if flag.values and value not in flag.values:
        raise UsageError(name, f"{written}: {value!r} is none of {', '.join(flag.values)}")
    if flag.many:
        old = values[flag.key]
        assert isinstance(old, tuple)
        values[flag.key] = (*old, value)
    else:
        values[flag.key] = value
