"""Command lines are read as docker reads them, and the table agrees with itself and with what carries it out."""

from __future__ import annotations

import importlib
import inspect

import pytest

from ocirt.manager.cli import table
from ocirt.manager.cli.grammar import Command, Flag, Help, UsageError, parse
from ocirt.manager.containers import flags as container_flags

COMMAND = Command(
    "do",
    "[X...]",
    "x:y",
    "Do it",
    Flag("env", "", "VARIABLE", letters="e", many=True),
    Flag("interactive", "", letters="i"),
    Flag("tty", "", letters="t"),
    Flag("pause", "", letters="p", default=True),
    Flag("name", "", "NAME"),
    Flag("kind", "", "KIND", values=("one", "two")),
    open_ended=True,
)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("-it a", {"interactive": True, "tty": True}),
        ("-ie A=1 a", {"interactive": True, "env": ("A=1",)}),
        ("-eA=1 -e=B --env C --env=D= a", {"env": ("A=1", "B", "C", "D=")}),
        ("--tty=false --interactive=1 a", {"tty": False, "interactive": True}),
        ("-p=false a", {"pause": False}),
        ("--name= a", {"name": ""}),
        ("--kind two -- a", {"kind": "two"}),
    ],
)
def test_flags_in_all_their_spellings(line: str, wanted: dict[str, object]) -> None:
    values, arguments = parse(COMMAND, line.split())
    assert {key: values[key] for key in wanted} == wanted
    assert arguments == ["a"]


def test_what_was_not_given_has_its_default() -> None:
    values, _ = parse(COMMAND, [])
    assert values == {"env": (), "interactive": False, "tty": False, "pause": True, "name": None, "kind": None}


def test_what_follows_the_first_argument_is_another_programs() -> None:
    values, arguments = parse(COMMAND, ["a", "-t", "--", "--name", "x"])
    assert arguments == ["a", "-t", "--", "--name", "x"] and not values["tty"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--nope", "unknown flag: --nope"),
        ("-x", "unknown shorthand flag: -x"),
        ("--name", "flag needs an argument: --name"),
        ("--tty=maybe", "neither true nor false"),
        ("--kind three", "none of one, two"),
    ],
)
def test_mistakes_are_named(line: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(COMMAND, line.split())


def test_help_is_asked_for_before_the_first_argument_only() -> None:
    with pytest.raises(Help):
        parse(COMMAND, ["-t", "--help"])
    assert parse(COMMAND, ["a", "--help"])[1] == ["a", "--help"]


def test_the_number_of_arguments_is_checked() -> None:
    rename = table.named("rename")
    assert rename is not None
    for words in ([], ["a"], ["a", "b", "c"]):
        with pytest.raises(UsageError, match="needs exactly 2 arguments"):
            parse(rename, words)


COMMANDS = [command for part in table.PARTS for command in table.part(part)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_an_action_and_flags_of_its_own(command: Command) -> None:
    module, _, function = command.action.partition(":")
    action = getattr(importlib.import_module(f"ocirt.manager.cli.{module}"), function)
    assert list(inspect.signature(action).parameters) == ["values", "arguments"]
    names = [flag.name for flag in command.flags]
    letters = "".join(flag.letters for flag in command.flags)
    assert len(set(names)) == len(names) and len(set(letters)) == len(letters)


def test_no_name_is_given_twice() -> None:
    paths = [path for command in COMMANDS for path in command.paths]
    assert len(set(paths)) == len(paths)
    assert {path.partition(" ")[0] for path in paths if " " in path} == set(table.GROUPS)


def test_the_flags_of_run_are_those_that_containers_know() -> None:
    run = table.named("run")
    assert run is not None
    known = set(container_flags._SETTERS) | set(container_flags._REFUSED) | container_flags._ELSEWHERE
    known |= {"no_healthcheck"}
    assert {flag.key for flag in run.flags} <= known
    assert set(container_flags._SETTERS) - {flag.key for flag in run.flags} == set()
