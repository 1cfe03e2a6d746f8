"""Compressed layers: what honest programs write comes out, damage is an error, and a bomb does not go off."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable

import pytest
from backports import zstd

from ocirt.manager.archive import compression
from ocirt.manager.archive.compression import Unpacking
from ocirt.manager.errors import ArchiveError, LimitError

DATA = os.urandom(300_000) + bytes(2_000_000) + b"text " * 50_000
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress, "": bytes}
KINDS = pytest.mark.parametrize("kind", ["gzip", "zstd"])


def content(packed: bytes, kind: str, *, most: int = 1 << 40, size: int = 100_000) -> bytes:
    unpacking = Unpacking(io.BytesIO(packed), kind, most)
    out = b"".join(iter(lambda: unpacking.read(size), b""))
    assert unpacking.diff_id == f"sha256:{hashlib.sha256(out).hexdigest()}"
    assert (unpacking.given, unpacking.taken) == (len(out), len(packed))
    return out


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("data", [DATA, b"", b"x"], ids=["much", "nothing", "one byte"])
def test_what_was_packed_comes_out(kind: str, data: bytes) -> None:
    assert content(PACK[kind](data), kind) == data


@KINDS
def test_pieces_are_no_larger_than_asked_for(kind: str) -> None:
    unpacking = Unpacking(io.BytesIO(PACK[kind](DATA)), kind, 1 << 40)
    sizes = [len(piece) for piece in iter(lambda: unpacking.read(4096), b"")]
    assert max(sizes) <= 4096
    assert sum(sizes) == len(DATA)


@KINDS
def test_several_behind_each_other_are_one(kind: str) -> None:
    """As pigz, estargz and zstd:chunked write them."""
    pack = PACK[kind]
    assert content(pack(b"a" * 100_000) + pack(b"") + pack(DATA) + pack(b"z"), kind) == b"a" * 100_000 + DATA + b"z"


def test_zeros_behind_gzip_are_padding() -> None:
    assert content(gzip.compress(b"abc") + bytes(100_000), "gzip") == b"abc"
    assert content(gzip.compress(b"abc") + bytes(700) + gzip.compress(b"def"), "gzip") == b"abcdef"


@KINDS
def test_a_stream_that_ends_early_is_an_error(kind: str) -> None:
    packed = PACK[kind](DATA)
    for cut in (1, 5, 17, len(packed) // 2, len(packed) - 4, len(packed) - 1):
        with pytest.raises(ArchiveError, match="ends in the middle"):
            content(packed[:cut], kind)
    with pytest.raises(ArchiveError, match="ends in the middle"):
        content(b"", kind)


@KINDS
def test_damage_is_noticed(kind: str) -> None:
    packed = bytearray(PACK[kind](b"some text" * 100) if kind == "gzip" else _with_checksum(b"some text" * 100))
    for at in range(len(packed)):
        if kind == "gzip" and 3 < at < 10:
            continue  # time, flags for the reader and the system: nothing depends on them
        damaged = bytearray(packed)
        damaged[at] ^= 0x10
        try:
            out = content(bytes(damaged), kind)
        except (ArchiveError, LimitError):
            continue
        assert out == b"some text" * 100, at


def _with_checksum(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


@KINDS
@pytest.mark.parametrize("junk", [b"junk", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
def test_what_follows_must_be_of_the_same_kind(kind: str, junk: bytes) -> None:
    with pytest.raises(ArchiveError):
        content(PACK[kind](b"abc") + junk, kind)


@KINDS
def test_another_kind_is_an_error(kind: str) -> None:
    with pytest.raises(ArchiveError, match=f"{kind} is damaged"):
        content(PACK["zstd" if kind == "gzip" else "gzip"](b"abc"), kind)


def test_a_bomb_does_not_go_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio is looked at once a layer is large: here from a megabyte on, with a ratio that zeros exceed."""
    monkeypatch.setattr(compression, "FREE", 1 << 20)
    monkeypatch.setattr(compression, "MOST_RATIO", {"gzip": 500, "zstd": 500})
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    with pytest.raises(LimitError, match="a bomb"):
        content(bomb, "gzip")
    with pytest.raises(LimitError, match="a bomb"):
        content(zstd.compress(bytes(64 << 20)), "zstd")


@pytest.mark.parametrize("kind", PACK)
def test_more_content_than_is_accepted_is_refused(kind: str) -> None:
    with pytest.raises(LimitError, match="more than 1000 bytes"):
        content(PACK[kind](bytes(1001)), kind, most=1000)


def test_a_window_that_would_take_all_memory_is_refused() -> None:
    packed = zstd.compress(os.urandom(1000), options={zstd.CompressionParameter.window_log: 31,
                                                      zstd.CompressionParameter.content_size_flag: 0})  # fmt: skip
    large = bytearray(packed)
    large[5] = (31 - 10) << 3  # the window descriptor: 2 GiB (RFC 8878, 3.1.1.1.2)
    with pytest.raises(ArchiveError):
        content(bytes(large), "zstd")
