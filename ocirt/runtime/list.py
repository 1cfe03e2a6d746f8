"""list: all containers below the root. What it does for each one counts a thousand times."""

from __future__ import annotations

from ocirt.errors import Error, NotFoundError, from_os_error
from ocirt.runtime.state import document
from ocirt.state.status import status_of
from ocirt.state.store import STATE, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


def list_containers(root: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Their state documents, by id, and a warning for each whose state cannot be read: one never hides the others."""
    owners: dict[int, str] = {}
    return _each(root, lambda known, folder: document(known, status_of(known, folder), owners))


def list_ids(root: str) -> tuple[list[str], list[str]]:
    """The ids of the same, with the same warnings; who runs is not asked."""
    return _each(root, lambda known, folder: known["id"])


def _each(root: str, look: Callable[[dict[str, Any], str], T]) -> tuple[list[T], list[str]]:
    store = Store(root)
    found: list[T] = []
    warnings: list[str] = []
    for container_id in store.ids():
        folder = store.folder(container_id)
        try:
            known = store.read(container_id, listed=True)
            annotations = known["annotations"]
            if annotations and not all(type(text) is str for text in annotations.values()):
                raise TypeError  # such as a number that is none: it would spoil the JSON of the whole list
            found.append(look(known, folder))
        except NotFoundError:
            continue  # deleted in this moment, or no container's folder
        except Error as error:
            warnings.append(str(error))
        except OSError as error:
            warnings.append(str(from_os_error(error, f"look at {folder}")))
        except (TypeError, ValueError, KeyError, IndexError, OverflowError):
            warnings.append(f"{folder}/{STATE} is damaged: it holds values of the wrong types")
    return found, warnings
