"""push: an image from the store to a registry. What the registry has is not sent; what it has elsewhere is mounted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ocirt.manager import documents
from ocirt.manager.documents import Descriptor, Index
from ocirt.manager.errors import MissingError, RegistryError
from ocirt.manager.names import Reference
from ocirt.manager.registry.client import Repository
from ocirt.manager.store.blobs import Blobs

AT_ONCE = 4
CHUNKED_FROM = 64 << 20
CHUNK = 16 << 20
"""Blobs larger than the first are sent in pieces of the second, so that a failure costs one piece."""

Progress = Callable[[Descriptor, str, int], object]
"""Is told (what, "there" | "mounted" | "bytes" | "whole", how many bytes)."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """sent: how many blobs' bytes went over the network."""

    target: Descriptor
    sent: int


class Push:
    """One push.

    sources: repositories of the same registry that may have the blobs, as paths: mounted from there.
    """

    def __init__(
        self,
        blobs: Blobs,
        repository: Repository,
        sources: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> None:
        self._blobs = blobs
        self._repository = repository
        self._sources = tuple(sources)
        self._progress = progress or (lambda what, event, size: None)
        self._sent = 0

    def run(self, target: Descriptor, reference: Reference) -> Pushed:
        """Send all that a manifest or index needs, then itself, under the reference's tag. Raises what the registry and
        the store raise."""
        self._document(target, reference.tag or target.digest)
        return Pushed(target, self._sent)

    def _document(self, target: Descriptor, name: str) -> None:
        data = self._blobs.read(target.digest, documents.LARGEST_DOCUMENT)
        found = documents.parse(data, target.media_type, what=f"manifest {target.digest}")
        if isinstance(found, Index):
            for one in found.manifests:
                if self._blobs.size(one.digest) is None:
                    what = str(one.platform or one.digest)
                    hint = "ocim pull --platform brings it; or push the manifest of one platform alone"
                    raise MissingError(f"the index's image for {what} is not here", hint=hint)
                self._document(one, one.digest)
        else:
            unique = {one.digest: one for one in (found.config, *found.layers)}
            with ThreadPoolExecutor(AT_ONCE, "push") as pool:
                for _ in pool.map(self._blob, sorted(unique.values(), key=lambda one: one.size, reverse=True)):
                    pass
        self._repository.put_manifest(data, found.media_type, name)

    def _blob(self, descriptor: Descriptor) -> None:
        if self._repository.has(descriptor.digest):
            self._progress(descriptor, "there", descriptor.size)
            return
        for source in self._sources:
            try:
                if self._repository.mount(descriptor.digest, source):
                    self._progress(descriptor, "mounted", descriptor.size)
                    return
            except (RegistryError, MissingError):
                continue  # not allowed, or not known: it is sent
        self._repository.upload(
            descriptor.digest,
            descriptor.size,
            lambda: self._blobs.open(descriptor.digest),
            chunk=CHUNK if descriptor.size > CHUNKED_FROM else 0,
            progress=lambda size: self._progress(descriptor, "bytes", size),
        )
        self._sent += 1
        self._progress(descriptor, "whole", descriptor.size)
