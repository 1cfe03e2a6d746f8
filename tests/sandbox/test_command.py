"""ocirt sandbox, as a shell calls it."""

from __future__ import annotations

import json

import pytest

from tests.support import OCIRT, Done, command

pytestmark = pytest.mark.root


def sandboxed(*args: str, **options: object) -> Done:
    return command(OCIRT, "sandbox", *args, **options)


def test_the_exit_code_and_the_output_are_the_commands() -> None:
    done = sandboxed("--env", "A=1", "-e", "B=2", "--", "sh", "-c", "echo $A$B; echo err >&2; exit 3")
    assert (done.code, done.out, done.err) == (3, "12\n", "err\n")


def test_its_time_is_up() -> None:
    assert sandboxed("--timeout", "0.2", "--", "sleep", "1000").code == 124


def test_json_has_the_whole_result() -> None:
    result = json.loads(sandboxed("--json", "--", "sh", "-c", "printf '\\377'; unshare -m true >&2; exit 5").out)
    assert (result["returncode"], result["stdout_base64"], result["denied_syscalls"]) == (5, "/w==", {"unshare": 1})
    assert result["usage"]["wall"] > 0


def test_stdin_only_if_asked() -> None:
    assert sandboxed("--stdin", "--", "cat", stdin="in").out == "in"
    assert sandboxed("--", "cat", stdin="in").out == ""


def test_what_makes_no_sense() -> None:
    for args, words in (
        (("--pids", "x", "--", "true"), "--pids: expected a number"),
        (("--env", "A", "--", "true"), "--env: expected NAME=VALUE"),
        (("--memory", "1X", "--", "true"), "memory: expected bytes"),
        (("--", "no-such-program"), "executable file not found"),
    ):
        done = sandboxed(*args)
        assert done.code == 1
        assert words in done.err
