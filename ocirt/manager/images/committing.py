"""commit and export: what a container has made of its image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ocirt.manager import documents
from ocirt.manager.archive.writer import Out, Writer
from ocirt.manager.containers import lifecycle, state
from ocirt.manager.containers.records import Record
from ocirt.manager.documents import Descriptor
from ocirt.manager.errors import ConflictError, DocumentError
from ocirt.manager.images import facts
from ocirt.manager.images.changes import applied
from ocirt.manager.images.importing import GZIP, Layer, finish, reference
from ocirt.manager.site import Site
from ocirt.manager.snapshots import trees
from ocirt.manager.store.batch import Batch
from ocirt.manager.store.leases import Lease
from ocirt.manager.store.staging import Piece, Staging

_EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
"""The digest of a tar without members: two empty blocks."""
_KEPT = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"),
    *("Healthcheck", "OnBuild", "Shell", "ArgsEscaped"),
)
"""What an image says of how it is run; the rest of a container's configuration is of that container."""


def commit(
    site: Site,
    record: Record,
    name: str = "",
    author: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    pause: bool = True,
) -> str:
    """A new image: the container's, one layer with its changes, and how it was run. Without changes there is no layer.
    Returns the image's id.

    pause   freeze the container meanwhile, so that no file is half written
    Raises GrammarError, MissingError, ManagerError; nothing is left behind then.
    """
    full = reference(name)
    own = record.document.get("config") or {}
    config = applied({key: own[key] for key in _KEPT if own.get(key) is not None}, changes)
    with Lease(site.database) as lease, Staging(site.root) as staging:
        family, document, layers, diff_ids = _base(site, record, lease)
        batch = Batch()
        with _frozen(site, record) if pause else _as_it_is():
            piece, diff_id = _changes(site, record, staging)
        step: dict[str, Any] = {"created_by": " ".join(own.get("Cmd") or ())}
        step |= {key: value for key, value in (("author", author), ("comment", message)) if value}
        if diff_id == _EMPTY:
            step["empty_layer"] = True
        else:
            media_type = documents.DOCKER_LAYER if family == documents.DOCKER_MANIFEST else GZIP
            layers.append(batch.add(piece, media_type))
            diff_ids.append(diff_id)
        document["config"] = config
        if author:
            document["author"] = author
        return finish(site, staging, batch, document, layers, diff_ids, full, step, family=family)


def _base(site: Site, record: Record, lease: Lease) -> tuple[str, dict[str, Any], list[Descriptor], list[str]]:
    """The container's image: its manifest's media type, its configuration, layers and their diff_ids."""
    if not record.image:
        host = documents.host_platform()
        return documents.OCI_MANIFEST, {"architecture": host.architecture, "os": host.os}, [], []
    site.blobs.hold(record.image, lease)
    data = site.blobs.read(record.image, documents.LARGEST_DOCUMENT)
    known = facts.of(site, Descriptor(documents.parse(data).media_type, record.image, len(data)))
    if len(known.configuration.diff_ids) != len(known.manifest.layers):
        raise DocumentError(f"the image of {record.name} has other layers than its configuration")
    kept = ("architecture", "os", "variant", "os.version", "os.features", "author", "history")
    document = {key: known.configuration.document[key] for key in kept if key in known.configuration.document}
    return known.manifest.media_type, document, list(known.manifest.layers), list(known.configuration.diff_ids)


def _changes(site: Site, record: Record, staging: Staging) -> tuple[Piece, str]:
    layer = Layer(staging)
    try:
        site.snapshots.layer(record.id, layer)
        return layer.finish()
    finally:
        layer.close()


@contextmanager
def _frozen(site: Site, record: Record) -> Iterator[None]:
    """Paused, if it runs; one that is paused already stays so."""
    if state.read(site, record).status != "running":
        yield
        return
    try:
        lifecycle.pause(site, record)
    except ConflictError:
        yield  # it ended meanwhile
        return
    try:
        yield
    finally:
        try:
            lifecycle.unpause(site, record)
        except ConflictError:
            pass  # somebody else has let it go on, or killed it


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def export(site: Site, record: Record, out: Out) -> None:
    """A container's files as a tar archive, without its volumes, running or not. What vanishes meanwhile is left out.
    Raises MissingError, LimitError, ManagerError, and what `out` raises.
    """
    with site.snapshots.root(record.id) as top:
        writer = Writer(out)
        for found in trees.walk(top):
            try:
                writer.member(found)
            except FileNotFoundError:
                continue
        writer.close()
