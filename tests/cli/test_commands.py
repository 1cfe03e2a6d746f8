"""The command line: the fast loop and click read it alike; help, mistakes, the log, completion."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support import OCIRT, Done, command

from ocirt.cli import actions, commands
from ocirt.cli.argv import parse
from ocirt.cli.help import DETAILS, details
from ocirt.cli.verbs import GLOBAL_FLAGS, VERBS, Flag, Verb
from ocirt.runtime.version import libseccomp_version

HOT = [verb for verb in VERBS.values() if verb.hot]


def by_click(monkeypatch: pytest.MonkeyPatch, args: list[str]) -> tuple[str, dict[str, Any], list[str]] | None:
    """(action's name, options, positional arguments) that click arrives at; None if it refuses."""
    seen: list[tuple[str, dict[str, Any], list[str]]] = []

    def note(action: Any, options: dict[str, Any], positional: list[str]) -> int:
        seen.append((action.__name__, options, positional))
        return 0

    monkeypatch.setattr(commands, "carry_out", note)
    commands.run_click("ocirt", args)
    return seen[0] if seen else None


def by_loop(args: list[str]) -> tuple[str, dict[str, Any], list[str]] | None:
    found = parse(args)
    return found and (actions.of(found[0].name).__name__, found[1], found[2])


@pytest.mark.parametrize(
    "args",
    [
        ["state", "one"],
        ["--root", "/x", "state", "one"],
        ["--root=/x", "--log", "l", "--log-format=json", "--debug", "--strict", "delete", "--force", "one"],
        ["--root", "/x", "--root", "/y", "state", "one"],
        ["--log-format", "text", "kill", "one", "9"],
        ["kill", "one", "SIGTERM"],
        ["kill", "--", "one", "-9"],
        ["delete", "one", "-f"],
        ["delete", "-f", "--force", "one"],
        ["delete", "--", "-f"],
        ["delete", "-"],
        ["create", "-b", "/b", "one"],
        ["create", "-b=/b", "one"],
        ["create", "--bundle=/b", "one"],
        ["create", "--bundle=", "one"],
        ["create", "one", "--bundle", "/b"],
        ["-root", "/x", "-log=l", "create", "-bundle=/b", "-pid-file", "p", "-no-subreaper", "one"],
        ["create", "-b", "-f", "one"],
        ["create", "-b", "--", "one"],
        ["create", "-b", "-b=x", "one"],
        ["create", "--bundle", "a=b", "--pid-file", "p", "--console-socket", "s", "one"],
        ["run", "/b"],
        ["run", "-d", "/b", "one"],
        ["run", "--detach", "--bundle", "/b", "one"],
        ["run", "", "one"],
        ["run", "--seccomp-trace", "/b"],
        ["run", "-seccomp-trace", "/b", "one"],
        ["run", "--seccomp-trace=file", "-d", "/b"],
        ["run", "/b", "--seccomp-trace"],
        ["run", "a b", "ä"],
        ["run", "/b\udcff", "one"],
    ],
    ids=" ".join,
)
def test_the_fast_loop_and_click_read_a_hot_verb_alike(monkeypatch: pytest.MonkeyPatch, args: list[str]) -> None:
    fast = by_loop(args)
    assert fast is not None
    assert by_click(monkeypatch, args) == fast


def flag_words(chance: random.Random, flags: tuple[Flag, ...]) -> list[str]:
    """Some of the flags, each in one of the ways in which it can be written."""
    words = []
    for flag in chance.choices(flags, k=chance.randrange(3)) if flags else ():
        name = chance.choice([f"--{flag.name}", f"-{flag.name}", *(f"-{letter}" for letter in flag.letters)])
        value = chance.choice(flag.values or ("x", "/a b", "-x", "--", "a=b", "", "-b=c", "--force"))
        if flag.metavar is None:
            words.append(name)
        else:
            words += chance.choice([[name, value], [f"{name}={value}"]])
    return words


def test_the_fast_loop_and_click_agree_on_random_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the fast loop understands, click understands in the same way."""
    understood = 0
    for seed in range(1500):
        chance = random.Random(seed)
        verb: Verb = chance.choice(HOT)
        count = chance.randrange(len(verb.arguments) + 2)
        args = [*flag_words(chance, GLOBAL_FLAGS), verb.name]
        for _ in range(count):
            args += flag_words(chance, verb.flags)
            args.append(chance.choice(["one", "/b", "9", "-", "x=y"]))
        args += flag_words(chance, verb.flags)
        fast = by_loop(args)
        if fast is not None:
            understood += 1
            assert by_click(monkeypatch, args) == fast, args
    assert understood > 500


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_every_verb_has_help(verb: Verb) -> None:
    for flag in ("--help", "-h"):
        done = command(OCIRT, verb.name, flag)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"Usage: ocirt {verb.name} [options]")
        assert " ".join(verb.help.split()) in " ".join(done.out.split())
        for one in verb.flags:
            assert f"--{one.name}" in done.out
        assert all(argument in done.out for argument in verb.arguments)


def test_every_verb_has_details_and_their_margin_is_gone() -> None:
    assert DETAILS.keys() == VERBS.keys()
    for name in VERBS:
        text = details(name)
        assert text and "\n        " not in text and not text.startswith(" "), name
        shown = " ".join(command(OCIRT, name, "--help").out.split())
        assert " ".join(text.replace("\b", "").split()) in shown


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)], ids=str)
def test_help_lists_the_global_flags_and_the_verbs_in_a_containers_order(args: tuple[str, ...]) -> None:
    done = command(OCIRT, *args)
    assert (done.code, done.err) == (0, "")
    places = [done.out.index(f"\n  {verb.name} ") for verb in VERBS.values()]
    assert places == sorted(places)
    for flag in GLOBAL_FLAGS:
        assert f"--{flag.name}" in done.out
    assert "_OCIRT_COMPLETE=bash_source" in done.out


@pytest.mark.parametrize(
    "args", [["--version"], ["-v"], ["--root", "/x", "--version"], ["--debug", "-v"]], ids=" ".join
)
def test_the_version_is_the_same_wherever_the_flag_stands(args: list[str]) -> None:
    done = command(OCIRT, *args)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].startswith("ocirt version ")
    assert [line.partition(":")[0] for line in lines[1:]] == ["commit", "spec", "libseccomp"]
    assert lines[3] == f"libseccomp: {libseccomp_version()}"


def test_called_by_the_name_runc_the_version_says_so(tmp_path: Path) -> None:
    link = tmp_path / "runc"
    link.symlink_to(OCIRT)
    for args in (["--version"], ["--debug", "--version"]):
        assert command(link, *args).out.startswith("runc version ")


MISTAKES = {
    "delete --forcee one": "unknown flag --forcee: did you mean --force? (see `ocirt delete --help`)",
    "delete --xyzzy one": "unknown flag --xyzzy (see `ocirt delete --help`)",
    "delete --root /x one": "unknown flag --root: it goes before the verb, delete (see `ocirt delete --help`)",
    "delete --force=1 one": "--force takes no value (see `ocirt delete --help`)",
    "--force delete one": "unknown flag --force: it goes after the verb (delete, gc) (see `ocirt --help`)",
    "--rot /x list": "unknown flag --rot: did you mean --root? (see `ocirt --help`)",
    "--log-format xml list": '--log-format: expected text or json, got "xml" (see `ocirt --help`)',
    "list --format xml": '--format: expected table or json, got "xml" (see `ocirt list --help`)',
    "list --format": "--format needs a value (see `ocirt list --help`)",
    "list -x": "unknown flag -x (see `ocirt list --help`)",
    "list one": 'list has no use for "one" (see `ocirt list --help`)',
    "kill": "kill needs ID (see `ocirt kill --help`)",
    "kill a 9 b": 'kill has no use for "b" (see `ocirt kill --help`)',
    "run": "run needs BUNDLE|ID (see `ocirt run --help`)",
    "create": "create needs ID (see `ocirt create --help`)",
    "statee one": "unknown verb statee: did you mean state? (see `ocirt --help`)",
    "frobnicate": "unknown verb frobnicate (see `ocirt --help`)",
    "--root /x": "no verb given (see `ocirt --help`)",
    "explain -b a b": "the bundle is given twice (as an argument, or with --bundle)",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_on_stderr_and_says_where_the_help_is(line: str) -> None:
    done = command(OCIRT, *line.split())
    assert (done.code, done.out, done.err) == (1, "", f"ocirt: {MISTAKES[line]}\n")


@pytest.mark.parametrize(
    "args",
    [
        ["create", "--nonsense", "one"],
        ["frobnicate"],
        ["--nonsense", "state", "one"],
        ["--nonsense=1", "state", "one"],
        ["list", "--format"],
        ["kill"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("joined", [True, False])
def test_engines_find_a_usage_error_in_the_json_log(tmp_path: Path, args: list[str], joined: bool) -> None:
    log = tmp_path / "log.json"
    words = [f"--log={log}", "--log-format=json"] if joined else ["--log", str(log), "--log-format", "json"]
    done = command(OCIRT, *words, *args)
    assert done.code == 1
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["code"]) == ("error", "usage")
    assert done.err == f"ocirt: {entry['msg']}\n"


def test_a_text_log_of_a_usage_error_is_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command(OCIRT, "--log", log, "kill")
    assert log.read_text().count("\n") == 1
    assert 'level=error msg="kill needs ID' in log.read_text()


def test_the_value_of_a_flag_is_not_taken_for_the_log(tmp_path: Path) -> None:
    """--root's value is "--log": no file of the following word's name may appear."""
    done = command(OCIRT, "--root", "--log", "frobnicate", cwd=tmp_path)
    assert done.code == 1
    assert list(tmp_path.iterdir()) == []


def complete(tmp_path: Path, line: str) -> list[str]:
    """What the shell would offer for the last word of the line."""
    words = line.split(" ")
    variables = {"_OCIRT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done: Done = command(OCIRT, env=variables, cwd=tmp_path)
    assert done.code == 0, done.err
    return done.out.split()


def test_the_shell_completes_verbs_flags_values_and_ids(tmp_path: Path) -> None:
    (tmp_path / "state" / "one").mkdir(parents=True)
    assert complete(tmp_path, "ocirt de") == ["plain,delete"]
    assert "plain,--bundle" in complete(tmp_path, "ocirt create --b")
    assert complete(tmp_path, "ocirt list --format j") == ["plain,json"]
    assert complete(tmp_path, f"ocirt --root {tmp_path}/state kill o") == ["plain,one"]
    assert complete(tmp_path, "ocirt kill one KI") == ["plain,KILL"]
    assert complete(tmp_path, "ocirt run x") == ["dir,x"]
    assert complete(tmp_path, "ocirt create o") == []


def test_the_completion_script_names_its_variable() -> None:
    done = command(OCIRT, env={"_OCIRT_COMPLETE": "zsh_source"})
    assert done.code == 0
    assert "_OCIRT_COMPLETE=zsh_complete" in done.out


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (["restore", "--detach", "-no-subreaper", "--bundle", "b", "one"], "no_subreaper"),
        (["create", "-no-new-keyring", "one"], "no_new_keyring"),
    ],
)
def test_a_long_flag_may_have_one_dash(monkeypatch: pytest.MonkeyPatch, args: list[str], key: str) -> None:
    """containerd's shim writes -no-subreaper: Go's flags make no difference."""
    found = by_click(monkeypatch, args)
    assert found
    assert found[1][key] is True
    assert found[2] == ["one"]


@pytest.mark.parametrize(
    ("args", "value"),
    [
        (["/b"], None),
        (["--seccomp-trace", "/b"], "-"),
        (["/b", "--seccomp-trace=a=b"], "a=b"),
        (["-seccomp-trace=f", "/b"], "f"),
    ],
)
def test_a_flag_may_have_a_value_or_none(args: list[str], value: str | None) -> None:
    found = by_loop(["run", *args])
    assert found
    assert (found[1]["seccomp_trace"], found[2]) == (value, ["/b"])


def test_a_long_flag_with_one_dash_may_have_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for args in (["-image-path", "x"], ["-image-path=x"]):
        found = by_click(monkeypatch, ["restore", *args, "one"])
        assert found
        assert (found[1]["image_path"], found[2]) == ("x", ["one"])
