"""One repository of a registry: what distribution-spec 1.1 lets a client do.

Reading asks the mirrors first, in their order, and the registry itself last; writing is the registry's alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO
from urllib.parse import quote, urlencode, urljoin, urlsplit

from urllib3.exceptions import HTTPError

from ocirt.manager import digest as digests
from ocirt.manager import documents, names
from ocirt.manager.documents import Descriptor, Index
from ocirt.manager.errors import DigestError, DocumentError, LimitError, MissingError, RegistryError
from ocirt.manager.names import Reference
from ocirt.manager.registry.credentials import Credentials, Keychain
from ocirt.manager.registry.session import Response, Session, bounded
from ocirt.manager.registry.settings import Settings
from ocirt.manager.store.blobs import Ingest

CHUNK = 1 << 20
WITHOUT_PROGRESS = 6
"""How many times in a row a download may fail without having brought a byte."""
SLOWEST = 1024  # bytes a second, over SLOW_SECONDS: who sends less keeps us, and sends nothing
SLOW_SECONDS = 60.0
MOST_TAGS = 100_000
_LARGEST_PAGE = 8 << 20


class Client:
    """Sessions with registries, made when they are needed and used again.

    sleep, clock: for tests.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        keychain: Keychain | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or Settings()
        self._keychain = keychain or Keychain()
        self.sleep = sleep
        self.clock = clock
        self._sessions: dict[str, list[Session]] = {}

    def repository(self, reference: Reference) -> Repository:
        """What the reference's host and path name."""
        return Repository(self, self._of(reference.host), reference.path)

    def _of(self, host: str) -> list[Session]:
        if host not in self._sessions:
            self._sessions[host] = [
                Session(endpoint, self._keychain.find(endpoint.host), sleep=self.sleep)
                for endpoint in self._settings.endpoints(host)
            ]
        return self._sessions[host]

    def login(self, host: str, credentials: Credentials) -> None:
        """Try them: raises RegistryError where the registry does not take them. Nothing is stored."""
        session = Session(self._settings.endpoints(host)[-1], credentials, sleep=self.sleep)
        try:
            session.request("GET", "/v2/", "").close()
        finally:
            session.close()

    def close(self) -> None:
        """Close all connections."""
        for sessions in self._sessions.values():
            for session in sessions:
                session.close()
        self._sessions.clear()


