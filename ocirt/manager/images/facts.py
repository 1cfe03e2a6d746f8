"""What is known of an image that is here: its manifest, configuration, sizes, and when it was made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ocirt.manager import documents
from ocirt.manager.documents import Descriptor, Index, Manifest, Platform
from ocirt.manager.images import configuration
from ocirt.manager.images.configuration import Configuration
from ocirt.manager.site import Site

DEEPEST_INDEX = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """One platform's image.

    id         digest of its configuration: docker's and podman's "image id"
    target     what its name stands for; described: its manifest
    """

    target: Descriptor
    described: Descriptor
    manifest: Manifest
    configuration: Configuration

    @property
    def id(self) -> str:
        return self.manifest.config.digest

    @property
    def created(self) -> int:
        """Nanoseconds since 1970, or 0 where the configuration does not say."""
        return nanoseconds(self.configuration.document.get("created") or "")


def of(site: Site, target: Descriptor, platform: Platform | None = None) -> Facts:
    """Of what a name stands for: the host's image (or another platform's), else of an index the first that is here.

    Raises MissingError, DocumentError, DigestError.
    """
    wanted = platform or documents.host_platform()
    fitting = None
    for described, manifest, said in _manifests(site, target, DEEPEST_INDEX):
        if fitting is None or said == wanted:
            fitting = described, manifest
            if platform is None and said in (None, wanted):
                break
    if fitting is None or (platform is not None and target.media_type in documents.INDEXES):
        manifest, described = site.images.manifest(target, wanted)
        fitting = described, manifest
    described, manifest = fitting
    return Facts(target, described, manifest, configuration.read(site.blobs, manifest.config))


def _manifests(site: Site, target: Descriptor, deepest: int) -> Iterator[tuple[Descriptor, Manifest, Platform | None]]:
    """Those that are here with their configuration; attestations are none."""
    data = site.blobs.read(target.digest, documents.LARGEST_DOCUMENT)
    found = documents.parse(data, target.media_type, what=f"manifest {target.digest}")
    if isinstance(found, Manifest):
        if deepest == DEEPEST_INDEX or site.blobs.size(found.config.digest) is not None:
            yield target, found, target.platform
        return
    assert isinstance(found, Index)
    for child in found.manifests if deepest else ():
        unknown = child.platform is not None and child.platform.os == "unknown"
        known = child.media_type in documents.MANIFESTS | documents.INDEXES
        if known and not unknown and site.blobs.size(child.digest) is not None:
            yield from _manifests(site, child, deepest - 1)


def layer_sizes(site: Site, facts: Facts) -> list[int]:
    """Bytes of each layer, lowest first: of its files where it is unpacked, else of its blob.

    With drivers that copy the layers below, a snapshot's size is that of all up to it.
    """
    rows = site.database.read.execute("select name, size from snapshots where not dead").fetchall()
    unpacked = {str(name): int(size) for name, size in rows}
    sizes = []
    below = 0
    for layer, plain, chained in zip(facts.manifest.layers, *_names(facts.configuration.diff_ids), strict=True):
        if plain in unpacked:
            sizes.append(unpacked[plain])
        elif chained in unpacked:
            sizes.append(max(0, unpacked[chained] - below))
            below = unpacked[chained]
        else:
            sizes.append(layer.size)
    return sizes


def _names(diff_ids: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from ocirt.manager.snapshots import layers

    return layers.names(diff_ids, False), layers.names(diff_ids, True)


def nanoseconds(text: str) -> int:
    """Of a time as RFC 3339 has it, "2020-01-02T03:04:05.000000006Z"; 0 where it is none, for it is only shown."""
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    zone = rest[len(digits) :] if dot else ""
    try:
        moment = datetime.fromisoformat(whole + zone)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        return 0
    return int(moment.timestamp()) * 1_000_000_000 + int(digits[:9].ljust(9, "0") or 0)
