"""Uploads, mounts, manifests ("Push"), and what is deleted ("Content Management")."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.errors import DigestError, DocumentError, GrammarError, LimitError
from ocirt.manager.names import LONGEST_NAME
from ocirt.manager.registry.server.messages import Answer
from ocirt.manager.registry.server.problems import Problem
from ocirt.manager.registry.server.pulling import tag_or_digest
from ocirt.manager.registry.server.repositories import Put
from ocirt.manager.registry.server.service import Call, temporary
from ocirt.manager.registry.server.uploads import CHUNK, Upload

MOST_TAGS = 50
_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")


async def begin(call: Call) -> Answer:
    """POST: an upload; or all of a small one; or a mount."""
    call.may_write()
    _pullable_name(call)
    request = call.request
    if request.parameter("mount") and await _mounted(call, call.digest(request.parameter("mount"))):
        return _created(call, "blobs", request.parameter("mount"))
    service, digest = call.service, request.parameter("digest")
    algorithm = request.parameter("digest-algorithm") or "sha256"
    if digest and not request.parameter("mount"):
        algorithm = call.digest(digest).partition(":")[0]
    try:
        upload = await service.run(service.uploads.begin, call.repository, algorithm)
    except GrammarError as error:
        raise Problem("DIGEST_INVALID", error.message, hint=error.hint) from error
    begun = Call(service, request, call.caller, call.repository, upload)
    if digest and not request.parameter("mount") and (request.has_body or digest == digests.of(b"", algorithm)):
        return await finish(begun)
    return _accepted(begun, 0)


def _pullable_name(call: Call) -> None:
    """Clients count the host's name in: what is pushed here should have a name that they can pull by."""
    host = call.request.headers.get("host", "")
    if len(host) + 1 + len(call.repository) > LONGEST_NAME:
        raise Problem("NAME_INVALID", f"with the host's, the name is longer than {LONGEST_NAME} characters")


async def _mounted(call: Call, digest: str) -> bool:
    """From the repository that the caller names, or any; only from one that they may read. A repository that they may
    not read looks like one that has not got the blob."""
    service, source = call.service, call.request.parameter("from")
    if source:
        try:
            among = [names.path(source)]
        except GrammarError as error:
            raise Problem("NAME_INVALID", error.message, hint=error.hint) from error
    else:
        among = await service.run(service.repositories.holders, digest)
    for name in among:
        if call.caller.may_read(name) and await service.run(service.repositories.mount, call.repository, digest, name):
            return True
    return False


def _created(call: Call, kind: str, digest: str) -> Answer:
    return Answer(201, [("Location", f"{call.path}/{kind}/{digest}"), ("Docker-Content-Digest", digest)])


def _accepted(call: Call, size: int, status: int = 202) -> Answer:
    """Where the upload goes on, and with which byte."""
    location = f"{call.path}/blobs/uploads/{call.target}"
    headers = [("Location", location), ("Docker-Upload-UUID", call.target), ("Range", f"0-{max(size - 1, 0)}")]
    return Answer(status, headers)


async def status(call: Call) -> Answer:
    """GET of an upload: how far it is."""
    call.may_write()
    size = await call.service.run(call.service.uploads.size, call.repository, call.target)
    return _accepted(call, size, 204)


async def cancel(call: Call) -> Answer:
    """DELETE of an upload."""
    call.may_write()
    await call.service.run(call.service.uploads.remove, call.repository, call.target)
    return Answer(204)


async def chunk(call: Call) -> Answer:
    """PATCH: the next bytes."""
    call.may_write()
    async with _held(call) as upload:
        await _append(call, upload)
        return _accepted(call, upload.size)


async def finish(call: Call) -> Answer:
    """PUT: the last bytes, if any, and the digest of all."""
    call.may_write()
    digest = call.digest(call.request.parameter("digest") or "missing")
    service = call.service
    async with _held(call) as upload:
        await _append(call, upload)
        try:
            await service.run(upload.check, digest)
            add = service.repositories.add_blob
            await service.run(add, call.repository, upload.id, upload.path, digest, upload.size)
        except DigestError as error:
            # Nobody knows which of the bytes are right.
            await service.run(service.uploads.forget, upload)
            raise Problem("DIGEST_INVALID", error.message) from error
        await service.run(service.uploads.forget, upload)
    return _created(call, "blobs", digest)


@asynccontextmanager
async def _held(call: Call) -> AsyncIterator[Upload]:
    """The upload, for this request alone."""
    service = call.service
    uploads = service.uploads
    upload = await service.run(uploads.take, call.repository, call.target, undo=uploads.give_back)
    try:
        yield upload
    finally:
        uploads.give_back(upload)


