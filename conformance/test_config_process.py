"""config.md: "Process", "POSIX process" and "Linux Process"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_args_are_passed_unchanged(container: Container) -> None:
    """config.md, POSIX process: the semantics of execvp's argv."""
    container.process["args"] = ["/bin/echo", "one  two", "", "$HOME", "ünï", "a\nb"]
    assert container.run_program().out == "one  two  $HOME ünï a\nb\n"


def test_the_program_is_searched_in_the_containers_path(container: Container) -> None:
    """config.md, POSIX process: at least one entry, interpreted as execvp's file."""
    container.process["args"] = ["echo", "found"]
    container.process["env"] = ["PATH=/nowhere:/bin"]
    assert container.run_program().out == "found\n"


def test_empty_args_are_an_error(container: Container) -> None:
    """config.md, POSIX process: one or more entries are REQUIRED."""
    container.process["args"] = []
    assert container.run_program().code != 0


def test_env_has_the_semantics_of_environ(container: Container) -> None:
    """config.md, POSIX process: env."""
    container.process["env"] = ["A=1", "EMPTY=", "EQUALS=a=b", "PATH=/bin"]
    container.process["args"] = ["/bin/env"]
    assert {"A=1", "EMPTY=", "EQUALS=a=b", "PATH=/bin"} <= set(container.run_program().out.splitlines())


def test_cwd_is_the_working_directory(container: Container) -> None:
    """config.md, Process: cwd, an absolute path."""
    (container.rootfs / "work").mkdir()
    container.process["cwd"] = "/work"
    assert container.run("pwd").out == "/work\n"


def test_a_relative_cwd_is_an_error(container: Container) -> None:
    """config.md, Process: this value MUST be an absolute path."""
    container.process["cwd"] = "work"
    assert container.run("pwd").code != 0


def test_without_a_terminal_the_standard_streams_are_the_callers(container: Container) -> None:
    """config.md, Process: terminal defaults to false."""
    done = container.run("tty; echo out; echo error >&2")
    assert done.out == "not a tty\nout\n"
    assert "error" in done.err


def test_resource_limits_are_set(container: Container) -> None:
    """config.md, POSIX process: rlimits, soft and hard."""
    container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}]
    lines = container.run("cat /proc/self/limits").out.splitlines()
    assert next(line for line in lines if line.startswith("Max open files")).split()[3:5] == ["33", "44"]


def test_an_unknown_resource_limit_is_an_error(container: Container) -> None:
    """config.md, POSIX process: a type that cannot be mapped MUST generate an error."""
    container.process["rlimits"] = [{"type": "RLIMIT_TEST", "soft": 1, "hard": 1}]
    assert container.run("true").code != 0


def test_a_resource_limit_that_is_there_twice_is_an_error(container: Container) -> None:
    """config.md, POSIX process: duplicated entries with the same type MUST generate an error."""
    container.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}] * 2
    assert container.run("true").code != 0


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(container: Container, value: bool) -> None:
    """config.md, Linux Process: noNewPrivileges."""
    container.process["noNewPrivileges"] = value
    assert container.run("grep NoNewPrivs /proc/self/status").out.split()[1] == str(int(value))


def test_the_capability_sets_are_as_configured(container: Container) -> None:
    """config.md, Linux Process: capabilities."""
    sets = ("bounding", "effective", "inheritable", "permitted", "ambient")
    container.process["capabilities"] = {name: ["CAP_CHOWN", "CAP_KILL"] for name in sets}
    lines = container.run("grep ^Cap /proc/self/status").out.splitlines()
    assert {int(line.split()[1], 16) for line in lines} == {1 << 0 | 1 << 5}


def test_a_capability_that_cannot_be_mapped_is_no_error(container: Container) -> None:
    """config.md, Linux Process, since 1.1: the runtime SHOULD warn and go on."""
    container.process["capabilities"]["bounding"].append("CAP_UNKNOWN")
    assert container.run("exit 3").code == 3
