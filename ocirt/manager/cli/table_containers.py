"""The commands for containers."""

from __future__ import annotations

from ocirt.manager.cli.grammar import Command

COMMANDS: tuple[Command, ...] = ()
