"""Puts a picture of a program's memory in place of the data that it was linked with (launcher/embedded.c).

The program's writable segment (elf(5)) is the last that is loaded; what follows it in the file, sections, nothing reads
that runs it. So the file ends with the picture. What comes before the picture in the segment, the tables that ld.so
fills, stays as it was linked.
"""

from __future__ import annotations

import struct

_LOAD, _WRITABLE = 1, 2
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")


def with_picture(program: bytes, picture: bytes) -> bytes:
    """`program`: a 64-bit little-endian ELF executable that is linked to a fixed address; `picture`: the address at
    which it begins (u64), then the memory up to the end of the segment."""
    header = list(_HEADER.unpack_from(program))
    segments_at, number = header[5], header[10]
    segments = [list(_SEGMENT.unpack_from(program, segments_at + _SEGMENT.size * i)) for i in range(number)]
    (address,) = struct.unpack_from("<Q", picture)
    (index,) = (
        i
        for i, s in enumerate(segments)
        if s[0] == _LOAD and s[1] & _WRITABLE and s[3] <= address < s[3] + max(s[5], s[6])
    )
    segment = segments[index]
    offset, start, size = segment[2], segment[3], segment[5]
    assert all(s[2] + s[5] <= offset + size for s in segments)
    before = program[offset : offset + size][: address - start]
    content = before.ljust(address - start, b"\0") + picture[8:].rstrip(b"\0")
    segment[5] = len(content)
    header[6] = header[12] = header[13] = 0  # sections
    result = bytearray(program[:offset] + content)
    _HEADER.pack_into(result, 0, *header)
    _SEGMENT.pack_into(result, segments_at + _SEGMENT.size * index, *segment)
    return bytes(result)
