"""GET and HEAD of blobs and manifests ("Pull"), and of lists ("Content Discovery")."""

from __future__ import annotations

import json
import re
from urllib.parse import urlencode

from ocirt.manager import documents, names
from ocirt.manager.errors import GrammarError, MissingError
from ocirt.manager.registry.server.messages import Answer, Part, Request
from ocirt.manager.registry.server.problems import Problem
from ocirt.manager.registry.server.repositories import Content, Page
from ocirt.manager.registry.server.service import Call, unauthorized

MOST_TAGS = 10_000
MOST_NAMES = 1000
"""Entries of one page, whatever is asked for."""
_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
JSON = ("Content-Type", "application/json")


async def ping(call: Call) -> Answer:
    """ "Determining Support". Clients learn here that they have to log in: with passwords, all of them."""
    if not (call.service.access.open or call.caller.name):
        raise unauthorized("log in")
    return Answer(200, [JSON], b"{}")


async def blob(call: Call) -> Answer:
    """All of a blob, or a range of it."""
    call.may_read()
    digest = call.digest()
    service = call.service
    found = await service.run(service.repositories.blob, call.repository, digest)
    headers = _described(found)
    headers += [("Accept-Ranges", "bytes"), ("Cache-Control", "private, max-age=31536000, immutable")]
    if call.request.method == "HEAD":
        if call.caller.may_write(call.repository):
            await service.run(service.repositories.promise, call.repository, digest)
        return Answer(200, headers, size=found.size)
    if _not_modified(call.request, digest):
        return Answer(304, headers)
    start, end = _asked(call.request, found)
    status = 200
    if (start, end) != (0, found.size):
        status = 206
        headers.append(("Content-Range", f"bytes {start}-{end - 1}/{found.size}"))
    try:
        file = await service.run(service.site.blobs.open, digest, undo=lambda file: file.close())
    except MissingError as error:
        raise Problem("BLOB_UNKNOWN", f"{call.repository} has no blob {digest}") from error
    if start == end:
        file.close()
        return Answer(status, headers)
    return Answer(status, headers, Part(file, start, end - start))


def _described(found: Content) -> list[tuple[str, str]]:
    return [
        ("Content-Type", found.media_type),
        ("Docker-Content-Digest", found.digest),
        ("ETag", f'"{found.digest}"'),
    ]


def _not_modified(request: Request, digest: str) -> bool:
    tags = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return f'"{digest}"' in tags or tags == ["*"]


def _asked(request: Request, found: Content) -> tuple[int, int]:
    """From where to where: of one range; what is none, or several, counts as all (RFC 9110, 14.2). Raises Problem."""
    whole = 0, found.size
    condition = request.headers.get("if-range", "")
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if match is None or match.group() == "bytes=-" or (condition and condition != f'"{found.digest}"'):
        return whole
    first, last = match.groups()
    if not first:
        start, end = max(0, found.size - int(last)), found.size
    else:
        start, end = int(first), min(int(last) + 1 if last else found.size, found.size)
        if last and int(last) < int(first):
            return whole
    if start >= found.size or start >= end:
        said = [("Content-Range", f"bytes */{found.size}")]
        raise Problem("SIZE_INVALID", f"the blob has {found.size} bytes", status=416, headers=said)
    return start, end


async def manifest(call: Call) -> Answer:
    """A manifest's bytes, as they were pushed."""
    call.may_read()
    target = tag_or_digest(call)
    service = call.service
    found = await service.run(service.repositories.manifest, call.repository, target)
    headers = _described(found)
    if call.request.method == "HEAD":
        return Answer(200, headers, size=found.size)
    if _not_modified(call.request, found.digest):
        return Answer(304, headers)
    try:
        data = await service.run(service.site.blobs.read, found.digest, documents.LARGEST_DOCUMENT)
    except MissingError as error:
        raise Problem("MANIFEST_UNKNOWN", f"{call.repository} has no manifest {target}") from error
    return Answer(200, headers, data)


def tag_or_digest(call: Call) -> str:
    """Raises Problem."""
    if ":" in call.target:
        return call.digest()
    try:
        return names.tag(call.target)
    except GrammarError as error:
        raise Problem("MANIFEST_INVALID", error.message, hint=error.hint) from error


# Lists.


async def tags(call: Call) -> Answer:
    """ "Listing Tags"."""
    call.may_read()
    most = _most(call.request, MOST_TAGS)
    service = call.service
    page = await service.run(service.repositories.tags, call.repository, most, call.request.parameter("last"))
    body = json.dumps({"name": call.repository, "tags": page.entries}).encode()
    return Answer(200, [JSON, *_more(f"{call.path}/tags/list", page, most)], body)


async def catalog(call: Call) -> Answer:
    """The repositories that the caller may read; distribution's own, and clients ask for it."""
    if not (call.service.access.open or call.caller.name or call.caller.may_anything):
        raise unauthorized("log in")
    most = _most(call.request, MOST_NAMES)
    page = await call.service.run(_readable, call, call.request.parameter("last"), most)
    return Answer(200, [JSON, *_more("/v2/_catalog", page, most)], json.dumps({"repositories": page.entries}).encode())


def _readable(call: Call, after: str, most: int) -> Page:
    entries: list[str] = []
    if most:
        for name in call.service.repositories.names(after):
            if call.caller.may_read(name):
                if len(entries) == most:
                    return Page(entries, entries[-1])
                entries.append(name)
    return Page(entries, "")


async def referrers(call: Call) -> Answer:
    """ "Listing Referrers"; in pages, for a client takes no document of more than 4 MiB."""
    call.may_read()
    digest = call.digest()
    artifact_type = call.request.parameter("artifactType")
    service, last = call.service, call.request.parameter("last")
    found, more = await service.run(service.repositories.referrers, call.repository, digest, artifact_type, last)
    headers = [("Content-Type", documents.OCI_INDEX)]
    if artifact_type:
        headers.append(("OCI-Filters-Applied", "artifactType"))
    if more:
        query = {"last": more} | ({"artifactType": artifact_type} if artifact_type else {})
        headers.append(_link(f"{call.path}/referrers/{digest}", query))
    body = f'{{"schemaVersion":2,"mediaType":"{documents.OCI_INDEX}","manifests":[{",".join(found)}]}}'
    return Answer(200, headers, body.encode())


def _most(request: Request, largest: int) -> int:
    """The parameter `n`. Raises Problem."""
    text = request.parameter("n")
    if not text:
        return largest
    if not (text.isascii() and text.isdecimal()):
        raise Problem("UNSUPPORTED", f"n={text[:20]} is no number of entries")
    return min(int(text[:9]), largest)


def _more(path: str, page: Page, most: int) -> list[tuple[str, str]]:
    return [_link(path, {"n": str(most), "last": page.last})] if page.last else []


def _link(path: str, query: dict[str, str]) -> tuple[str, str]:
    """To the next page (RFC 8288)."""
    return "Link", f'<{path}?{urlencode(query)}>; rel="next"'
