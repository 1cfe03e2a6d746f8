"""save: images as a file.

"oci"      an OCI layout with all blobs as they are in the store, so that every digest stays; and docker's manifest.json
           beside it, by which `docker load` reads the same blobs
"docker"   what `docker save` writes: layers as plain tars, whose digests the configuration has (diff_ids). A manifest's
           digest does not survive, an image's id does

The same images in the same order are the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.archive import reader
from ocirt.manager.archive.compression import Unpacking
from ocirt.manager.archive.reader import Entry, Stream
from ocirt.manager.archive.writer import Out, Writer
from ocirt.manager.archives.contents import MOST_BYTES
from ocirt.manager.archives.layout import DEEPEST_INDEX, IMAGE_NAME, REF_NAME, blob_name
from ocirt.manager.documents import Descriptor, Index, Manifest, Platform
from ocirt.manager.errors import ConflictError, DigestError, DocumentError, GrammarError, MissingError
from ocirt.manager.images import configuration
from ocirt.manager.site import Site
from ocirt.manager.store.leases import Lease

CHUNK = 1 << 20
VERSION = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(slots=True)
class Wanted:
    """One image: what its names stand for, and the platform's own manifest."""

    target: Descriptor
    names: list[str]
    manifest: Manifest


class Checked:
    """A blob as a stream whose digest is checked at its end: what is damaged on the disk does not leave the store."""

    def __init__(self, stream: Stream, digest: str, size: int) -> None:
        self._stream = stream
        self._checking = digests.Checking(digest, size)

    def read(self, size: int, /) -> bytes:
        """Raises DigestError."""
        data = self._stream.read(size)
        self._checking.update(data)
        if self._checking.seen == self._checking.size:
            self._checking.finish()
        return data


class Selection:
    """The images that were asked for, all of whose blobs are there and stay for as long as the lease lives.

    blobs   what a layout of them has, {digest: descriptor}, documents first
    """

    def __init__(self, site: Site, lease: Lease, platform: Platform | None) -> None:
        self._site = site
        self._lease = lease
        self._platform = platform
        self.images: list[Wanted] = []
        self.blobs: dict[str, Descriptor] = {}

    def add(self, text: str) -> None:
        """By a name, or by an id, which saves the image without its names. Raises MissingError, DocumentError."""
        image = self._site.images.find(text)
        target = image.target
        if self._platform is not None:
            _, target = self._site.images.manifest(target, self._platform)
        found = next((one for one in self.images if one.target.digest == target.digest), None)
        if found is None:
            manifests: list[tuple[Manifest, Platform | None]] = []
            self._document(target, manifests, DEEPEST_INDEX)
            found = Wanted(target, [], _own(manifests, self._platform or documents.host_platform(), text))
            self.images.append(found)
        if image.named and _names(text, image.name) and image.name not in found.names:
            found.names.append(image.name)

    def _document(self, one: Descriptor, manifests: list[tuple[Manifest, Platform | None]], deepest: int) -> None:
        if not deepest:
            raise DocumentError(f"{one.digest}: an index in an index in an index …")
        self._need(one)
        data = self._site.blobs.read(one.digest, documents.LARGEST_DOCUMENT)
        found = documents.parse(data, one.media_type, what=f"manifest {one.digest}")
        if isinstance(found, Index):
            for child in found.manifests:
                if not self._there(child):
                    continue
                if child.media_type in documents.MANIFESTS | documents.INDEXES:
                    self._document(child, manifests, deepest - 1)
                else:
                    self._need(child)
            return
        for needed in (found.config, *found.layers):
            self._need(needed)
        manifests.append((found, one.platform))

    def _there(self, child: Descriptor) -> bool:
        """Whether all of it is: the documents of a platform may have come without its layers."""
        if self._site.blobs.size(child.digest) is None:
            return False
        edges = self._site.database.read.execute("select child from edges where parent = ?", (child.digest,))
        if child.media_type in documents.INDEXES:
            return True
        return all(self._site.blobs.size(needed) is not None for (needed,) in edges.fetchall())

    def _need(self, one: Descriptor) -> None:
        if one.digest not in self.blobs and not self._site.blobs.hold(one.digest, self._lease):
            raise MissingError(f"{one.digest} ({one.media_type}) is not here", hint="ocim pull brings it again")
        self.blobs.setdefault(one.digest, one)


def save(site: Site, texts: Sequence[str], out: Out, format: str = "oci", platform: Platform | None = None) -> None:
    """Write images as a tar. platform: of an index that one alone.

    Raises MissingError, DocumentError, DigestError, GrammarError; nothing was written before all is known to be there.
    """
    if format not in ("oci", "docker"):
        raise GrammarError(f"{format!r} is no format of archives", hint="oci or docker")
    with Lease(site.database) as lease:
        selection = _select(site, lease, texts, platform)
        writer = Writer(out)
        if format == "oci":
            _write_layout(site, selection, writer)
        else:
            _write_docker(site, selection, writer)
        writer.close()


