"""Archives for the tests, made byte by byte: what honest and dishonest programs write."""

from __future__ import annotations

import io
import struct

BLOCK = 512


def header(
    name: bytes | str,
    kind: bytes = b"0",
    *,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1_000_000_000,
    target: bytes | str = b"",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
) -> bytes:
    """One header with the right checksum."""

    def octal(value: int, width: int) -> bytes:
        if value < 8 ** (width - 1):
            return b"%0*o\0" % (width - 1, value)
        return bytes([0x80]) + value.to_bytes(width - 1, "big")

    name, target = (text.encode() if isinstance(text, str) else text for text in (name, target))
    block = struct.pack(
        "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
        name,
        octal(mode, 8),
        octal(uid, 8),
        octal(gid, 8),
        octal(size, 12),
        octal(mtime, 12),
        b" " * 8,
        kind,
        target,
        magic,
        b"root",
        b"root",
        octal(device[0], 8),
        octal(device[1], 8),
        prefix,
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes | str, data: bytes = b"data", **fields: int) -> bytes:
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def folder(name: bytes | str, mode: int = 0o755, **fields: int) -> bytes:
    return header(name, b"5", mode=mode, **fields)  # type: ignore[arg-type]


def symlink(name: str, target: str) -> bytes:
    return header(name, b"2", target=target, mode=0o777)


def hard_link(name: str, target: str) -> bytes:
    return header(name, b"1", target=target)


def record(key: str | bytes, value: str | bytes) -> bytes:
    """One PAX record; its length counts itself."""
    key, value = (text.encode() if isinstance(text, str) else text for text in (key, value))
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def pax(*records: tuple[str | bytes, str | bytes], kind: bytes = b"x") -> bytes:
    return raw_pax(b"".join(record(key, value) for key, value in records), kind)


def raw_pax(data: bytes, kind: bytes = b"x") -> bytes:
    return header("PaxHeaders/x", kind, size=len(data)) + padded(data)


def long_name(name: str, kind: bytes = b"L") -> bytes:
    data = name.encode() + b"\0"
    return header("././@LongLink", kind, size=len(data)) + padded(data)


def archive(*members: bytes) -> io.BytesIO:
    return io.BytesIO(b"".join(members) + bytes(2 * BLOCK))
