"""ocim(1), as man(7) has it, from the table: docs/ocim.1."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ocirt.manager.cli.grammar import Command, Flag, usage
from ocirt.manager.cli.help import ABOUT, described
from ocirt.manager.cli.table import COMMON, all_commands

if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value

_ENVIRONMENT = (
    ("OCIM_ROOT, OCIM_RUN", "The folders of --root and --run."),
    ("OCIM_RUNTIME", "Another OCI runtime than the ocirt that was installed with ocim, such as runc."),
    ("OCIM_DRIVER", "How a new store puts layers together: overlay, btrfs or vfs."),
    ("OCIM_REGISTRIES", "Another registries.toml."),
    ("DOCKER_CONFIG, REGISTRY_AUTH_FILE", "Where passwords of registries are kept."),
)
_FILES = (
    ("/var/lib/ocim", "Images, containers and volumes; $XDG_DATA_HOME/ocim for others than root."),
    ("/run/ocim", "What a reboot ends; $XDG_RUNTIME_DIR/ocim for others than root."),
    ("/etc/ocim/registries.toml", "How registries are reached; $XDG_CONFIG_HOME/ocim/registries.toml comes first."),
)
_EXITS = (
    ("0", "All went well."),
    ("1", "Something failed; one line on stderr says what, and where it can what to do."),
    ("125", "Of run and create, and for a command line that makes no sense: ocim failed, not the program."),
    ("126, 127", "Of run, start and exec: the program cannot be executed; there is no such program."),
    ("others", "Of run, start -a, attach and exec: the program's own; 128 and the signal's number after a signal."),
)


def write(values: dict[str, Value], arguments: list[str]) -> None:
    sys.stdout.write(page())


def page() -> str:
    """The whole page."""
    lines = [
        '.\\" Written by `ocim manual` from the table of commands.',
        ".TH OCIM 1",
        ".SH NAME",
        "ocim \\- images and containers",
        ".SH SYNOPSIS",
        ".B ocim",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        _text(ABOUT),
        ".SH OPTIONS",
        *_flags(COMMON),
        ".SH COMMANDS",
    ]
    for command in all_commands():
        lines += _command(command)
    for title, entries in (("EXIT STATUS", _EXITS), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        lines.append(f".SH {title}")
        for name, what in entries:
            lines += [".TP", f".B {_text(name)}", _text(what)]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR docker (1),", ".BR podman (1)"]) + "\n"


def _command(command: Command) -> list[str]:
    lines = [f'.SS "{_text(usage(command))}"', _text(f"{command.help}.")]
    for paragraph in command.text.strip().split("\n\n") if command.text else ():
        lines += [".PP", _text(" ".join(paragraph.split()))]
    if len(command.paths) > 1:
        lines += [".PP", "Also: " + _text(", ".join(f"ocim {path}" for path in command.paths[1:])) + "."]
    lines += _flags(command.flags)
    for line, what in command.examples:
        lines += [".PP", _text(what), ".PP", ".EX", _text(f"    {line}"), ".EE"]
    return lines


def _flags(flags: tuple[Flag, ...]) -> list[str]:
    lines = []
    for flag in sorted(flags, key=lambda one: one.name):
        names = [*(f"\\-{letter}" for letter in flag.letters), "\\-\\-" + flag.name.replace("-", "\\-")]
        value = f" \\fI{_text(flag.metavar)}\\fR" if flag.metavar else ""
        lines += [".TP", f"\\fB{', '.join(names)}\\fR{value}", _text(described(flag))]
    return lines


def _text(text: str) -> str:
    """What troff would take for its own is escaped."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
