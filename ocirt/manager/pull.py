"""pull: an image from a registry into the store, the layers side by side.

What is there already is not asked for again; what came of a layer stays, whatever happens, and the next pull goes on
with it. The name appears when everything that it stands for is there. Given a store's snapshots, layers are unpacked
while they come, by processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event

from ocirt.manager import documents
from ocirt.manager.documents import Descriptor, Index, Manifest, Platform
from ocirt.manager.errors import DocumentError, ManagerError
from ocirt.manager.names import Reference
from ocirt.manager.registry.client import Repository
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.database import Database
from ocirt.manager.store.images import Images
from ocirt.manager.store.leases import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.snapshots.snapshots import Snapshots
    from ocirt.manager.snapshots.unpacking import Unpacking

AT_ONCE = 6
LARGEST_LAYER = 1 << 40
DEEPEST_INDEX = 4

Progress = Callable[[Descriptor, str, int], object]
"""Is told (what, "waiting" | "there" | "bytes" | "whole" | "unpacking" | "unpacked", how many bytes, negative where a
source began anew). Of "unpacking" the bytes are the blob's, too."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """target: what the name stands for; manifest: the one of the platform; new: whether anything came; snapshots:
    names of the unpacked layers, lowest first.
    """

    target: Descriptor
    manifest: Descriptor
    new: bool
    snapshots: tuple[str, ...] = ()


class Pull:
    """One pull. `run` may be called once. With `snapshots` it forks: threads should be started after it has begun to
    unpack, or not at all.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        repository: Repository,
        progress: Progress | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._work: Unpacking | None = None
        self._blobs = blobs
        self._repository = repository
        self._progress = progress or (lambda what, event, size: None)
        self._stopped = Event()
        self._new = False

    def run(self, reference: Reference, platform: Platform) -> Pulled:
        """Raises what the registry, the documents and the store raise."""
        with Lease(self._database) as lease:
            target, manifest = self._documents(reference.target, platform, lease, DEEPEST_INDEX)
            parsed = documents.parse(self._blobs.read(manifest.digest, documents.LARGEST_DOCUMENT), manifest.media_type)
            assert isinstance(parsed, Manifest)
            names = self._image(parsed, lease)
            name = str(reference)
            with self._database.write() as transaction:
                Images(self._database, self._blobs).set(transaction, name, target)
            return Pulled(target, manifest, self._new, names)

    def _image(self, manifest: Manifest, lease: Lease) -> tuple[str, ...]:
        """The configuration first: it says what the layers' content is."""
        if self._snapshots is None:
            self._layers(manifest, lease)
            return ()
        self._blob(manifest.config, lease)
        with self._snapshots.unpacking(manifest, lease, self._progress) as (names, self._work):
            self._layers(manifest, lease)
        return names

    def _documents(self, target: str, platform: Platform, lease: Lease, deepest: int) -> tuple[Descriptor, Descriptor]:
        """Bring in what a tag or digest stands for, down to the platform's manifest."""
        known = self._known(target, lease)
        data, described = known or self._repository.manifest(target)
        found = documents.parse(data, described.media_type, what=f"manifest {target}")
        if isinstance(found, Index):
            if not deepest:
                raise DocumentError(f"manifest {target}: an index in an index in an index …")
            chosen = documents.choose(found, platform)
            _, manifest = self._documents(chosen.digest, platform, lease, deepest - 1)
            # An index's other platforms may come later: an edge to what is not there does no harm.
            self._put(data, described, lease, [one.digest for one in found.manifests])
            return described, manifest
        for layer in found.layers:
            documents.compression(layer)  # refused before anything of it is brought in
        needs = [found.config.digest, *(layer.digest for layer in found.layers)]
        self._put(data, described, lease, needs)
        return described, described

    def _known(self, target: str, lease: Lease) -> tuple[bytes, Descriptor] | None:
        """A document that is there, if it was asked for by its digest."""
        if ":" not in target or not self._blobs.hold(target, lease):
            return None
        data = self._blobs.read(target, documents.LARGEST_DOCUMENT)
        return data, Descriptor(documents.parse(data).media_type, target, len(data))

    def _put(self, data: bytes, described: Descriptor, lease: Lease, needs: list[str]) -> None:
        with self._blobs.ingest(described.digest, len(data), lease) as ingest:
            if not ingest.whole:
                self._new = True
                ingest.restart()
                ingest.write(data)
            ingest.commit(described.media_type, lease, needs)

    def _layers(self, manifest: Manifest, lease: Lease) -> None:
        """The configuration and all layers, the largest first: the last to be whole should not be the last to begin."""
        unique = {one.digest: one for one in (manifest.config, *manifest.layers)}
        wanted = sorted(unique.values(), key=lambda one: one.size, reverse=True)
        if wanted and wanted[0].size > LARGEST_LAYER:
            raise DocumentError(f"layer {wanted[0].digest} has {wanted[0].size} bytes, more than {LARGEST_LAYER}")
        for one in wanted:
            self._progress(one, "waiting", one.size)
        with ThreadPoolExecutor(AT_ONCE, "pull") as pool:
            running = [pool.submit(self._blob, one, lease) for one in wanted]
            done, waiting = wait(running, return_when=FIRST_EXCEPTION)
            if waiting:
                self._stopped.set()
                for future in waiting:
                    future.cancel()
            # The failure that stopped the others, not what stopping did to them.
            failures = [future.exception() for future in done if not future.cancelled()]
        for failure in failures:
            if failure is not None:
                raise failure

    def _blob(self, descriptor: Descriptor, lease: Lease) -> None:
        if self._blobs.hold(descriptor.digest, lease):
            self._progress(descriptor, "there", descriptor.size)
            self._whole(descriptor)
            return
        with self._blobs.ingest(descriptor.digest, descriptor.size, lease) as ingest:
            if not ingest.whole:
                self._new = True
                if ingest.offset:
                    self._progress(descriptor, "bytes", ingest.offset)
                if self._work is not None:
                    self._work.coming(descriptor, ingest.part)
                self._repository.blob(descriptor, ingest, lambda size: self._came(descriptor, size))
            ingest.commit(descriptor.media_type, lease)
        self._progress(descriptor, "whole", descriptor.size)
        self._whole(descriptor)

    def _whole(self, descriptor: Descriptor) -> None:
        if self._work is not None:
            self._work.whole(descriptor, self._blobs.path(descriptor.digest))

    def _came(self, descriptor: Descriptor, size: int) -> None:
        if self._work is not None and self._work.failure is not None:
            raise self._work.failure
        if self._stopped.is_set():
            raise ManagerError("the pull was ended by another layer's failure")
        self._progress(descriptor, "bytes", size)
