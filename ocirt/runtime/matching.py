"""Which containers a regular expression means: for kill and delete."""

from __future__ import annotations

import re

from ocirt.errors import UsageError
from ocirt.state.store import Store


def matching(root: str, expression: str) -> list[str]:
    """The ids that it matches as a whole, sorted. Raises UsageError for what is no expression."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UsageError(f'"{expression}" is no regular expression: {error}') from None
    return [container_id for container_id in Store(root).ids() if pattern.fullmatch(container_id)]
