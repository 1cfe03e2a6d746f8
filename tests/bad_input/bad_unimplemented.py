"""Cases: what the specification has and ocirt has not yet. Each goes away with its implementation."""

from __future__ import annotations

from bad_values import Case, put

_LATER: list[tuple[str, object, object]] = [
    # pointer, a value that asks for something, one that does not
]

UNIMPLEMENTED = [
    *(
        Case(pointer, put(pointer, value), pointer, (f"{pointer.rpartition('/')[2]} is not implemented yet",))
        for pointer, value, _ in _LATER
    ),
]
EMPTY = [(pointer, value) for pointer, _, value in _LATER]
