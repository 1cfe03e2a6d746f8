"""What a registry asks for (RFC 9110, 11.6.1), and whether a token server may be shown credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ocirt.manager.errors import RegistryError

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|$)")
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?:,|$)')
# Second-level names that belong to no single organisation, below a country's.
_SHARED = frozenset("ac co com edu go gob gov mil ne net or org".split())


@dataclass(frozen=True, slots=True)
class Challenge:
    """scheme in lowercase, "basic" or "bearer"; the parameters by their names in lowercase."""

    scheme: str
    parameters: dict[str, str]


def parse(headers: list[str]) -> list[Challenge]:
    """All challenges of WWW-Authenticate headers. What cannot be read is left out: it is then not answered."""
    found = []
    for header in headers:
        rest = header[:8192]
        while rest and (scheme := _SCHEME.match(rest)):
            rest = rest[scheme.end() :]
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(rest):
                value = parameter[3] if parameter[2] is None else re.sub(r"\\(.)", r"\1", parameter[2])
                parameters.setdefault(parameter[1].lower(), value)
                rest = rest[parameter.end() :]
            found.append(Challenge(scheme[1].lower(), parameters))
    return found


def check_realm(realm: str, base: str, allowed: frozenset[str]) -> None:
    """Raises RegistryError unless the registry's credentials may be shown to this token server.

    It must be the registry itself (host and port), or a host of the same site by https, or one that the settings allow
    (`realms`). A registry that was taken over, or a proxy's upstream, could name any (CVE-2020-15157, CVE-2026-33540).
    """
    wanted, own = urlsplit(realm), urlsplit(base)
    try:
        there, here = (wanted.hostname, wanted.port), (own.hostname, own.port)
    except ValueError:
        raise RegistryError(f"the registry names {realm[:200]!r} as its token server, which is no URL") from None
    if wanted.scheme not in ("https", "http") or not wanted.hostname or wanted.username is not None:
        raise RegistryError(f"the registry names {realm[:200]!r} as its token server, which is no URL")
    if wanted.scheme == "http" and own.scheme == "https":
        raise RegistryError(f"the registry names {realm[:200]!r} as its token server: credentials would be readable")
    if there == here or wanted.netloc in allowed or wanted.hostname in allowed:
        return
    site = _site(wanted.hostname) if wanted.scheme == "https" and wanted.port is None and own.port is None else ""
    if site and site == _site(own.hostname or ""):
        return
    raise RegistryError(
        f"the registry {own.netloc} names {wanted.netloc} as its token server, which is another site",
        hint=f'realms = ["{wanted.netloc}"] of registry "{own.netloc}" in registries.toml allows it',
    )


def _site(host: str) -> str:
    """The name that an organisation has, "" for an address: two labels, or three below "co.uk" and its like."""
    labels = host.lower().rstrip(".").split(".")
    if ":" in host or labels[-1].isdigit() or len(labels) < 2:
        return ""
    count = 3 if len(labels[-1]) == 2 and labels[-2] in _SHARED else 2
    return ".".join(labels[-count:]) if len(labels) >= count else ""
