"""The commands for images and registries."""

from __future__ import annotations

from ocirt.manager.cli.grammar import Command

COMMANDS: tuple[Command, ...] = ()
