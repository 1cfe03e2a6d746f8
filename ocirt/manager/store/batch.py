"""What comes into the store together: blobs that lie in the staging area, and names."""

from __future__ import annotations

from dataclasses import dataclass, field

from ocirt.manager.documents import Descriptor
from ocirt.manager.store.blobs import Blobs
from ocirt.manager.store.database import Database
from ocirt.manager.store.images import Images
from ocirt.manager.store.staging import Piece


@dataclass(slots=True)
class Batch:
    """All of it, or nothing.

    blobs    {digest: (its file, its media type, digests of what it needs)}
    names    (name, or "" for an image that is kept by its digest, and what it stands for)
    """

    blobs: dict[str, tuple[Piece, str, tuple[str, ...]]] = field(default_factory=dict)
    names: list[tuple[str, Descriptor]] = field(default_factory=list)

    def add(self, piece: Piece, media_type: str, needs: tuple[str, ...] = ()) -> Descriptor:
        """A blob that comes. Who calls the same bytes two things takes nothing away from what they need."""
        before = self.blobs[piece.digest][2] if piece.digest in self.blobs else ()
        self.blobs[piece.digest] = (piece, media_type, (*before, *needs))
        return Descriptor(media_type, piece.digest, piece.size)

    def commit(self, database: Database, blobs: Blobs, images: Images) -> None:
        """In one transaction. What is needed and not in the batch has to be held by a lease, or by what it is for."""
        with database.write() as transaction:
            for piece, media_type, needs in self.blobs.values():
                blobs.adopt(transaction, piece.path, piece.digest, piece.size, media_type, needs)
            for name, target in self.names:
                images.set(transaction, name or target.digest, target)
