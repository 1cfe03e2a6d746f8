"""Help for a person, and the manual page, from the table."""

from __future__ import annotations

import textwrap

from ocirt.manager.cli.grammar import Command, Flag, UsageError, usage
from ocirt.manager.cli.table import COMMON, GROUPS, all_commands, named

ABOUT = "ocim keeps images and runs containers of them, on ocirt. Its commands and flags are docker's."
_COLUMN = 34
_PARTS = (
    ("Run", "run exec ps logs attach start stop restart kill rm create"),
    ("Look at containers", "inspect top stats diff port wait"),
    ("Change containers", "cp rename pause unpause commit export"),
    ("Images", "images pull push build tag rmi history save load import"),
    ("Registries", "login logout registry"),
    ("Everything else", "volume container image system info version completion help"),
)


def overview() -> str:
    """What `ocim` without a command prints."""
    lines = ["Usage: ocim [OPTIONS] COMMAND", "", ABOUT, ""]
    known = {path: command.help for command in all_commands() for path in command.paths} | GROUPS
    for title, names in _PARTS:
        lines.append(f"{title}:")
        lines += [f"  {name:<12}{known[name]}" for name in names.split() if name in known]
        lines.append("")
    lines += ["Options:", *_flags(COMMON), "", "ocim COMMAND --help says more."]
    return "\n".join(lines) + "\n"


def of_words(words: list[str]) -> str:
    """Help for the command that a command line names. Raises UsageError."""
    names = [word for word in words if not word.startswith("-")]
    for count in (2, 1):
        command = named(" ".join(names[:count]))
        if len(names) >= count and command is not None:
            return of_command(command, " ".join(names[:count]))
    if names[:1] and names[0] in GROUPS:
        return of_group(names[0])
    if names:
        raise UsageError("", f"{names[0]!r} is not a command")
    return overview()


def of_group(group: str) -> str:
    lines = [f"Usage: ocim {group} COMMAND", "", f"{GROUPS[group]}.", "", "Commands:"]
    for command in all_commands():
        names = [path.partition(" ")[2] for path in command.paths if path.startswith(f"{group} ")]
        if names:
            lines.append(f"  {names[0]:<12}{command.help}")
    return "\n".join([*lines, "", f"ocim {group} COMMAND --help says more."]) + "\n"


def of_command(command: Command, path: str = "") -> str:
    """The whole of it: usage, flags, text, examples."""
    lines = [f"Usage: {usage(command, path)}", "", *_wrapped(f"{command.help}."), ""]
    for paragraph in command.text.split("\n\n") if command.text else ():
        lines += [*_wrapped(" ".join(paragraph.split())), ""]
    if len(command.paths) > 1:
        lines += ["Names:", f"  {', '.join(f'ocim {one}' for one in command.paths)}", ""]
    if command.flags:
        lines += ["Options:", *_flags(command.flags), ""]
    if command.examples:
        lines.append("Examples:")
        for line, what in command.examples:
            lines += [f"  # {what}", f"  $ {line}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent)


def _flags(flags: tuple[Flag, ...]) -> list[str]:
    lines: list[str] = []
    for flag in sorted(flags, key=lambda one: one.name):
        left = "".join(f"-{letter}, " for letter in flag.letters).rjust(6) + f"--{flag.name}"
        left += f" {flag.metavar}" if flag.metavar else ""
        text = textwrap.wrap(described(flag), 100 - _COLUMN)
        if len(left) >= _COLUMN:
            lines.append(left)
        else:
            text[0] = f"{left:<{_COLUMN}}{text[0]}"
            lines.append(text.pop(0))
        lines += [" " * _COLUMN + line for line in text]
    return lines


def described(flag: Flag) -> str:
    """What the flag means, its values and its default."""
    text = flag.help
    if flag.values:
        text += f" One of {', '.join(flag.values)}."
    if flag.default not in (None, False):
        text += f" Default: {'true' if flag.default is True else flag.default}."
    if flag.many:
        text += " May be given more than once."
    return text
