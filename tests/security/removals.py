"""Defences, and how the source is without them: what without.py takes away to show that a test would miss it.

test_table.py looks whether each text is in the source still.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """In a file of the package (from the folder that holds it): `old`, which is there once, becomes `new`."""

    file: str
    old: str
    new: str


class Removal(NamedTuple):
    """The edits that take a defence away, and the tests that fail then (pytest's names, from this folder)."""

    tests: tuple[str, ...]
    edits: tuple[Edit, ...]


VERIFY = (
    Edit(
        "ocirt/plan/verify.py",
        "    steps = plan.steps\n    if not steps:\n",
        "    return\n    steps = plan.steps\n    if not steps:\n",
    ),
)
"""The second layer of all that a plan does: the rules of docs/safety-rules.md are not looked at."""
REMOVALS: dict[str, Removal] = {}
