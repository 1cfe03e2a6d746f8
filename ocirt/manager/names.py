"""References: how people and registries name images.

`[HOST[:PORT]/]PATH[:TAG][@DIGEST]`. What has no host is Docker Hub's, and there a name of one part is below `library/`,
as docker, podman and containerd have it. The grammar is distribution-spec 1.1's ("Pulling manifests": name and tag) and
the `reference` package's for what comes before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ocirt.manager import digest as digests
from ocirt.manager.errors import GrammarError

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
LONGEST_NAME = 255

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:.]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """One image as a registry knows it.

    host     "docker.io", "localhost:5000", "[::1]:5000"
    path     "library/busybox"
    tag      "latest", or "" where only a digest was given
    digest   "sha256:…", or ""
    """

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Host and path: what tags belong to."""
        return f"{self.host}/{self.path}"

    @property
    def familiar(self) -> str:
        """As people write it: "busybox:1.36", "localhost:5000/a/b@sha256:…"."""
        name = self.repository
        if self.host == DEFAULT_HOST:
            name = self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path
        return name + self._end()

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return self.repository + self._end()

    def _end(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """What a person wrote, made whole: host, `library/` and the tag `latest` where they were left out.

    Raises GrammarError, which says which part is wrong.
    """
    if _ID.fullmatch(text):
        raise GrammarError(
            f"{text!r} is an image's id and no name", hint="ids name what is here; a registry needs a name"
        )
    name, at, digest = text.partition("@")
    if at:
        digests.parse(digest)
    host, path = _split_host(name)
    path, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise GrammarError(
            f"{text!r}: {tag!r} is no tag", hint="letters, digits, _ . -, at most 128, and no . or - first"
        )
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    if not _PATH.fullmatch(path):
        hint = (
            "repository names are lowercase"
            if path.lower() != path
            else "lowercase letters and digits, separated by . _ - /"
        )
        raise GrammarError(f"{text!r}: {path!r} is no repository name", hint=hint)
    if len(host) + 1 + len(path) > LONGEST_NAME:
        raise GrammarError(f"{text[:40]!r}… is longer than {LONGEST_NAME} characters")
    return Reference(host, path, tag or ("" if digest else DEFAULT_TAG), digest)


def _split_host(name: str) -> tuple[str, str]:
    """The first part is a host if it has a dot, a colon or an uppercase letter, or is "localhost"."""
    first, slash, rest = name.partition("/")
    looks = "." in first or ":" in first or first == "localhost" or first.lower() != first
    if not (slash and looks):
        return DEFAULT_HOST, name
    if not _HOST.fullmatch(first):
        raise GrammarError(f"{name!r}: {first!r} is no host")
    port = first.rpartition("]")[2].partition(":")[2]
    if port and not 0 < int(port) < 65536:
        raise GrammarError(f"{name!r}: {port} is no port")
    host = first.lower() if not first.startswith("[") else first
    return (DEFAULT_HOST if host == "index.docker.io" else host), rest


def tag(text: str) -> str:
    """A tag alone. Raises GrammarError."""
    if not _TAG.fullmatch(text):
        raise GrammarError(f"{text[:140]!r} is no tag", hint="letters, digits, _ . -, at most 128, and no . or - first")
    return text


def path(text: str) -> str:
    """A repository's path alone, as in a registry's URL. Raises GrammarError."""
    if len(text) > LONGEST_NAME or not _PATH.fullmatch(text):
        raise GrammarError(
            f"{text[:100]!r} is no repository name", hint="lowercase letters and digits, separated by . _ - /"
        )
    return text


# What containers, volumes and networks may be called (docker's rule).
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def name(text: str, what: str = "container") -> str:
    """A container's, volume's or network's name. Raises GrammarError."""
    if not _NAME.fullmatch(text) or len(text) > LONGEST_NAME:
        raise GrammarError(
            f"{text[:100]!r} is no name for a {what}",
            hint="two or more of letters, digits, _ . -; the first a letter or digit",
        )
    return text
