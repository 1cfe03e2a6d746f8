"""state: what the specification says a container's state is (runtime.md, "State")."""

from __future__ import annotations

from ocirt.state.status import STOPPED, status_of
from ocirt.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPEC_VERSION = "1.3.0"


def state(root: str, container_id: str) -> dict[str, Any]:
    """The state document, with runc's additions (rootfs, created, owner). Raises NotFoundError."""
    store = Store(root)
    known = store.read(container_id)
    return document(known, status_of(known, store.folder(container_id)))


def document(known: dict[str, Any], status: str, owners: dict[int, str] | None = None) -> dict[str, Any]:
    """owners: for the next documents, the names of users that have been looked up, by uid."""
    uid = known["owner"]
    owner = owners.get(uid) if owners else None
    if owner is None:
        owner = owner_name(uid)
        if owners is not None:
            owners[uid] = owner
    return {
        "ociVersion": known["ociVersion"] or SPEC_VERSION,
        "id": known["id"],
        "pid": 0 if status == STOPPED else known["pid"],
        "status": status,
        "bundle": known["bundle"],
        "rootfs": known["rootfs"],
        "created": known["created"],
        "annotations": known["annotations"],
        "owner": owner,
    }


def owner_name(uid: int) -> str:
    from pwd import getpwuid

    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
