"""Requests and answers, as the handlers see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit

from ocirt.manager.registry.server.problems import Problem

MOST_PARAMETERS = 100


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a file as the body of an answer; the file is closed when they are sent."""

    file: BinaryIO
    offset: int
    size: int


@dataclass(slots=True)
class Answer:
    """size: of the body that a GET would have, where the body is left out (HEAD)."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | Part = b""
    size: int | None = None


@dataclass(slots=True)
class Request:
    """One request.

    segments   of the path, decoded: ["v2", "a", "b", "tags", "list"]
    headers    by their names in lowercase; of those that came several times the last
    length     of the body, or None where it is sent in chunks
    pieces     the body; may be called once
    """

    method: str
    target: str
    headers: dict[str, str]
    length: int | None
    pieces: Callable[[], AsyncIterator[bytes]]
    segments: list[str] = field(default_factory=list)
    query: dict[str, list[str]] = field(default_factory=dict)

    def parse(self) -> None:
        """The target's parts. Raises Problem."""
        try:
            parts = urlsplit(self.target if not self.target.startswith("//") else "/" + self.target.lstrip("/"))
            self.segments = [unquote(one, errors="strict") for one in parts.path.split("/")[1:]]
            pairs = parse_qsl(
                parts.query, keep_blank_values=True, strict_parsing=False, errors="strict",
                max_num_fields=MOST_PARAMETERS,
            )  # fmt: skip
        except ValueError as error:  # UnicodeDecodeError too
            raise Problem("UNSUPPORTED", f"the target cannot be read: {error}") from error
        if any("/" in one or "\0" in one for one in self.segments):
            raise Problem("NAME_INVALID", "a part of the path has a slash or a NUL in it")
        self.query = {}
        for name, value in pairs:
            self.query.setdefault(name, []).append(value)

    def parameter(self, name: str) -> str:
        """The last value of a query's parameter, or ""."""
        return self.query.get(name, [""])[-1]

    @property
    def has_body(self) -> bool:
        """Whether there may be bytes in it."""
        return self.length is None or self.length > 0

    async def read(self, most: int) -> bytes:
        """All of a small body. Raises Problem where it is larger."""
        too_large = Problem("SIZE_INVALID", f"the body is larger than {most} bytes", status=413)
        if self.length is not None and self.length > most:
            raise too_large
        content = bytearray()
        async for piece in self.pieces():
            content += piece
            if len(content) > most:
                raise too_large
        return bytes(content)
