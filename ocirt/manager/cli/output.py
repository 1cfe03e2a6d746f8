"""What commands print: documents and tables, by --format."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from ocirt.manager.cli import template_functions as functions
from ocirt.manager.cli.templates import Template, headings

Row = Mapping[str, object]
GAP, NARROWEST = 3, 10
"""Of docker's tables: spaces between columns, and the width of the smallest one with them."""


def show(document: object, form: str) -> None:
    """One document by a template; "json": in one line. Raises TemplateError."""
    if form == "json":
        line(functions.json(document))
    else:
        line(Template(form).render(document))


def line(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def pretty(document: object) -> None:
    """As `docker inspect` prints: indented by four."""
    line(json.dumps(functions.plain(document), indent=4, ensure_ascii=False))


def listing(rows: Iterable[Row], columns: Mapping[str, str], form: str, usual: Sequence[str]) -> None:
    """A list as docker prints it.

    columns   field → heading
    form      "" or "table": the usual fields; "table TEMPLATE", "json", "raw", or a template for each row
    """
    form = form.strip()
    if form in ("", "table"):
        form = "table " + "\t".join(f"{{{{.{name}}}}}" for name in usual)
    if form == "json":
        for row in rows:
            line(functions.json(row))
    elif form.startswith("table"):
        text = form.removeprefix("table").strip().replace("\\t", "\t").replace("\\n", "\n")
        template = Template(text)
        table([headings(text, columns), *(template.render(row) for row in rows)])
    else:
        template = Template(form.replace("\\t", "\t").replace("\\n", "\n"))
        for row in rows:
            line(template.render(row))


def table(lines: Sequence[str]) -> None:
    """Lines whose cells are separated by tabs, in columns."""
    cells = [text.split("\t") for text in lines]
    widths: dict[int, int] = {}
    for row in cells:
        for number, cell in enumerate(row[:-1]):
            widths[number] = max(widths.get(number, NARROWEST), len(cell) + GAP)
    for row in cells:
        line("".join(f"{cell:<{widths[number]}}" for number, cell in enumerate(row[:-1])) + row[-1])


def each(names: Iterable[str], action: Callable[[str], object], *, echo: bool = True) -> int:
    """Do the same with each name, and print it then. What fails is said, the others are done. Returns the exit code."""
    from ocirt.errors import Error
    from ocirt.manager.cli.main import complain

    code = 0
    for name in names:
        try:
            action(name)
        except Error as error:
            complain(str(error))
            code = max(code, error.exit_code)
            continue
        if echo:
            line(name)
            sys.stdout.flush()
    return code
