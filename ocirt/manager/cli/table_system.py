"""The commands for volumes, for what ocim keeps as a whole, and for ocim itself."""

from __future__ import annotations

from ocirt.manager.cli.grammar import Command, Flag

_FORMAT = Flag("format", 'How it is printed: "json", or a template such as "{{.Version}}".', "FORMAT", letters="f")

COMMANDS: tuple[Command, ...] = (
    Command("version", "", "own:version", "Print the versions of ocim, of the runtime and of Python", _FORMAT),
    Command("help", "[COMMAND...]", "own:help_", "Help for a command"),
)
