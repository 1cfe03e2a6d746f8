"""docs/security-tests.md, the tests that it names, and the defences that removals.py takes away, belong together."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from security.removals import REMOVALS, VERIFY
from support import REPOSITORY

HERE = Path(__file__).parent
IDENTIFIER = re.compile(r"\b(?:CVE-\d{4}-\d+|GHSA-\w{4}-\w{4}-\w{4})\b")
TEST = re.compile(r"\btest_\w+\.py\b")
RUNC = """
CVE-2015-3627 CVE-2015-3629 CVE-2015-3630 CVE-2015-3631 CVE-2016-3697 CVE-2016-9962 CVE-2019-5736 CVE-2019-16884
CVE-2019-19921 GHSA-g54h-m393-cpwq CVE-2021-30465 CVE-2021-43784 CVE-2022-29162 CVE-2023-25809 CVE-2023-27561
CVE-2023-28642 CVE-2024-21626 CVE-2024-45310 CVE-2025-31133 CVE-2025-52565 CVE-2025-52881 CVE-2026-41579
"""


def rows() -> list[tuple[list[str], list[str], str]]:
    """Of each row of the tables: (identifiers, test files, all of its cells in one)."""
    found = []
    for line in (REPOSITORY / "docs" / "security-tests.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        identifiers = IDENTIFIER.findall(cells[0])
        if line.startswith("|") and identifiers:
            found.append((identifiers, TEST.findall(cells[1]), line))
            assert len(cells) == 4 and all(cells), line
    return found


def functions(file: str) -> dict[str, str]:
    """name → docstring of each test in a file of this folder."""
    tree = ast.parse((HERE / file).read_text())
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return {test.name: ast.get_docstring(test) or "" for test in tests}


def test_every_attack_on_runc_that_is_known_has_a_row() -> None:
    named = {identifier for identifiers, _, _ in rows() for identifier in identifiers}
    assert set(RUNC.split()) <= named


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][0])
def test_a_row_has_its_tests(row: tuple[list[str], list[str], str]) -> None:
    """In the name, or in the words, of a test in one of the files of the row."""
    identifiers, files, line = row
    assert files, line
    for identifier in identifiers:
        name = "test_" + identifier.lower().replace("-", "_")
        tests = {test: words for file in files for test, words in functions(file).items()}
        assert any(test.startswith(name) or identifier in words for test, words in tests.items()), identifier


@pytest.mark.parametrize("identifiers", [row[0] for row in rows() if row[0][0] in RUNC.split()], ids=lambda one: one[0])
def test_what_is_seen_without_the_defence_can_be_seen_again(identifiers: list[str]) -> None:
    assert any(identifier in name for identifier in identifiers for name in REMOVALS), "without.py shows none of it"


@pytest.mark.parametrize("name", REMOVALS)
def test_a_removal_still_fits(name: str) -> None:
    """If a text is gone, the defence has been moved: find it, and run without.py with this removal's name."""
    for edit in REMOVALS[name].edits + VERIFY:
        assert (REPOSITORY / edit.file).read_text().count(edit.old) == 1, f"{edit.file}: {edit.old}"
    for test in REMOVALS[name].tests:
        file, _, function = test.partition("::")
        assert function in functions(file), test