def save_folder(site: Site, texts: Sequence[str], folder: Path, platform: Platform | None = None) -> None:
    """Write images as an OCI layout in a folder that is empty or not there. Raises ConflictError, and what `save`
    does.
    """
    with Lease(site.database) as lease:
        selection = _select(site, lease, texts, platform)
        folder.mkdir(parents=True, exist_ok=True)
        if os.listdir(folder):
            raise ConflictError(f"{folder} is not empty")
        for one in selection.blobs.values():
            path = folder / blob_name(one.digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file, site.blobs.open(one.digest) as blob:
                stream = Checked(blob, one.digest, one.size)
                while piece := stream.read(CHUNK):
                    file.write(piece)
        (folder / "oci-layout").write_bytes(VERSION)
        (folder / "index.json").write_bytes(_index(selection))  # last: without it there is no layout


def _select(site: Site, lease: Lease, texts: Iterable[str], platform: Platform | None) -> Selection:
    selection = Selection(site, lease, platform)
    for text in texts:
        selection.add(text)
    if not selection.images:
        raise MissingError("no image was named")
    return selection


def _index(selection: Selection) -> bytes:
    """An entry for each name; images without one have an entry of their own."""
    entries = []
    for image in selection.images:
        entry = image.target.as_json()
        entry.pop("annotations", None)
        entry.pop("platform", None)
        named = [entry | {"annotations": {IMAGE_NAME: name, REF_NAME: name}} for name in image.names]
        entries += named or [entry]
    return documents.encode({"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": entries})


def _write_layout(site: Site, selection: Selection, writer: Writer) -> None:
    writer.put(b"oci-layout", VERSION)
    writer.put(b"index.json", _index(selection))
    manifest = [
        {
            "Config": blob_name(image.manifest.config.digest),
            "RepoTags": image.names or None,
            "Layers": [blob_name(layer.digest) for layer in image.manifest.layers],
        }
        for image in selection.images
    ]
    writer.put(b"manifest.json", documents.encode(manifest))
    for folder in sorted({b"blobs/", *(blob_name(one).rpartition("/")[0].encode() + b"/" for one in selection.blobs)}):
        entry = Entry()
        entry.kind, entry.name, entry.mode = reader.FOLDER, folder, 0o755
        writer.add(entry)
    for one in selection.blobs.values():
        with site.blobs.open(one.digest) as stream:
            _add(writer, blob_name(one.digest), one.size, Checked(stream, one.digest, one.size))


def _write_docker(site: Site, selection: Selection, writer: Writer) -> None:
    """Layers by their diff_id: one that several images share, however compressed, is there once."""
    layers: dict[str, Descriptor] = {}
    configs: dict[str, Descriptor] = {}
    manifest = []
    for image in selection.images:
        config = image.manifest.config
        diff_ids = configuration.read(site.blobs, config).diff_ids
        if len(diff_ids) != len(image.manifest.layers):
            raise DocumentError(f"configuration {config.digest} has {len(diff_ids)} layers, its manifest others")
        configs[config.digest] = config
        layers |= dict(zip(diff_ids, image.manifest.layers, strict=True))
        manifest.append(
            {
                "Config": _hex(config.digest) + ".json",
                "RepoTags": image.names or None,
                "Layers": [_hex(diff_id) + ".tar" for diff_id in diff_ids],
            }
        )
    sizes = {diff_id: _plain_size(site, layer, diff_id) for diff_id, layer in layers.items()}
    writer.put(b"manifest.json", documents.encode(manifest))
    for config in configs.values():
        writer.put(f"{_hex(config.digest)}.json".encode(), site.blobs.read(config.digest, documents.LARGEST_DOCUMENT))
    for diff_id, layer in layers.items():
        with site.blobs.open(layer.digest) as stream:
            plain = Unpacking(stream, documents.compression(layer), MOST_BYTES)
            _add(writer, f"{_hex(diff_id)}.tar", sizes[diff_id], Checked(plain, diff_id, sizes[diff_id]))


def _plain_size(site: Site, layer: Descriptor, diff_id: str) -> int:
    """Bytes of a layer's tar: a header comes before what it describes, so a compressed layer is read twice."""
    kind = documents.compression(layer)
    if not kind:
        return layer.size
    with ExitStack() as stack:
        unpacking = Unpacking(stack.enter_context(site.blobs.open(layer.digest)), kind, MOST_BYTES)
        while unpacking.read(CHUNK):
            pass
    if unpacking.diff_id != diff_id:
        raise DigestError(f"layer {layer.digest} unpacks to {unpacking.diff_id} instead of {diff_id}")
    return unpacking.given


def _add(writer: Writer, name: str, size: int, stream: Stream) -> None:
    entry = Entry()
    entry.name, entry.mode, entry.size, entry.length = name.encode(), 0o644, size, size
    if writer.add(entry, stream):
        raise DigestError(f"{name} is shorter than it was")


def _own(manifests: list[tuple[Manifest, Platform | None]], wanted: Platform, text: str) -> Manifest:
    """The platform's manifest, else the first."""
    if not manifests:
        raise MissingError(f"of {text} no platform's image is here", hint=f"ocim pull {text}")
    fitting = [one for one, platform in manifests if platform in (None, wanted)]
    return (fitting or [one for one, _ in manifests])[0]


def _names(text: str, name: str) -> bool:
    """Whether an image's tag was asked for, and not its id."""
    try:
        asked, found = names.parse(text), names.parse(name)
    except GrammarError:
        return False
    return bool(found.tag) and asked.repository == found.repository and asked.tag in ("", found.tag)


def _hex(digest: str) -> str:
    return digest.partition(":")[2]
