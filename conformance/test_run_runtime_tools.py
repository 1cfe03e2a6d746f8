"""run-runtime-tools, with a folder of small shell programs in the suite's place: it judges and compares rightly."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

PROGRAMS = {
    "good": "echo 1..2; echo ok 1; echo ok 2",
    "silent": "exit 0",
    "one_wrong": "echo ok 1; echo not ok 2 - something; exit 0",
    "bad_code": "echo ok 1; exit 3",
    "todo": "echo 'not ok 1 # TODO later'",
    "wrong_plan": "echo 1..0; echo ok 1; echo ok 2",
    "only_an_error": """echo '    "error": "hooks MUST be called"'; echo 1..0""",
    "empty_error": """echo ok 1; echo '    "error": ""'; echo 1..1""",
    "calls": '"$RUNTIME" state x; test -e runtimetest && echo ok 1',
}
RESULTS = {
    "good": "pass",
    "silent": "pass",
    "one_wrong": "fail",
    "bad_code": "fail",
    "todo": "pass",
    "wrong_plan": "pass",
    "only_an_error": "fail",
    "empty_error": "pass",
    "calls": "pass",
}


class Suite:
    """A folder as runtime-tools' build leaves it, and a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.expected = folder / "expected.tsv"
        self.calls = folder / "calls"
        self.ocirt = self.program(folder / "ocirt", f'echo "$@" >> "{self.calls}"')
        self.program(self.folder / "runtimetest", "exit 1")
        for name, script in PROGRAMS.items():
            self.program(self.folder / "validation" / name / f"{name}.t", script)
        self.table({name: (result, "") for name, result in RESULTS.items()})

    def program(self, path: Path, script: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def table(self, rows: dict[str, tuple[str, str]]) -> None:
        lines = ["# a comment", *(f"{name}\t{result}\t{why}" for name, (result, why) in rows.items())]
        self.expected.write_text("\n".join(lines) + "\n")

    def run(self) -> tuple[int, str]:
        done = subprocess.run(
            [HERE / "run-runtime-tools", "--expected", self.expected, self.ocirt, self.folder],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_it_judges_by_exit_status_and_not_ok_lines(suite: Suite) -> None:
    code, output = suite.run()
    assert code == 0, output
    assert output.endswith("6 of 9 programs pass; 0 differences from the table\n")


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_is_not_expected_is_a_difference(suite: Suite, name: str) -> None:
    rows = {one: (result, "") for one, result in RESULTS.items()}
    rows[name] = ("fail" if RESULTS[name] == "pass" else "pass", "")
    suite.table(rows)
    code, output = suite.run()
    assert code == 1
    assert f"DIFFERENT\t{name}\t" in output
    assert "1 differences" in output


def test_any_takes_any_result(suite: Suite) -> None:
    suite.table(dict.fromkeys(RESULTS, ("any", "chance")))
    code, output = suite.run()
    assert code == 0, output


def test_a_missing_program_and_an_unknown_one_are_differences(suite: Suite) -> None:
    rows = {name: (result, "") for name, result in RESULTS.items() if name != "good"}
    suite.table({**rows, "absent": ("pass", "")})
    code, output = suite.run()
    assert code == 1
    assert "DIFFERENT\tabsent\tmissing" in output
    assert "DIFFERENT\tgood\tpass (expected: nothing)" in output


def test_the_programs_call_the_runtime_with_the_strict_flag(suite: Suite) -> None:
    suite.run()
    words = suite.calls.read_text().split()
    assert words[0] == "--root"
    assert words[2:] == ["--strict", "state", "x"]


def test_the_table_names_the_whole_suite(suite: Suite) -> None:
    rows = [line.split("\t") for line in (HERE / "expected.tsv").read_text().splitlines() if not line.startswith("#")]
    assert len({name for name, _, _ in rows}) == len(rows) == 58
    assert sum(result in ("fail", "any") for _, result, _ in rows) == 15


def test_every_program_that_can_pass_is_ported() -> None:
    rows = [line.split("\t") for line in (HERE / "expected.tsv").read_text().splitlines() if not line.startswith("#")]
    sources = "".join(path.read_text() for path in (HERE / "runtime_tools").glob("test_*.py"))
    tests = set(re.findall(r"^def test_(\w+)\(", sources, re.MULTILINE))
    assert {name for name, result, _ in rows if result == "pass"} - tests == set()


def test_a_folder_that_does_not_exist_is_a_usage_error(suite: Suite) -> None:
    suite.folder = suite.folder / "nowhere"
    code, output = suite.run()
    assert code == 2
    assert "is no folder" in output
