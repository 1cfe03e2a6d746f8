"""Puts a picture of a program's memory in place of the data that it was linked with (launcher/embedded.c).

The program's writable segment (elf(5)) is written anew behind the file's end, and its program header changed to point
there. What comes before the picture in it, the tables that ld.so fills, stays as it was linked.
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
    memory = picture[8:].rstrip(b"\0")
    (segment,) = (
        s for s in segments if s[0] == _LOAD and s[1] & _WRITABLE and s[3] <= address < s[3] + max(s[5], s[6])
    )
    old_offset, start, old_size = segment[2], segment[3], segment[5]
    before = program[old_offset : old_offset + old_size][: address - start]
    content = before.ljust(address - start, b"\0") + memory
    alignment = segment[7]
    offset = -(-len(program) // alignment) * alignment + start % alignment
    for one in segments:  # those that lie in it: what ld.so reads, and what it protects
        if one is not segment and old_offset <= one[2] < old_offset + old_size and start <= one[3] < start + old_size:
            one[2] += offset - old_offset
    segment[2], segment[5] = offset, len(content)
    header[6] = header[12] = header[13] = 0  # sections, which nothing reads that runs it
    result = bytearray(program.ljust(offset, b"\0") + content)
    _HEADER.pack_into(result, 0, *header)
    for i, one in enumerate(segments):
        _SEGMENT.pack_into(result, segments_at + _SEGMENT.size * i, *one)
    return bytes(result)
