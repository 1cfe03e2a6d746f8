"""The table of all commands: what is parsed, helped with, completed and written into the manual comes from it.

Its parts are loaded one after the other until a name is found: those of containers first, which should be fast.
"""

from __future__ import annotations

from ocirt.manager.cli.grammar import Command, Flag

COMMON = (
    Flag("root", "Keep what lasts in this folder. Default: /var/lib/ocim; for others than root below $XDG_DATA_HOME.",
         "DIR", completes="folder"),
    Flag("run", "Keep what a reboot ends in this folder. Default: /run/ocim, or below $XDG_RUNTIME_DIR.",
         "DIR", completes="folder"),
    Flag("version", "Print the version.", letters="v"),
)  # fmt: skip
"""Flags before the command's name."""

GROUPS = {
    "container": "Containers",
    "image": "Images",
    "volume": "Volumes: folders that outlive containers",
    "system": "What ocim keeps, as a whole",
    "registry": "A registry of one's own",
}
PARTS = ("containers", "images", "system")


def part(name: str) -> tuple[Command, ...]:
    module = __import__(f"ocirt.manager.cli.table_{name}", fromlist=("COMMANDS",))
    commands: tuple[Command, ...] = module.COMMANDS
    return commands


def named(path: str) -> Command | None:
    """The command of this name, such as "ps" or "container ls"."""
    for name in PARTS:
        for command in part(name):
            if path in command.paths:
                return command
    return None


def all_commands() -> list[Command]:
    """Those that are for people, by name."""
    found = [command for name in PARTS for command in part(name) if not command.hidden]
    return sorted(found, key=lambda command: command.name)
