"""The rows of docs/rootless.md's tables: each tries one thing with one runtime, and raises if it is not so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_case import Case

if TYPE_CHECKING:
    from collections.abc import Callable

MAPS = "tr -s ' ' </proc/self/uid_map"
LOOP = ("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")


class Rows(dict[str, "Callable[[Case], str | None]"]):
    """Title → what tries it, in the table's order. What returns a text answers with that instead of "yes"."""

    def row(self, title: str) -> Callable[[Callable[[Case], str | None]], None]:
        def add(cell: Callable[[Case], str | None]) -> None:
            self[title] = cell

        return add
