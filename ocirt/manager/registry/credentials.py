"""Credentials of registries, where docker and podman keep them.

Read, the first that knows the host: $REGISTRY_AUTH_FILE; $XDG_RUNTIME_DIR/containers/auth.json;
~/.config/containers/auth.json; $DOCKER_CONFIG/config.json or ~/.docker/config.json. In each, a helper for that host
(`credHelpers`), the file's own `auths`, then the helper for all (`credsStore`). Written by `login`: the first that
exists of these, or docker's. Helpers are `docker-credential-NAME` and speak docker's protocol.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocirt.manager.errors import ManagerError
from ocirt.manager.names import DEFAULT_HOST

_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_SECONDS = 30
_NOT_FOUND = "credentials not found"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password; or a token that stands for both (`identitytoken`). They do not show in `repr`."""

    name: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


class Keychain:
    """What is stored, for whoever this environment belongs to."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment

    def files(self) -> list[Path]:
        """In the order in which they are asked."""
        env = self._environment
        home = Path(env.get("HOME") or "/root")
        found = []
        if env.get("REGISTRY_AUTH_FILE"):
            found.append(Path(env["REGISTRY_AUTH_FILE"]))
        if env.get("XDG_RUNTIME_DIR"):
            found.append(Path(env["XDG_RUNTIME_DIR"]) / "containers/auth.json")
        found.append(Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json")
        found.append(Path(env.get("DOCKER_CONFIG") or home / ".docker") / "config.json")
        return found

    def find(self, host: str) -> Credentials | None:
        """Those of this registry, and no other's. Raises ManagerError for a file or a helper that does not work."""
        for path in self.files():
            content = _read(path)
            for source in (_helper_of(content, host), _own(path, content, host), _helper_of_all(content)):
                found = self._ask(source, host) if isinstance(source, str) else source
                if found is not None:
                    return found
        return None

    def store(self, host: str, credentials: Credentials) -> Path | str:
        """Remember them. Returns the file, or the helper that has them."""
        path = self._target()
        content = _read(path)
        helper = _helper_of(content, host) or _helper_of_all(content)
        if helper:
            secret = credentials.identity_token or credentials.password
            name = "<token>" if credentials.identity_token else credentials.name
            self._run(helper, "store", json.dumps({"ServerURL": _keys(host)[0], "Username": name, "Secret": secret}))
            return helper
        entry = {"auth": credentials.basic.removeprefix("Basic ")}
        if credentials.identity_token:
            entry["identitytoken"] = credentials.identity_token
        content.setdefault("auths", {})[_keys(host)[0]] = entry
        _write(path, content)
        return path

    def erase(self, host: str) -> bool:
        """Forget them, everywhere. False where there were none."""
        known = False
        for path in self.files():
            content = _read(path)
            helper = _helper_of(content, host) or _helper_of_all(content)
            if helper and self._ask(helper, host) is not None:
                self._run(helper, "erase", _keys(host)[0])
                known = True
            auths = content.get("auths") or {}
            stored = [key for key in _keys(host) if key in auths]
            for key in stored:
                del auths[key]
            if stored:
                _write(path, content)
                known = True
        return known

    def _target(self) -> Path:
        files = self.files()
        return next((path for path in files if path.exists()), files[-1])

    def _ask(self, helper: str, host: str) -> Credentials | None:
        for key in _keys(host):
            answer = self._run(helper, "get", key)
            if answer is not None:
                value = _object(answer, f"docker-credential-{helper}")
                name, secret = str(value.get("Username", "")), str(value.get("Secret", ""))
                return Credentials(identity_token=secret) if name == "<token>" else Credentials(name, secret)
        return None

    def _run(self, helper: str, action: str, text: str) -> str | None:
        """A helper's answer; None where it says that it has none. The name is data of a file: no path, no option."""
        if not helper.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ManagerError(f"{helper[:60]!r} is no name of a credential helper")
        command = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [command, action],
                input=text,
                capture_output=True,
                text=True,
                env=dict(self._environment),
                timeout=_HELPER_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise ManagerError(f"{command} is not installed", hint="credsStore or credHelpers names it") from error
        except subprocess.TimeoutExpired as error:
            raise ManagerError(f"{command} {action} did not answer in {_HELPER_SECONDS} s") from error
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            if action in ("get", "erase") and _NOT_FOUND in said:
                return None
            raise ManagerError(f"{command} {action}: {said[:200] or f'status {done.returncode}'}")
        return done.stdout


def _keys(host: str) -> list[str]:
    """How files call a host; the one to write first."""
    if host == DEFAULT_HOST:
        return [_HUB_KEY, "docker.io", "index.docker.io", "https://index.docker.io/v1", "registry-1.docker.io"]
    return [host, f"https://{host}", f"https://{host}/", f"https://{host}/v1/", f"https://{host}/v2/", f"http://{host}"]


def _helper_of(content: dict[str, Any], host: str) -> str | None:
    helpers = content.get("credHelpers") or {}
    return next((str(helpers[key]) for key in _keys(host) if helpers.get(key)), None)


def _helper_of_all(content: dict[str, Any]) -> str | None:
    return str(content["credsStore"]) if content.get("credsStore") else None


def _own(path: Path, content: dict[str, Any], host: str) -> Credentials | None:
    auths = content.get("auths") or {}
    for key in _keys(host):
        entry = auths.get(key)
        if not isinstance(entry, dict):
            continue
        if entry.get("identitytoken"):
            return Credentials(identity_token=str(entry["identitytoken"]))
        if entry.get("auth"):
            try:
                name, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
            except ValueError as error:
                raise ManagerError(f"{path}: auths: {key}: auth is not base64 of NAME:PASSWORD") from error
            if colon:
                return Credentials(name, password.rstrip("\0"))
        if entry.get("username"):
            return Credentials(str(entry["username"]), str(entry.get("password", "")))
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ManagerError(f"{path}: {error.strerror}") from error
    return _object(text, str(path)) if text.strip() else {}


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ManagerError(f"{what}: {error}") from error
    if not isinstance(value, dict):
        raise ManagerError(f"{what} is no JSON object")
    return value


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, and for the owner alone. A symlink stays one: what it leads to is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = path.resolve()
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "w") as file:
            json.dump(content, file, indent="\t")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
