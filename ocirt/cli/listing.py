"""How `list` prints containers."""

from __future__ import annotations

from ocirt.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")
_MIN_WIDTH = 12
_GAP = 3


def containers(documents: Sequence[Mapping[str, object]]) -> str:
    """The table of their state documents."""
    rows = [[printable(str(document[column])) for column in _COLUMNS] for document in documents]
    return "\n".join(table([[column.upper() for column in _COLUMNS], *rows]))


def findings(documents: Sequence[Mapping[str, object]]) -> str:
    """The table of what `gc` found."""
    head = ["KIND", "ID", "REMOVED", "PATH", "WHY"]
    rows = [
        [str(one["kind"]), str(one["id"]) or "-", "yes" if one["removed"] else "no", str(one["path"]), str(one["why"])]
        for one in documents
    ]
    return "\n".join(table([head, *([printable(cell) for cell in row] for row in rows)]))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns as runc's: at least 12 wide and 3 apart, the last as it is."""
    widths = [max(_MIN_WIDTH, max(map(len, column)) + _GAP) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return ["".join(map(str.ljust, row, widths)) for row in rows]
