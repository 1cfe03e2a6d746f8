"""pull unpacks while layers come: what it gives is what unpacking afterwards gives, whatever happens on the way."""

from __future__ import annotations

import gzip
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "registry"))
from corpus import archive, file, folder
from fake import Answer, Fake, Seen
from stored import Store

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.documents import Descriptor, Platform
from ocirt.manager.errors import ArchiveError, DigestError
from ocirt.manager.pull import Pull, Pulled
from ocirt.manager.registry.client import Client
from ocirt.manager.registry.credentials import Keychain
from ocirt.manager.store.leases import Lease

pytestmark = pytest.mark.root

LAYER = f"{documents.OCI_LAYER}+gzip"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


def layer(number: int, size: int = 1000) -> bytes:
    content = random.Random(number).randbytes(size)
    return archive(folder(f"d{number}/"), file(f"d{number}/f", content), file("all", b"%d" % number)).getvalue()


def serve(fake: Fake, layers: list[bytes], ids: list[str] | None = None) -> list[str]:
    """Have an image, "v1". Returns the digests of its blobs."""
    ids = ids or [digests.of(one) for one in layers]
    config = documents.encode({"os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}})
    blobs = [gzip.compress(one, 1, mtime=0) for one in layers]
    described = [{"mediaType": LAYER, "digest": fake.add_blob(one), "size": len(one)} for one in blobs]
    content = {
        "schemaVersion": 2,
        "mediaType": documents.OCI_MANIFEST,
        "config": {"mediaType": documents.OCI_CONFIG, "digest": fake.add_blob(config), "size": len(config)},
        "layers": described,
    }
    fake.add_manifest(content, "v1")
    return [digests.of(one) for one in blobs]


def pull(store: Store, fake: Fake, events: list[tuple[str, str, int]] | None = None) -> Pulled:
    def told(what: Descriptor, event: str, size: int) -> None:
        if events is not None:
            events.append((what.digest, event, size))

    reference = names.parse(f"{fake.host}/a:v1")
    client = Client(keychain=Keychain({"HOME": str(store.root)}), sleep=lambda seconds: None)
    try:
        repository = client.repository(reference)
        work = Pull(store.database, store.blobs, repository, told, store.snapshots)
        return work.run(reference, Platform("linux", "amd64"))
    finally:
        client.close()


def test_layers_are_unpacked_while_they_come(store: Store, fake: Fake) -> None:
    layers = [layer(1), layer(2, 9_000_000), layer(3, 2_000_000), layer(4), layer(2, 9_000_000)]
    blobs = serve(fake, layers)
    events: list[tuple[str, str, int]] = []
    pulled = pull(store, fake, events)
    assert pulled.snapshots == tuple(f"diff:{digests.of(one)}" for one in layers)
    root = store.snapshots.mount("c", pulled.snapshots)
    assert (root / "all").read_bytes() == b"2"
    assert (root / "d2/f").read_bytes() == random.Random(2).randbytes(9_000_000)
    assert sorted(path.name for path in root.iterdir()) == ["all", "d1", "d2", "d3", "d4"]
    store.snapshots.remove("c")
    assert store.folders() == store.rows() and len(store.rows()) == 4
    for blob in set(blobs):
        size = store.blobs.size(blob)
        assert sum(size for digest, event, size in events if (digest, event) == (blob, "unpacking")) == size
        assert [event for digest, event, _ in events if digest == blob].count("unpacked") == 1
    again = pull(store, fake)
    assert (again.new, again.snapshots) == (False, pulled.snapshots)
    assert store.folders() == store.rows() and len(store.rows()) == 4


def test_a_download_that_begins_anew(store: Store, fake: Fake) -> None:
    """What was unpacked of the part is nothing then."""
    one = layer(1, 6_000_000)
    (blob,) = serve(fake, [one])
    fake.ranges = False
    with store.blobs.ingest(blob, len(fake.blobs[blob])) as ingest:
        ingest.write(gzip.compress(layer(2, 3_000_000), 1)[:2_500_000])  # of another, from an earlier attempt
    pulled = pull(store, fake)
    root = store.snapshots.mount("c", pulled.snapshots)
    assert sorted(path.name for path in root.iterdir()) == ["all", "d1"]
    store.snapshots.remove("c")
    assert store.folders() == store.rows()


def test_what_goes_wrong_leaves_no_name_and_no_snapshot(store: Store, fake: Fake) -> None:
    serve(fake, [layer(1, 3_000_000), layer(2)], [digests.of(layer(1, 3_000_000)), digests.of(layer(3))])
    with pytest.raises(DigestError, match="the configuration says"):
        pull(store, fake)
    serve(fake, [layer(1, 3_000_000), b"this is no archive" * 100])
    with pytest.raises(ArchiveError):
        pull(store, fake)
    blobs = serve(fake, [layer(1, 3_000_000), layer(4, 1_000_000)])

    def refuse(seen: Seen) -> Answer | None:
        return (403, {}, b"") if blobs[1] in seen.path else None

    fake.before = refuse
    with pytest.raises(Exception, match="403"):
        pull(store, fake)
    assert list(store.images) == []
    assert store.folders() == store.rows() == set()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_unpacking_later_gives_the_same(store: Store, fake: Fake) -> None:
    serve(fake, [layer(1), layer(2)])
    pulled = pull(store, fake)
    with Lease(store.database) as lease:
        assert store.snapshots.unpack(pulled.manifest, lease) == pulled.snapshots
