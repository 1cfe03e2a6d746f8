"""Credentials: found where docker and podman keep them, for that host alone; and whom they may be shown to."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from ocirt.manager.errors import ManagerError, RegistryError
from ocirt.manager.registry.challenge import Challenge, check_realm, parse
from ocirt.manager.registry.credentials import Credentials, Keychain
from ocirt.manager.registry.settings import Settings


def auth(name: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".docker").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path


def chain(home: Path, **more: str) -> Keychain:
    return Keychain({"HOME": str(home), "PATH": f"{home / 'bin'}:/usr/bin:/bin", **more})


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def helper(home: Path, name: str, script: str) -> None:
    path = home / "bin" / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_nothing_is_stored_at_first(home: Path) -> None:
    assert chain(home).find("example.com") is None


@pytest.mark.parametrize("key", ["example.com", "https://example.com", "https://example.com/v1/", "http://example.com"])
def test_a_host_is_found_by_what_docker_calls_it(home: Path, key: str) -> None:
    write(home / ".docker/config.json", {"auths": {key: auth("me", "pa:ss")}})
    assert chain(home).find("example.com") == Credentials("me", "pa:ss")
    assert chain(home).find("example.com:443") is None
    assert chain(home).find("sub.example.com") is None


def test_docker_hub_has_a_name_of_its_own(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"https://index.docker.io/v1/": auth("hub", "x")}})
    assert chain(home).find("docker.io") == Credentials("hub", "x")


def test_the_files_are_asked_in_their_order(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"a": auth("docker", "x"), "b": auth("docker", "x")}})
    write(home / ".config/containers/auth.json", {"auths": {"a": auth("podman", "x")}})
    write(home / "own.json", {"auths": {"a": auth("own", "x")}})
    assert chain(home).find("a") == Credentials("podman", "x")
    assert chain(home).find("b") == Credentials("docker", "x")
    found = chain(home, REGISTRY_AUTH_FILE=str(home / "own.json")).find("a")
    assert found == Credentials("own", "x")


def test_helpers_are_asked(home: Path) -> None:
    helper(home, "one", 'read host; echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"of $host\\"}"')
    helper(home, "all", 'read host; [ "$host" = known ] || { echo credentials not found in native keychain; exit 1; }; '
           'echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"t\\"}"')  # fmt: skip
    write(home / ".docker/config.json", {"credHelpers": {"special": "one"}, "credsStore": "all"})
    assert chain(home).find("special") == Credentials("u", "of special")
    assert chain(home).find("known") == Credentials(identity_token="t")
    assert chain(home).find("unknown") is None


@pytest.mark.parametrize("name", ["../evil", "a b", "a;b", "-x/../y", "a/b"])
def test_a_helpers_name_is_no_path_and_no_command(home: Path, name: str) -> None:
    write(home / ".docker/config.json", {"credHelpers": {"a": name}})
    with pytest.raises(ManagerError, match="no name of a credential helper"):
        chain(home).find("a")


def test_a_helper_that_fails_or_is_missing_is_an_error(home: Path) -> None:
    write(home / ".docker/config.json", {"credHelpers": {"a": "gone", "b": "broken"}})
    helper(home, "broken", "echo no keyring >&2; exit 3")
    with pytest.raises(ManagerError, match="docker-credential-gone is not installed"):
        chain(home).find("a")
    with pytest.raises(ManagerError, match="no keyring"):
        chain(home).find("b")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths":{"a":{"auth":"!!"}}}'])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(home: Path, text: str) -> None:
    (home / ".docker/config.json").write_text(text)
    with pytest.raises(ManagerError, match=r"config\.json"):
        chain(home).find("a")


def test_login_and_logout(home: Path) -> None:
    write(home / ".docker/config.json", {"auths": {"other": auth("x", "y")}, "detachKeys": "ctrl-x"})
    keys = chain(home)
    assert keys.store("example.com:5000", Credentials("me", "secret")) == home / ".docker/config.json"
    assert keys.find("example.com:5000") == Credentials("me", "secret")
    assert stat.S_IMODE((home / ".docker/config.json").stat().st_mode) == 0o600
    assert keys.erase("example.com:5000")
    assert keys.find("example.com:5000") is None
    assert not keys.erase("example.com:5000")
    left = json.loads((home / ".docker/config.json").read_text())
    assert left == {"auths": {"other": auth("x", "y")}, "detachKeys": "ctrl-x"}


def test_login_by_a_helper(home: Path) -> None:
    helper(home, "all", f"cat > {home}/said; echo $1 >> {home}/said")
    write(home / ".docker/config.json", {"credsStore": "all"})
    assert chain(home).store("example.com", Credentials("me", "secret")) == "all"
    said = (home / "said").read_text()
    assert json.loads(said.removesuffix("store\n")) == {
        "ServerURL": "example.com", "Username": "me", "Secret": "secret"
    }  # fmt: skip
    assert "secret" not in (home / ".docker/config.json").read_text()


def test_passwords_do_not_show() -> None:
    assert "secret" not in repr(Credentials("me", "secret", "token-secret"))


# Challenges.


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://a/t",service="s"', [Challenge("bearer", {"realm": "https://a/t", "service": "s"})]),
        ('Basic realm="x y"', [Challenge("basic", {"realm": "x y"})]),
        ("BASIC", [Challenge("basic", {})]),
        ('Negotiate, Basic realm="a\\"b"', []),
        ('bearer Realm = "a" , scope="x,y"', [Challenge("bearer", {"realm": "a", "scope": "x,y"})]),
        ("", []),
        (",,,", []),
        ('Basic realm="unclosed', [Challenge("basic", {})]),
    ],
)
def test_challenges_are_read(header: str, found: list[Challenge]) -> None:
    if found:
        assert parse([header])[: len(found)] == found
    else:
        assert all(one.scheme != "bearer" for one in parse([header]))


HUB = frozenset({"auth.docker.io"})


@pytest.mark.parametrize(
    ("realm", "base", "allowed"),
    [
        ("https://example.com/token", "https://example.com", frozenset()),
        ("https://auth.example.com/token", "https://registry.example.com", frozenset()),
        ("https://example.co.uk/jwt", "https://registry.example.co.uk", frozenset()),
        ("https://auth.docker.io/token", "https://registry-1.docker.io", HUB),
        ("http://127.0.0.1:5000/token", "http://127.0.0.1:5000", frozenset()),
        ("https://elsewhere.org/token", "https://example.com", frozenset({"elsewhere.org"})),
    ],
)
def test_a_token_server_of_the_same_site_may_be_asked(realm: str, base: str, allowed: frozenset[str]) -> None:
    check_realm(realm, base, allowed)


@pytest.mark.parametrize(
    ("realm", "base"),
    [
        ("https://evil.com/token", "https://example.com"),
        ("https://example.com.evil.com/token", "https://example.com"),
        ("https://evil.co.uk/token", "https://example.co.uk"),
        ("http://example.com/token", "https://example.com"),
        ("https://example.com:8443/token", "https://example.com"),
        ("http://127.0.0.1:5001/token", "http://127.0.0.1:5000"),
        ("https://127.0.0.1/token", "https://10.0.0.1"),
        ("https://[::1]/token", "https://[::2]"),
        ("https://user@example.com/token", "https://example.com"),
        ("https://example.com:x/token", "https://example.com"),
        ("file:///etc/passwd", "https://example.com"),
        ("https:///token", "https://example.com"),
        ("https://localhost/token", "https://example.com"),
    ],
)
def test_any_other_may_not(realm: str, base: str) -> None:
    with pytest.raises(RegistryError):
        check_realm(realm, base, frozenset())


# Settings.


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"
    path.write_text(
        '[registry."docker.io"]\nmirrors = ["mirror.example", "http://10.0.0.1:5000/hub"]\n'
        '[registry."local.test:5000"]\ninsecure = true\nca = "/x.pem"\nrealms = ["auth.test"]\n'
        '[registry."mirror.example"]\nca = "/m.pem"\n'
    )
    settings = Settings(path)
    first, second, hub = settings.endpoints("docker.io")
    assert (first.base, first.is_mirror, first.plain, first.ca) == ("https://mirror.example", True, False, "/m.pem")
    assert (second.base, second.plain) == ("http://10.0.0.1:5000/hub", True)
    assert (hub.base, hub.realms) == ("https://registry-1.docker.io", HUB)
    (own,) = settings.endpoints("local.test:5000")
    assert (own.plain, own.verify, own.realms) == (True, False, frozenset({"auth.test"}))
    (plain,) = settings.endpoints("localhost:5000")
    assert (plain.plain, plain.verify) == (True, True)
    (other,) = settings.endpoints("example.com")
    assert (other.plain, other.verify) == (False, True)
    assert Settings(tmp_path / "missing.toml").endpoints("example.com") == [other]


@pytest.mark.parametrize(
    "text",
    [
        "[registry",
        "mirrors = []",
        '[registry."a"]\ninsecur = true',
        '[registry."a"]\ninsecure = "yes"',
        '[registry."a"]\nmirrors = [1]',
        '[registry."a"]\nmirrors = ["file:///x"]',
        "[registry]\na = 1",
        "registry = 1",
    ],
)
def test_a_file_that_says_what_nobody_knows_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "registries.toml"
    path.write_text(text)
    with pytest.raises(ManagerError, match=r"registries\.toml"):
        Settings(path)