class Repository:
    """See the module. Raises MissingError, RegistryError, and what documents and digests raise."""

    def __init__(self, client: Client, sessions: list[Session], path: str) -> None:
        self._client = client
        self._sessions = sessions
        self._path = names.path(path)
        self._pull = f"repository:{path}:pull"
        self._push = f"repository:{path}:pull,push"

    # Reading.

    def _read(self, ask: Callable[[Session], Response]) -> Response:
        """The first answer of the mirrors and the registry."""
        for session in self._sessions[:-1]:
            try:
                return ask(session)
            except (RegistryError, MissingError):
                continue  # a mirror may have less, or be gone; what the registry says is what counts
        return ask(self._sessions[-1])

    def manifest(self, target: str) -> tuple[bytes, Descriptor]:
        """The bytes of a tag's or a digest's document, and what they are. The digest is checked, or computed."""
        headers = {"Accept": ", ".join(documents.ACCEPTED)}
        url = f"/v2/{self._path}/manifests/{quote(target, safe=':')}"
        response = self._read(lambda session: session.request("GET", url, self._pull, headers=headers))
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        said = response.headers.get("Docker-Content-Digest", "")
        data = bounded(response, documents.LARGEST_DOCUMENT, f"manifest {target}")
        wanted = target if ":" in target else said
        digest = digests.of(data, digests.parse(wanted).partition(":")[0] if wanted else "sha256")
        if wanted and digest != wanted:
            raise DigestError(f"manifest {target} has the digest {digest} instead of {wanted}")
        return data, Descriptor(
            documents.parse(data, media_type, what=f"manifest {target}").media_type, digest, len(data)
        )

    def resolve(self, tag: str) -> Descriptor | None:
        """What a tag is at the moment, without its bytes; None where the registry does not say its digest."""
        headers = {"Accept": ", ".join(documents.ACCEPTED)}
        url = f"/v2/{self._path}/manifests/{quote(tag, safe=':')}"
        response = self._read(lambda session: session.request("HEAD", url, self._pull, headers=headers))
        response.close()
        digest = response.headers.get("Docker-Content-Digest", "")
        size = response.headers.get("Content-Length", "")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return Descriptor(media_type, digests.parse(digest), int(size)) if digest and size.isdecimal() else None

    def blob(self, descriptor: Descriptor, ingest: Ingest, progress: Callable[[int], object] | None = None) -> None:
        """Bring a blob's bytes in, from where `ingest` is; what was brought stays there whatever happens.

        progress: is told of each piece's bytes, and of minus all of them where the source had to begin anew.
        Raises RegistryError when the source fails again and again without bringing anything.
        """
        failures = 0
        while True:
            before = ingest.offset
            failure: Exception = RegistryError("the body ended early")
            try:
                self._continue(descriptor, ingest, progress)
            except (HTTPError, OSError) as error:
                failure = error
            if ingest.offset >= descriptor.size:
                return
            failures = failures + 1 if ingest.offset <= before else 1
            if failures >= WITHOUT_PROGRESS:
                done = f"{ingest.offset} of {descriptor.size} bytes"
                hint = "what came is kept: pull again to go on"
                raise RegistryError(f"blob {descriptor.digest}: {failure}, after {done}", hint=hint) from failure
            self._client.sleep(min(0.5 * 2**failures, 15.0))

    def _continue(self, descriptor: Descriptor, ingest: Ingest, progress: Callable[[int], object] | None) -> None:
        """One answer's bytes."""
        url = f"/v2/{self._path}/blobs/{descriptor.digest}"
        headers = {"Accept-Encoding": "identity"}
        if ingest.offset:
            headers["Range"] = f"bytes={ingest.offset}-"
        response = self._read(
            lambda session: session.request("GET", url, self._pull, headers=headers, expect=(200, 206, 416))
        )
        try:
            if ingest.offset and not self._goes_on(response, ingest.offset):
                if progress:
                    progress(-ingest.offset)
                ingest.restart()
                if response.status != 200:
                    return
            start, began = ingest.offset, self._client.clock()
            for piece in response.stream(CHUNK, decode_content=False):
                ingest.write(piece)
                if progress:
                    progress(len(piece))
                passed = self._client.clock() - began
                if passed > SLOW_SECONDS and (ingest.offset - start) / passed < SLOWEST:
                    slow = f"blob {descriptor.digest}: the registry sends less than {SLOWEST} bytes a second"
                    raise RegistryError(slow, hint="what came is kept: pull again to go on")
        finally:
            response.close()

    @staticmethod
    def _goes_on(response: Response, offset: int) -> bool:
        """Whether this answer's first byte is the one at `offset`."""
        said = response.headers.get("Content-Range", "")
        return response.status == 206 and said.startswith(f"bytes {offset}-")

    def tags(self) -> Iterator[str]:
        """All tags, page by page. Raises LimitError for more than a hundred thousand."""
        seen = 0
        for page in self._pages(f"/v2/{self._path}/tags/list"):
            for tag in _list(page, "tags"):
                seen += 1
                if seen > MOST_TAGS:
                    raise LimitError(f"the registry lists more than {MOST_TAGS} tags")
                yield names.tag(str(tag))

    def referrers(self, digest: str, artifact_type: str = "") -> Index:
        """What refers to a manifest by `subject` (signatures, SBOMs): by the API, or by the tag that stands for it."""
        url = f"/v2/{self._path}/referrers/{digests.parse(digest)}"
        if artifact_type:
            url += "?" + urlencode({"artifactType": artifact_type})
        try:
            response = self._read(lambda session: session.request("GET", url, self._pull))
            data = bounded(response, documents.LARGEST_DOCUMENT, "referrers")
        except MissingError:
            try:
                data, _ = self.manifest(digest.replace(":", "-", 1)[:128])
            except MissingError:
                return Index(documents.OCI_INDEX, ())
        found = documents.parse(data, what="referrers")
        if not isinstance(found, Index):
            raise DocumentError("referrers: no index")
        fitting = tuple(one for one in found.manifests if not artifact_type or one.artifact_type == artifact_type)
        return Index(found.media_type, fitting, found.annotations)

    def _pages(self, path: str) -> Iterator[object]:
        """Each page's JSON; the Link header (RFC 8288) leads to the next, on the same registry only."""
        session = self._sessions[-1]
        seen = set()
        while path and path not in seen:
            seen.add(path)
            response = session.request("GET", path, self._pull)
            link = response.headers.get("Link", "")
            try:
                yield json.loads(bounded(response, _LARGEST_PAGE, "a page of the list"))
            except ValueError as error:
                raise DocumentError(f"{path}: {error}") from error
            target = link.partition("<")[2].partition(">")[0] if 'rel="next"' in link or "rel=next" in link else ""
            parts = urlsplit(urljoin(path, target)) if target else urlsplit("")
            path = parts.path + (f"?{parts.query}" if parts.query else "") if target else ""
            if path and not path.startswith("/v2/"):
                raise RegistryError(f"the registry names {target[:200]!r} as its next page")

    # Writing.

    def has(self, digest: str) -> bool:
        """Whether the registry has a blob."""
        url = f"/v2/{self._path}/blobs/{digests.parse(digest)}"
        try:
            self._sessions[-1].request("HEAD", url, self._push).close()
        except MissingError:
            return False
        return True

    def mount(self, digest: str, source: str) -> bool:
        """Have it from another repository of the same registry, without sending it. False where that cannot be done."""
        query = urlencode({"mount": digests.parse(digest), "from": names.path(source)})
        url = f"/v2/{self._path}/blobs/uploads/?{query}"
        scope = f"{self._push} repository:{source}:pull"
        response = self._sessions[-1].request("POST", url, scope, expect=(201, 202))
        response.close()
        if response.status == 202:  # an upload was begun instead
            self._cancel(response.headers.get("Location", ""))
        return response.status == 201

    def _cancel(self, location: str) -> None:
        try:
            self._sessions[-1].request("DELETE", location, self._push, expect=(200, 202, 204), retry=False).close()
        except (RegistryError, MissingError):
            pass  # it expires

    def upload(
        self,
        digest: str,
        size: int,
        opened: Callable[[], BinaryIO],
        *,
        chunk: int = 0,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Send a blob. `opened`: opens its bytes, anew for each try; chunk: bytes of each request, or 0 for one."""
        session = self._sessions[-1]
        begin = session.request("POST", f"/v2/{self._path}/blobs/uploads/", self._push, expect=(202,))
        begin.close()
        location = self._location(begin)
        if chunk:
            location = self._chunks(location, size, opened, chunk, progress)
        length = 0 if chunk else size
        url = location + ("&" if "?" in location else "?") + urlencode({"digest": digests.parse(digest)})
        session.request(
            "PUT",
            url,
            self._push,
            headers={"Content-Length": str(length), "Content-Type": "application/octet-stream"},
            body=None if chunk or not size else lambda: _told(opened(), progress),
            expect=(201,),
            retry=False,
        ).close()

    def _chunks(
        self,
        location: str,
        size: int,
        opened: Callable[[], BinaryIO],
        chunk: int,
        progress: Callable[[int], object] | None,
    ) -> str:
        """Piece by piece; after a failure the registry is asked how far it came."""
        with opened() as stream:
            at = failures = 0
            while at < size:
                stream.seek(at)
                piece = stream.read(min(chunk, size - at))
                headers = {"Content-Range": f"{at}-{at + len(piece) - 1}", "Content-Type": "application/octet-stream"}
                try:
                    response = self._sessions[-1].request(
                        "PATCH",
                        location,
                        self._push,
                        headers=headers,
                        body=partial(bytes, piece),
                        expect=(202,),
                        retry=False,
                    )
                except RegistryError as error:
                    failures += 1
                    if failures >= WITHOUT_PROGRESS or error.status in (401, 403):
                        raise
                    self._client.sleep(0.5 * 2**failures)
                    at, location = self._progress(location)
                    continue
                response.close()
                failures = 0
                at += len(piece)
                if progress:
                    progress(len(piece))
                location = self._location(response)
        return location

    def _progress(self, location: str) -> tuple[int, str]:
        """How many bytes of an upload the registry has, and where it goes on."""
        response = self._sessions[-1].request("GET", location, self._push, expect=(204,))
        response.close()
        last = response.headers.get("Range", "0-0").rpartition("-")[2]
        at = int(last) + 1 if last.isdecimal() and response.headers.get("Range") not in ("0-0", "0--1") else 0
        return at, self._location(response)

    def _location(self, response: Response) -> str:
        location = response.headers.get("Location", "")
        if not location.startswith(("/", "https://", "http://")):
            raise RegistryError("the registry began an upload and does not say where")
        return location

    def put_manifest(self, data: bytes, media_type: str, target: str) -> None:
        """Give a document its name: a tag, or its digest."""
        url = f"/v2/{self._path}/manifests/{quote(target, safe=':')}"
        headers = {"Content-Type": media_type}
        self._sessions[-1].request("PUT", url, self._push, headers=headers, body=lambda: data, expect=(201,)).close()

    def delete(self, target: str) -> None:
        """A manifest by its digest, or a tag, where the registry lets one."""
        url = f"/v2/{self._path}/manifests/{quote(target, safe=':')}"
        scope = f"repository:{self._path}:delete"
        self._sessions[-1].request("DELETE", url, scope, expect=(200, 202)).close()


def _told(stream: BinaryIO, progress: Callable[[int], object] | None) -> Iterator[bytes]:
    """A file's bytes, with word of each piece."""
    with stream:
        while piece := stream.read(CHUNK):
            yield piece
            if progress:
                progress(len(piece))


def _list(page: object, name: str) -> list[object]:
    value = page.get(name) if isinstance(page, dict) else None
    if value is None and isinstance(page, dict):
        return []
    if not isinstance(value, list):
        raise DocumentError(f"the registry's list has no {name}")
    return value