async def _append(call: Call, upload: Upload) -> None:
    """The request's body behind what came. One piece is written while the next comes. Raises Problem."""
    expected = _expected(call, upload)
    most = min(expected, call.service.limits.blob - upload.size)
    came, piece = 0, bytearray()
    writing: asyncio.Task[None] | None = None
    try:
        async for data in call.request.pieces():
            came += len(data)
            if came > most:
                raise _too_many(call, came, expected)
            piece += data
            if len(piece) >= CHUNK:
                if writing is not None:
                    await writing
                writing = asyncio.create_task(call.service.run(upload.write, bytes(piece)))
                piece.clear()
    finally:
        # What came stays, also where the connection broke: the sender asks how much it is.
        if writing is not None:
            await writing
        if piece and came <= most:
            await call.service.run(upload.write, bytes(piece))
    if came < expected and call.request.headers.get("content-range"):
        raise Problem("SIZE_INVALID", f"{came} bytes came, and Content-Range says {expected}")


def _too_many(call: Call, came: int, expected: int) -> Problem:
    if came > expected:
        return Problem("SIZE_INVALID", f"more than the {expected} bytes of Content-Range came")
    return Problem("SIZE_INVALID", f"blobs have at most {call.service.limits.blob} bytes", status=413)


def _expected(call: Call, upload: Upload) -> int:
    """How many bytes the body may have ("Pushing a blob in chunks"). Raises Problem: 416 for a chunk that is not the
    next one."""
    text, length = call.request.headers.get("content-range"), call.request.length
    if text is None:
        return length if length is not None else call.service.limits.blob
    match = _RANGE.fullmatch(text)
    if match is None:
        raise Problem("BLOB_UPLOAD_INVALID", f"Content-Range {text[:60]!r} is no FIRST-LAST")
    first, last = int(match[1]), int(match[2])
    if first != upload.size:
        message = f"the next byte is the one at {upload.size}, not {first}"
        raise Problem("BLOB_UPLOAD_INVALID", message, status=416, headers=_accepted(call, upload.size).headers)
    size = last - first + 1
    if size < 0 or (length is not None and length != size):
        raise Problem("SIZE_INVALID", f"Content-Range {text} says {size} bytes, and Content-Length {length}")
    return size


# Manifests.


async def put_manifest(call: Call) -> Answer:
    """PUT: under a tag, or under its digest and perhaps tags beside ("Pushing Manifests")."""
    call.may_write()
    _pullable_name(call)
    target, service = tag_or_digest(call), call.service
    tags = _tags(call) if ":" in target else [target]
    wanted = target if ":" in target else call.request.parameter("digest")
    data = await call.request.read(documents.LARGEST_DOCUMENT)
    put = await service.run(_parsed, call, data, call.digest(wanted) if wanted else "")

    def stored() -> None:
        path = temporary(service.uploads.folder, data)
        try:
            service.repositories.put_manifest(call.repository, tags, path, put)
        finally:
            path.unlink(missing_ok=True)

    await service.run(stored)
    answer = _created(call, "manifests", put.digest)
    if put.document.subject is not None:
        answer.headers.append(("OCI-Subject", put.document.subject.digest))
    if ":" in target:
        answer.headers += [("OCI-Tag", tag) for tag in tags]
    return answer


def _tags(call: Call) -> list[str]:
    """The parameters `tag`. Raises Problem."""
    found = call.request.query.get("tag", [])
    if len(found) > MOST_TAGS:
        raise Problem("UNSUPPORTED", f"more than {MOST_TAGS} tags at once", status=414)
    try:
        return [names.tag(tag) for tag in found]
    except GrammarError as error:
        raise Problem("MANIFEST_INVALID", error.message, hint=error.hint) from error


def _parsed(call: Call, data: bytes, wanted: str) -> Put:
    """Raises Problem."""
    digest = digests.of(data, wanted.partition(":")[0] or "sha256")
    if wanted and digest != wanted:
        raise Problem("DIGEST_INVALID", f"{wanted} was promised, and what came has the digest {digest}")
    said = call.request.headers.get("content-type", "").partition(";")[0].strip()
    try:
        return Put(documents.parse(data, said), digest, len(data))
    except (DocumentError, GrammarError, LimitError) as error:
        raise Problem("MANIFEST_INVALID", error.message, hint=error.hint) from error


# Deleting.


async def delete_manifest(call: Call) -> Answer:
    """A tag alone, or a manifest with all its tags; what only it needed is collected soon."""
    call.may_write()
    target, service = tag_or_digest(call), call.service
    delete = service.repositories.delete_manifest if ":" in target else service.repositories.delete_tag
    await service.run(delete, call.repository, target)
    service.collection_wanted.set()
    return Answer(202)


async def delete_blob(call: Call) -> Answer:
    """One that no manifest of the repository needs."""
    call.may_write()
    await call.service.run(call.service.repositories.delete_blob, call.repository, call.digest())
    call.service.collection_wanted.set()
    return Answer(202)
