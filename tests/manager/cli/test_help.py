"""Help, the manual and the shells' completion come from the table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import REPOSITORY

from ocirt.manager.cli import completion, main, manual, table
from ocirt.manager.cli import help as help_
from ocirt.manager.cli.grammar import UsageError

COMMANDS = table.all_commands()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_names_every_flag_and_is_no_wider_than_100(command: object) -> None:
    text = help_.of_words(command.name.split())  # type: ignore[attr-defined]
    assert all(f"--{flag.name}" in text for flag in command.flags)  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 110


def test_the_overview_has_every_command() -> None:
    words = set(help_.overview().split())
    missing = [command.name for command in COMMANDS if " " not in command.name and command.name not in words]
    assert not missing


def test_help_for_what_is_no_command() -> None:
    with pytest.raises(UsageError):
        help_.of_words(["nope"])


def test_the_manual_is_as_it_is_written() -> None:
    assert manual.page() == (REPOSITORY / "docs" / "ocim.1").read_text(), "ocim manual > docs/ocim.1"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["r"], ["registry", "rename", "restart", "rm", "rmi", "run"]),
        (["container", "l"], ["list", "logs", "ls"]),
        (["run", "--net"], ["--net", "--network"]),
        (["run", "--pull", ""], ["always", "missing", "never"]),
        (["run", "--pull=m"], ["--pull=missing"]),
        (["wait", "--condition", "n"], ["not-running", "next-exit"]),
        (["--root", "/x", "ver"], ["version"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["load", "-i", ""], [":files"]),
        (["run", "image", "x"], [":files"]),
        (["help", "vers"], ["version"]),
        (["--ro"], ["--root"]),
    ],
)
def test_completion(words: list[str], wanted: list[str]) -> None:
    assert [text for text, _ in completion.candidates(words)] == wanted


def test_bash_completes(tmp_path: Path) -> None:
    """The script in a real bash, with an ocim that says what it was asked and offers a name with a tag."""
    fake = tmp_path / "ocim"
    fake.write_text('#!/bin/sh\necho "$@" >>asked\nprintf "localhost:5000/a:1\\tan image\\nlocalhost:5000/a:2\\n"\n')
    fake.chmod(0o755)
    (tmp_path / "script").write_text(completion.BASH)
    program = """
    PATH=$PWD:$PATH; . ./script
    COMP_LINE="ocim run localhost:5000/a:" COMP_POINT=26
    COMP_WORDS=(ocim run localhost : 5000/a :) COMP_CWORD=5
    compopt() { :; }
    _ocim; printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (tmp_path / "asked").read_text() == "complete -- run localhost:5000/a:\n"
    assert done.stdout == ":1\n:2\n"


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["nope"]) == 125
    assert main.run(["ps", "--nope"]) == 125
    assert capsys.readouterr().err == (
        "ocim: 'nope' is not a command (see ocim --help)\nocim: ps: unknown flag: --nope (see ocim ps --help)\n"
    )
