"""list: all containers below the root."""

from __future__ import annotations

from ocirt.errors import Error, NotFoundError
from ocirt.runtime.state import document
from ocirt.state.status import status_of
from ocirt.state.store import Store

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
            documents.append(document(known, status_of(known, store.folder(container_id))))
        except NotFoundError:
            continue  # deleted in this moment, or no container's folder
        except Error as error:
            warnings.append(str(error))
    return documents, warnings
