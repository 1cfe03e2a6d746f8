"""HTTP with one registry endpoint: tokens, retries, redirects, and credentials that go nowhere else.

A request's Authorization is for the endpoint's own origin (scheme, host and port). Where a redirect or an upload's
location leads elsewhere, it is left out; from https it never leads to http. Whoever is asked for a token is checked
before (challenge.py).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from ocirt.manager.errors import LimitError, MissingError, RegistryError
from ocirt.manager.registry.challenge import Challenge, check_realm, parse
from ocirt.manager.registry.credentials import Credentials
from ocirt.manager.registry.settings import Endpoint

CONNECT_SECONDS, READ_SECONDS = 20.0, 60.0
TRIES = 6
LONGEST_WAIT = 30.0
MOST_REDIRECTS = 5
LARGEST_ERROR = 64 << 10
LARGEST_TOKEN = 1 << 20
_AGAIN = frozenset((408, 429, 500, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_PLAIN_ANSWER = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "record layer failure", "HTTP_REQUEST")

Response = urllib3.BaseHTTPResponse
Body = bytes | BinaryIO | Iterable[bytes] | None


class Session:
    """Requests to one endpoint. May be used by several threads.

    credentials   those stored for its host, or None
    sleep         for tests
    """

    def __init__(
        self, endpoint: Endpoint, credentials: Credentials | None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.endpoint = endpoint
        self._base = endpoint.base
        self._credentials = credentials
        self._tokens: dict[str, str] = {}
        self._sleep = sleep
        self._answered = False
        self._pool = urllib3.PoolManager(
            num_pools=8,
            maxsize=8,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            cert_reqs="CERT_REQUIRED" if endpoint.verify else "CERT_NONE",
            ca_certs=endpoint.ca or None,
            headers={"User-Agent": "ocim"},
        )

    def request(
        self,
        method: str,
        path: str,
        scope: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Body] | None = None,
        expect: tuple[int, ...] = (200,),
        retry: bool = True,
    ) -> Response:
        """The answer, its body still to be read (and to be closed).

        path     "/v2/…", or a whole URL that the registry gave
        scope    what a token must allow: "repository:NAME:pull,push", or ""
        body     makes the body anew for each try
        retry    whether a second time does no harm

        Raises MissingError (404), RegistryError.
        """
        last: Exception | None = None
        for number in range(TRIES if retry else 1):
            if number:
                self._sleep(self._wait(number, last))
            try:
                response = self._authorized(method, path, scope, dict(headers or {}), body)
            except HTTPError as error:
                last = error
                if number and not self._answered:
                    break  # a network that fails comes back; a registry that never was there seldom does
                continue
            self._answered = True
            if response.status in expect:
                return response
            last = self._failure(method, path, response)
            if response.status not in _AGAIN:
                raise last
        if isinstance(last, RegistryError | MissingError):
            raise last
        raise RegistryError(f"{method} {self._url(path)}: {_reason(last)}", hint="is the registry there?") from last

    def _wait(self, number: int, last: Exception | None) -> float:
        """What the registry asks for, or longer each time, and not all clients at once."""
        asked = last.retry_after if isinstance(last, RegistryError) else None
        return min(asked if asked is not None else 0.5 * 2**number * random.uniform(0.5, 1.0), LONGEST_WAIT)

    def _url(self, path: str) -> str:
        return path if "://" in path else self._base + path

    def _authorized(
        self, method: str, path: str, scope: str, headers: dict[str, str], body: Callable[[], Body] | None
    ) -> Response:
        """Once without, or with what was right last time; and once more with what is asked for."""
        response, url = self._send(method, path, headers, body, self._tokens.get(scope))
        if response.status != 401 or not self._is_ours(url):
            return response  # what another host asks for, after a redirect, is not answered
        challenges = parse(response.headers.getlist("WWW-Authenticate"))
        response.drain_conn()
        authorization = self._answer(challenges, scope)
        if authorization is None:
            return response
        self._tokens[scope] = authorization
        return self._send(method, path, headers, body, authorization)[0]

    def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: Callable[[], Body] | None,
        authorization: str | None,
    ) -> tuple[Response, str]:
        """The answer, and the URL that it is of."""
        url = self._url(path)
        for _ in range(MOST_REDIRECTS + 1):
            own = dict(headers)
            if authorization is not None and self._is_ours(url):
                own["Authorization"] = authorization
            try:
                response = self._pool.request(
                    method, url, headers=own, body=body() if body else None, preload_content=False, redirect=False
                )
            except SSLError as error:
                if not self._goes_plain(error):
                    raise
                url = self._url(path)
                continue
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response, url
            response.drain_conn()
            url = self._redirected(url, response.headers.get("Location", ""))
        raise RegistryError(f"{method} {self._url(path)}: more than {MOST_REDIRECTS} redirects")

    def _goes_plain(self, error: SSLError) -> bool:
        """No TLS there, and that was allowed: from now on plain HTTP."""
        if self.endpoint.plain and self._base.startswith("https:") and any(say in str(error) for say in _PLAIN_ANSWER):
            self._base = "http:" + self._base.removeprefix("https:")
            return True
        return False

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        if urlsplit(target).scheme not in ("https", "http") or not location:
            raise RegistryError(f"{url}: redirected to {location[:200]!r}, which is no URL")
        if url.startswith("https:") and target.startswith("http:"):
            raise RegistryError(f"{url}: redirected to plain HTTP at {urlsplit(target).netloc}")
        return target

    def _is_ours(self, url: str) -> bool:
        ours, theirs = urlsplit(self._base), urlsplit(url)
        return (ours.scheme, ours.netloc.lower()) == (theirs.scheme, theirs.netloc.lower())

    # Tokens.

    def _answer(self, challenges: list[Challenge], scope: str) -> str | None:
        """The Authorization that one of the challenges asks for; None where there is nothing to show."""
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return f"Bearer {self._token(challenge.parameters, scope)}"
        if any(challenge.scheme == "basic" for challenge in challenges) and self._credentials is not None:
            return self._credentials.basic if self._credentials.name else None
        return None

    def _token(self, parameters: dict[str, str], scope: str) -> str:
        """From a token server (distribution's "Token Authentication"). Raises RegistryError."""
        realm, credentials = parameters["realm"], self._credentials
        check_realm(realm, self._base, self.endpoint.realms)
        fields = {"service": parameters.get("service", ""), "scope": scope or parameters.get("scope", "")}
        fields = {name: value for name, value in fields.items() if value}
        headers: dict[str, str] = {}
        try:
            if credentials is not None and credentials.identity_token:
                fields |= {
                    "grant_type": "refresh_token",
                    "refresh_token": credentials.identity_token,
                    "client_id": "ocim",
                }
                response = self._pool.request(
                    "POST", realm, fields=fields, encode_multipart=False, preload_content=False, redirect=False
                )
            else:
                if credentials is not None:
                    headers["Authorization"] = credentials.basic
                url = realm + ("&" if "?" in realm else "?") + urlencode(fields)
                response = self._pool.request("GET", url, headers=headers, preload_content=False, redirect=False)
            if response.status != 200:
                raise self._failure("GET", realm, response)
            content = json.loads(bounded(response, LARGEST_TOKEN, "the token server's answer"))
        except HTTPError as error:
            raise RegistryError(f"token of {realm}: {_reason(error)}") from error
        except ValueError as error:
            raise RegistryError(f"token of {realm}: {error}") from error
        token = content.get("token") or content.get("access_token") if isinstance(content, dict) else None
        if not isinstance(token, str) or not token.isprintable():
            raise RegistryError(f"token of {realm}: there is none in the answer")
        return token

    # Errors.

    def _failure(self, method: str, path: str, response: Response) -> RegistryError | MissingError:
        """What an answer that was not wanted says, in one line."""
        status = response.status
        try:
            content = response.read(LARGEST_ERROR, decode_content=True)
        except HTTPError:
            content = b""
        finally:
            response.close()
        words = _words(content) or response.reason or ""
        message = f"{method} {self._url(path)}: {status} {words}".rstrip()
        if status == 404:
            return MissingError(message)
        hint = {401: f"ocim login {self.endpoint.host}", 403: "these credentials may not do that"}.get(status, "")
        error = RegistryError(message, status=status, hint=hint)
        after = response.headers.get("Retry-After", "")
        error.retry_after = float(after) if after.isdecimal() else None
        return error

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


def bounded(response: Response, most: int, what: str) -> bytes:
    """All of a body that must be small. Raises LimitError."""
    content = b""
    try:
        while piece := response.read(most + 1 - len(content)):
            content += piece
            if len(content) > most:
                raise LimitError(f"{what} is larger than {most} bytes")
    finally:
        response.close()
    return content


def _words(content: bytes) -> str:
    """The spec's errors: {"errors": [{"code", "message"}]}."""
    try:
        errors = json.loads(content)["errors"]
        return "; ".join(f"{one.get('code', '')}: {one.get('message', '')}".strip(": ") for one in errors[:3])[:300]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _reason(error: Exception | None) -> str:
    """The innermost reason: urllib3 wraps them."""
    inner = getattr(error, "reason", None)
    while isinstance(inner, Exception):
        error, inner = inner, getattr(inner, "reason", None)
    text = str(error)
    return text.rpartition("] ")[2] if "] " in text else text
