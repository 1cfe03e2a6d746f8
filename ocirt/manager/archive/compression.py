"""Layers, unpacked as they are read: gzip (by isal, three times as fast as zlib; estargz is gzip), zstd, or plain.

What comes out is hashed (the DiffID, image-spec's config.md), counted, and bounded: a bomb is an archive that grows
without end from next to nothing.
"""

from __future__ import annotations

from typing import Protocol

from ocirt.manager import digest as digests
from ocirt.manager.archive.reader import Stream
from ocirt.manager.errors import ArchiveError, LimitError

CHUNK = 256 << 10
MOST_RATIO = {"": 1, "gzip": 1100, "zstd": 40_000}
"""How many bytes may come out of one: of zeros, deflate makes 1,030 to 1, and zstd some 30,000."""
FREE = 64 << 20
"""Bytes for which the ratio is not looked at: an empty file system of zeros is no bomb."""


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class Unpacking:
    """A compressed stream as its content. `read` gives up to `size` bytes, and none only at the end.

    compression   "", "gzip" or "zstd"
    most          bytes of content that are accepted
    algorithm     of the digest of the content

    Several gzip members, or zstd frames, behind each other are one stream (RFC 1952, RFC 8878); anything else behind
    the end is an error. Raises ArchiveError, LimitError.
    """

    def __init__(self, stream: Stream, compression: str, most: int, algorithm: str = "sha256") -> None:
        self._stream = stream
        self._make = {"": None, "gzip": _gzip, "zstd": _zstd}[compression]
        self._decoder = self._make() if self._make else None
        self._compression = compression
        self._pending = b""
        self._ended = False
        self._algorithm = algorithm
        self._hash = digests.start(algorithm)
        self._most = most
        self.taken = 0
        self.given = 0

    @property
    def diff_id(self) -> str:
        """The digest of what was read so far."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def read(self, size: int, /) -> bytes:
        """The next bytes of content."""
        data = self._more(size) if self._decoder else self._take(size)
        self._hash.update(data)
        self.given += len(data)
        if self.given > self._most:
            raise LimitError(f"the layer has more than {self._most} bytes of content")
        most = MOST_RATIO[self._compression]
        if self.given > FREE and self.given > self.taken * most:
            raise LimitError(f"the layer's {self._compression} grows more than {most} times: a bomb")
        return data

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.taken += len(data)
        return data

    def _more(self, size: int) -> bytes:
        assert self._decoder
        while True:
            if self._decoder.eof and not self._follows():
                return b""
            try:
                data = self._decoder.decompress(self._pending, size)
            except Exception as error:  # each library has its own, and none a common base
                raise ArchiveError(f"the layer's {self._compression} is damaged: {error}") from error
            self._pending = b""
            if data:
                return data
            if self._decoder.eof:
                continue
            self._pending = self._take(CHUNK)
            if not self._pending and self._needs_input():
                raise ArchiveError(f"the layer's {self._compression} ends in the middle")

    def _needs_input(self) -> bool:
        return bool(getattr(self._decoder, "needs_input", True))

    def _follows(self) -> bool:
        """Begin with the next member, if there is one."""
        assert self._decoder and self._make
        rest = self._decoder.unused_data or self._take(CHUNK)
        if self._compression == "gzip":
            rest = rest.lstrip(b"\0")  # padding, which gzip(1) ignores too
            while not rest and (rest := self._take(CHUNK)):
                rest = rest.lstrip(b"\0")
        if not rest:
            return False
        self._decoder = self._make()
        self._pending = rest
        return True


def _gzip() -> _Decoder:
    from isal import igzip_lib

    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _zstd() -> _Decoder:
    from backports import zstd

    # A window of 128 MiB at most, which is what `zstd --long` needs; a larger one would be taken from our memory.
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27})
