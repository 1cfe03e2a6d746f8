"""list: all containers below the root."""

from __future__ import annotations

from ocirt.errors import Error, NotFoundError
from ocirt.runtime.state import document
from ocirt.state.status import status_of
from ocirt.state.store import STATE, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def list_containers(root: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Their state documents, by id, and a warning for each whose state cannot be read: one never hides the others."""
    store = Store(root)
    documents: list[dict[str, Any]] = []
    warnings: list[str] = []
    for container_id in store.ids():
        try:
            known = store.read(container_id)
            documents.append(_sound(document(known, status_of(known, store.folder(container_id)))))
        except NotFoundError:
            continue  # deleted in this moment, or no container's folder
        except Error as error:
            warnings.append(str(error))
        except (TypeError, ValueError, KeyError, IndexError, OverflowError):
            warnings.append(f"{store.folder(container_id)}/{STATE} is damaged: it holds values of the wrong types")
    return documents, warnings


def _sound(found: dict[str, Any]) -> dict[str, Any]:
    """The document, if all in it is what it should be: a number that is none would spoil the JSON of the whole list."""
    texts = [value for name, value in found.items() if name not in ("pid", "annotations")]
    if type(found["pid"]) is not int or any(type(text) is not str for text in texts):
        raise TypeError
    if any(type(text) is not str for text in (found["annotations"] or {}).values()):
        raise TypeError
    return found
