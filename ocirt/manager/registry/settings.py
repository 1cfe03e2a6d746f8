"""How each registry is reached: `registries.toml`.

    [registry."docker.io"]
    mirrors = ["mirror.example.com", "https://cache.example.com/docker"]

    [registry."localhost:5000"]
    insecure = true             # plain HTTP, or a certificate that nobody vouches for
    ca = "/etc/ssl/own.pem"     # whose certificates are believed besides the system's
    realms = ["auth.example.com"]  # hosts that may be asked for a token with this registry's credentials

Loopback addresses may be spoken to by plain HTTP without being listed, as docker has it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocirt.manager.errors import ManagerError
from ocirt.manager.names import DEFAULT_HOST

# Docker Hub's names are docker.io's, its API and its tokens are elsewhere.
_HUB = "registry-1.docker.io"
_HUB_REALM = "auth.docker.io"
_LOOPBACK = ("localhost", "127.", "[::1]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a registry's API is: `base` is "https://host[/path]" without /v2/.

    host      the registry that it stands for: credentials are found by it, unless this is a mirror
    plain     whether plain HTTP may be tried where TLS is not spoken
    verify    whether certificates are checked
    ca        a file of certificates, or ""
    realms    further hosts that may be asked for tokens
    """

    host: str
    base: str
    plain: bool = False
    verify: bool = True
    ca: str = ""
    realms: frozenset[str] = frozenset()
    is_mirror: bool = False


class Settings:
    """The file's content. Raises ManagerError for a file that cannot be understood; a missing one is an empty one."""

    def __init__(self, path: Path | None = None) -> None:
        self._registries: dict[str, dict[str, object]] = {}
        if path is None:
            return
        try:
            content = tomllib.loads(path.read_text())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise ManagerError(f"{path}: {error}") from error
        self._registries = _checked(path, content)

    def endpoints(self, host: str) -> list[Endpoint]:
        """The mirrors of a registry in their order, and then itself."""
        own = self._registries.get(host, {})
        found = [self._mirror(mirror) for mirror in _list(own.get("mirrors"))]
        name = _HUB if host == DEFAULT_HOST else host
        realms = frozenset(realm for realm in _list(own.get("realms")))
        if host == DEFAULT_HOST:
            realms |= {_HUB_REALM}
        insecure = bool(own.get("insecure"))
        plain = insecure or host.startswith(_LOOPBACK)
        found.append(Endpoint(host, f"https://{name}", plain, not insecure, str(own.get("ca", "")), realms))
        return found

    def _mirror(self, mirror: str) -> Endpoint:
        base = mirror if "://" in mirror else f"https://{mirror}"
        scheme, _, rest = base.partition("://")
        name = rest.partition("/")[0]
        own = self._registries.get(name, {})
        insecure = bool(own.get("insecure"))
        plain = scheme == "http" or insecure or name.startswith(_LOOPBACK)
        realms = frozenset(realm for realm in _list(own.get("realms")))
        return Endpoint(name, base.rstrip("/"), plain, not insecure, str(own.get("ca", "")), realms, is_mirror=True)


def _list(value: object) -> list[str]:
    return value if isinstance(value, list) else []


_SCHEMES = ("https://", "http://")
_KNOWN = {"mirrors": list, "insecure": bool, "ca": str, "realms": list}


def _checked(path: Path, content: dict[str, Any]) -> dict[str, dict[str, object]]:
    """A word that is misspelt in a file about security is an error, not nothing."""
    registries = content.pop("registry", {})
    if content or not isinstance(registries, dict):
        raise ManagerError(f"{path}: {next(iter(content), 'registry')!r} is not known", hint='[registry."HOST"]')
    for host, own in registries.items():
        if not isinstance(own, dict):
            raise ManagerError(f"{path}: registry {host!r} is no table")
        for key, value in own.items():
            if key not in _KNOWN:
                raise ManagerError(f"{path}: {key!r} of {host!r} is not known", hint=", ".join(_KNOWN))
            texts = _list(value)
            if not isinstance(value, _KNOWN[key]) or not all(isinstance(each, str) for each in texts):
                raise ManagerError(f"{path}: {key!r} of {host!r} has a wrong value")
            if key == "mirrors" and any("://" in each and not each.startswith(_SCHEMES) for each in texts):
                raise ManagerError(f"{path}: a mirror of {host!r} is no http(s) URL")
    return registries
