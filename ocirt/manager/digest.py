"""Digests: names of bytes (image-spec 1.1, descriptor.md "Digests").

Only sha256 and sha512 are known, which the specification registers. A digest that comes from outside is parsed here
before it becomes part of a path, a URL or a query: its text is then known to be `ALGORITHM:LOWERCASE-HEX`.
"""

from __future__ import annotations

import hashlib

from ocirt.manager.errors import DigestError, GrammarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hash(Protocol):
        """What `hashlib` returns, as far as it is used."""

        def update(self, data: bytes, /) -> None: ...
        def hexdigest(self) -> str: ...


# Length of the hexadecimal form of each algorithm.
ALGORITHMS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


def parse(text: object) -> str:
    """The digest itself. Raises GrammarError for anything else than a registered algorithm and its hex form."""
    if isinstance(text, str):
        algorithm, _, value = text.partition(":")
        if ALGORITHMS.get(algorithm) == len(value) and _HEX.issuperset(value):
            return text
    raise GrammarError(
        f"{str(text)[:100]!r} is no digest", hint="sha256:… with 64, or sha512:… with 128 lowercase hexadecimal digits"
    )


def start(algorithm: str) -> Hash:
    """A hash that has seen nothing yet, of "sha256" or "sha512"."""
    if algorithm not in ALGORITHMS:
        raise GrammarError(f"{algorithm[:20]!r} is no digest algorithm", hint="sha256 or sha512")
    return hashlib.new(algorithm)


def of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of these bytes."""
    hashing = start(algorithm)
    hashing.update(data)
    return f"{algorithm}:{hashing.hexdigest()}"


class Checking:
    """Counts and hashes bytes as they pass; `finish` compares with what was promised.

    digest   what the bytes must have; size   their number, or -1 where nobody said.
    More bytes than promised are an error at once: an endless body is not read to its end.
    """

    def __init__(self, digest: str, size: int = -1, *, what: str = "blob") -> None:
        self.digest = parse(digest)
        self.size = size
        self.seen = 0
        self._what = what
        self._hash = start(digest.partition(":")[0])

    def update(self, data: bytes) -> None:
        """Take these bytes in. Raises DigestError where they are more than promised."""
        self.seen += len(data)
        if self.seen > self.size >= 0:
            raise DigestError(f"{self._what} {self.digest} is longer than the {self.size} bytes of its descriptor")
        self._hash.update(data)

    def finish(self) -> None:
        """Raises DigestError unless all bytes came and are the right ones."""
        if self.size >= 0 and self.seen != self.size:
            raise DigestError(f"{self._what} {self.digest} has {self.seen} bytes instead of {self.size}")
        found = f"{self.digest.partition(':')[0]}:{self._hash.hexdigest()}"
        if found != self.digest:
            raise DigestError(f"{self._what} {self.digest} has the digest {found}")
