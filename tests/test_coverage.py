"""spec/coverage.tsv: every property of the specification's documents has a module that implements it and a test."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator
from support import REPOSITORY

SPEC = REPOSITORY / "spec"
DOCUMENTS = ("config", "state", "features")


class Row(NamedTuple):
    """One line of the table. `module` is a path in the repository; `tests` are "PATH::NAME", separated by ", "."""

    document: str
    property: str
    module: str
    tests: str


def rows_of(text: str) -> list[Row]:
    heading, *lines = text.splitlines()
    assert heading.split("\t") == ["document", "property", "module", "test"]
    return [Row(*line.split("\t")) for line in lines]


def schema(document: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SPEC / f"{document}.schema.json").read_text())
    return content


def properties(document: dict[str, Any]) -> Iterator[str]:
    """The JSON pointer of each property that a schema names; `*` stands for an index, or a key that is free."""

    def below(definition: dict[str, Any], pointer: str) -> Iterator[str]:
        while reference := definition.get("$ref"):
            definition = document["$defs"][reference.removeprefix("#/$defs/")]
        for name, member in definition.get("properties", {}).items():
            yield f"{pointer}/{name}"
            yield from below(member, f"{pointer}/{name}")
        for free in ("items", "additionalProperties"):
            if isinstance(definition.get(free), dict):
                yield from below(definition[free], f"{pointer}/*")

    return below(document, "")


@cache
def names_of_tests(path: Path) -> frozenset[str]:
    """The names of a file's test functions, also those in classes; read, not run."""
    tree = ast.parse(path.read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def faults(rows: list[Row], wanted: list[tuple[str, str]]) -> list[str]:
    """What is wrong with the table: one line for each finding."""
    found = []
    counts = Counter((row.document, row.property) for row in rows)
    found += [f"{document} {name}: no row" for document, name in wanted if (document, name) not in counts]
    found += [f"{document} {name}: {count} rows" for (document, name), count in counts.items() if count > 1]
    known = set(wanted)
    for row in rows:
        where = f"{row.document} {row.property}"
        if (row.document, row.property) not in known:
            found.append(f"{where}: the schema has no such property")
            continue
        if not (row.module.startswith("ocirt/") and (REPOSITORY / row.module).is_file()):
            found.append(f"{where}: there is no module {row.module}")
        for test in row.tests.split(", "):
            path, _, name = test.partition("::")
            if not (REPOSITORY / path).is_file() or name not in names_of_tests(REPOSITORY / path):
                found.append(f"{where}: there is no test {test}")
    return found


TABLE = rows_of((SPEC / "coverage.tsv").read_text())
WANTED = [(document, name) for document in DOCUMENTS for name in properties(schema(document))]


TAKEN_AND_IGNORED = {"/process/commandLine", "/process/user/username"}
"""Windows' properties: no code knows their names."""


def test_the_module_of_a_property_knows_its_name() -> None:
    unknown = [
        f"{row.property}: {row.module}"
        for row in TABLE
        if row.property.rpartition("/")[2] not in (REPOSITORY / row.module).read_text()
        and (row.document, row.property) not in {("config", name) for name in TAKEN_AND_IGNORED}
    ]
    assert unknown == []


def test_every_property_has_a_module_and_a_test() -> None:
    assert "\n".join(faults(TABLE, WANTED)) == ""


def test_the_rows_stand_in_the_order_of_the_schemas() -> None:
    assert [(row.document, row.property) for row in TABLE] == WANTED


GOOD = Row("state", "/id", "ocirt/runtime/state.py", "tests/test_coverage.py::test_the_schemas_are_schemas")


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([], "state /id: no row"),
        ([GOOD, GOOD], "state /id: 2 rows"),
        ([GOOD, GOOD._replace(property="/idd")], "state /idd: the schema has no such property"),
        ([GOOD._replace(module="ocirt/runtime/no.py")], "state /id: there is no module ocirt/runtime/no.py"),
        ([GOOD._replace(module="README.md")], "state /id: there is no module README.md"),
        (
            [GOOD._replace(tests="tests/test_coverage.py::test_no")],
            "state /id: there is no test tests/test_coverage.py::test_no",
        ),
        ([GOOD._replace(tests="tests/no.py::test_x")], "state /id: there is no test tests/no.py::test_x"),
        ([GOOD._replace(tests=f"{GOOD.tests}, -")], "state /id: there is no test -"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_table_that_lacks_something_is_refused(rows: list[Row], fault: str) -> None:
    assert faults([GOOD], [("state", "/id")]) == []
    assert faults(rows, [("state", "/id")]) == [fault]


def test_properties_are_found_at_every_depth() -> None:
    document = {
        "properties": {"a": {"items": {"$ref": "#/$defs/x"}}, "b": {"additionalProperties": {"$ref": "#/$defs/x"}}},
        "$defs": {"x": {"properties": {"y": {"type": "string"}}}},
    }
    assert list(properties(document)) == ["/a", "/a/*/y", "/b", "/b/*/y"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_schemas_are_schemas(document: str) -> None:
    Draft202012Validator.check_schema(schema(document))
    used = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema(document))))
    assert used == set(schema(document).get("$defs", {}))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_schemas_are_installed(document: str) -> None:
    import ocirt

    installed = Path(ocirt.__file__).parent / "schemas" / f"{document}.schema.json"
    assert installed.read_text() == (SPEC / f"{document}.schema.json").read_text()
