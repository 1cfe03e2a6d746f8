"""Who may do what: passwords, rules, mounts across them, and where it listens at all."""

from __future__ import annotations

import base64
import ssl
import subprocess
import time
from pathlib import Path

import bcrypt
import pytest
from running import PATIENCE, Reply, Running

from ocirt.manager.errors import ManagerError
from ocirt.manager.registry.server.access import Access, Rules, basic, passwords, pattern
from ocirt.manager.registry.server.options import Options

RULES = """
[users.alice]
write = ["team/**", "base"]
[users.ci]
read = ["**"]
write = ["ci/*"]
[everybody]
read = ["base"]
[anonymous]
read = ["public/**"]
"""


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def files(folder: Path, rules: str | None = RULES) -> dict[str, Path]:
    lines = ["# who", "", *(f"{name}:{hashed(name + '-word')}" for name in ("alice", "ci", "bob"))]
    (folder / "htpasswd").write_text("\n".join(lines) + "\n")
    if rules is None:
        return {"htpasswd": folder / "htpasswd"}
    (folder / "rules.toml").write_text(rules)
    return {"htpasswd": folder / "htpasswd", "rules": folder / "rules.toml"}


def login(name: str, password: str | None = None) -> dict[str, str]:
    text = f"{name}:{password if password is not None else name + '-word'}"
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_without_rules_who_logs_in_may_do_all(tmp_path: Path) -> None:
    with Running(tmp_path / "r", **files(tmp_path, None)) as registry:
        for headers in ({}, login("alice", "wrong"), login("nobody"), {"Authorization": "Bearer x"}):
            for path in ("/v2/", "/v2/a/tags/list", "/v2/_catalog"):
                reply = registry.ask("GET", path, headers=headers)
                assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
                assert reply.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert registry.ask("GET", "/v2/", headers=login("alice")).status == 200
        registry.push_blob("a", b"data", **login("alice"))
        assert registry.ask("GET", "/v2/_catalog", headers=login("bob")).json["repositories"] == ["a"]
        registry.end()
        registry.log.close()
        assert ' alice "GET /v2/" 200 ' in registry.said.getvalue()
        assert "alice-word" not in registry.said.getvalue()


def test_rules(tmp_path: Path) -> None:
    with Running(tmp_path / "r", **files(tmp_path)) as registry:
        team = registry.push_blob("team/a/b", b"team", **login("alice"))
        base = registry.push_blob("base", b"base", **login("alice"))
        built = registry.push_blob("ci/x", b"ci", **login("ci"))

        def get(repository: str, digest: str, **headers: str) -> int:
            return registry.ask("GET", f"/v2/{repository}/blobs/{digest}", headers=headers).status

        assert [get("team/a/b", team, **login(name)) for name in ("alice", "ci", "bob")] == [200, 200, 403]
        assert [get("base", base, **login(name)) for name in ("alice", "ci", "bob")] == [200, 200, 200]
        assert [get("ci/x", built, **login(name)) for name in ("alice", "ci", "bob")] == [403, 200, 403]
        assert get("base", base) == 401
        assert get("public/x", base) == 404

        def post(repository: str, **headers: str) -> Reply:
            return registry.ask("POST", f"/v2/{repository}/blobs/uploads/", headers=headers)

        wanted = {"team": 403, "team/a": 202, "base": 202, "base/a": 403, "ci/x": 403, "public/x": 403}
        assert {name: post(name, **login("alice")).status for name in wanted} == wanted
        assert post("ci/x/y", **login("ci")).code == "DENIED"
        assert post("public/x").code == "UNAUTHORIZED"
        for method, path in (
            ("DELETE", f"blobs/{team}"),
            ("DELETE", "manifests/v1"),
            ("PUT", "manifests/v1"),
            ("PATCH", "blobs/uploads/x"),
            ("PUT", f"blobs/uploads/x?digest={team}"),
            ("GET", "blobs/uploads/x"),
            ("DELETE", "blobs/uploads/x"),
        ):
            assert registry.ask(method, f"/v2/team/a/b/{path}", headers=login("ci")).code == "DENIED"
        for name, seen in (("alice", ["base", "team/a/b"]), ("ci", ["base", "ci/x", "team/a/b"]), ("bob", ["base"])):
            assert registry.ask("GET", "/v2/_catalog", headers=login(name)).json["repositories"] == seen


def test_nobody_mounts_what_they_may_not_read(tmp_path: Path) -> None:
    with Running(tmp_path / "r", **files(tmp_path)) as registry:
        secret = registry.push_blob("ci/x", b"secret", **login("ci"))
        own = registry.push_blob("base", b"base", **login("alice"))
        for query in (f"?mount={secret}&from=ci/x", f"?mount={secret}"):
            reply = registry.ask("POST", f"/v2/team/a/blobs/uploads/{query}", headers=login("alice"))
            assert reply.status == 202
            assert registry.ask("GET", f"/v2/team/a/blobs/{secret}", headers=login("alice")).status == 404
        mounted = registry.ask("POST", f"/v2/ci/y/blobs/uploads/?mount={own}&from=base", headers=login("ci"))
        assert mounted.status == 201


def test_a_changed_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocirt.manager.registry.server.server.REFRESH_SECONDS", 0.05)
    own = files(tmp_path, None)
    with Running(tmp_path / "r", **own) as registry:

        def becomes(status: int) -> None:
            until = time.monotonic() + PATIENCE
            while registry.ask("GET", "/v2/", headers=login("alice", "new")).status != status:
                assert time.monotonic() < until
                time.sleep(0.05)

        assert registry.ask("GET", "/v2/", headers=login("alice")).status == 200
        own["htpasswd"].write_text(f"alice:{hashed('new')}\n")
        becomes(200)
        assert registry.ask("GET", "/v2/", headers=login("alice")).status == 401
        own["htpasswd"].write_text("alice:plain\n")
        registry.wait_until_said("htpasswd:1 is no NAME:HASH")
        becomes(200)


def test_passwords_are_remembered_in_part_only(tmp_path: Path) -> None:
    access = Access(files(tmp_path, None)["htpasswd"], None)
    right = login("alice")["Authorization"]
    assert access.remembered(right) is None
    caller = access.check(right)
    assert caller is not None
    assert caller.name == "alice"
    assert access.remembered(right) == caller
    assert access.remembered(login("alice", "wrong")["Authorization"]) is None
    for wrong in (
        login("alice", "wrong"),
        login("alice", ""),
        login("", "x"),
        login("alice", "x\0y"),
        login("bob:", "x"),
    ):
        assert access.check(wrong["Authorization"]) is None


def test_long_passwords_are_what_htpasswd_makes_of_them(tmp_path: Path) -> None:
    long = "x" * 100
    (tmp_path / "htpasswd").write_text(f"a:{hashed(long[:72])}\n")
    access = Access(tmp_path / "htpasswd", None)
    assert access.check(login("a", long)["Authorization"]) is not None
    assert access.check(login("a", long[:71])["Authorization"]) is None


@pytest.mark.parametrize(
    "text", ["", "Basic", "Basic !", "Basic YQ==", "Bearer YTpi", "Basic " + "YTpi" * 2000, "Basic OmI="]
)
def test_what_is_no_login(text: str) -> None:
    assert basic(text) is None


@pytest.mark.parametrize("line", ["a", "a:", ":x", "a:$apr1$x$y", "a:{SHA}x", "a:plain", "a:$2y$05$short"])
def test_other_hashes_are_refused(line: str) -> None:
    with pytest.raises(ManagerError, match="f:2 is no NAME:HASH"):
        passwords(Path("f"), f"# x\n{line}\n")


@pytest.mark.parametrize(
    ("text", "fitting", "others"),
    [
        ("a", ["a"], ["a/b", "ab"]),
        ("a/*", ["a/b", "a/bc"], ["a", "a/b/c", "xa/b"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a.b-*", ["a.b-c"], ["axb-c", "a.b-c/d"]),
        ("**", ["a", "a/b"], []),
    ],
)
def test_patterns(text: str, fitting: list[str], others: list[str]) -> None:
    assert [one for one in fitting + others if pattern(text).fullmatch(one)] == fitting


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[users]\na = 1",
        "[users.a]\nwrites = []",
        "[users.a]\nwrite = 'x'",
        "[anyone]\nread = []",
        "[everybody]\nread = [1]",
    ],
)
def test_rules_that_cannot_be_understood(text: str) -> None:
    with pytest.raises(ManagerError, match=r"rules\.toml"):
        Rules(Path("rules.toml"), text)


# Where it listens.


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", "::", "example.com", "127.0.0.1.example.com"])
def test_it_is_not_open_to_the_network(address: str, tmp_path: Path) -> None:
    for options in (Options(address), Options(address, htpasswd=tmp_path), Options(address, certificate=tmp_path)):
        with pytest.raises(ManagerError, match="open to the network"):
            options.check()
    Options(address, htpasswd=tmp_path, certificate=tmp_path).check()
    Options(address, insecure=True).check()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_loopback_needs_neither(address: str) -> None:
    Options(address).check()


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    for options in (Options(key=tmp_path), Options(rules=tmp_path), Options(port=70000)):
        with pytest.raises(ManagerError):
            options.check()


def test_an_address_that_is_taken(registry: Running, tmp_path: Path) -> None:
    class Taken(Running):
        def __enter__(self) -> Running:
            self.options = Options(port=registry.port)
            return super().__enter__()

    with pytest.raises(ManagerError, match=f"listen on 127.0.0.1:{registry.port}"), Taken(tmp_path / "other"):
        pass


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:5000", 200), ("127.0.0.1:1", 200), ("[::1]:5000", 200), ("a.localhost", 200),
     ("evil.example:5000", 403), ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403), ("10.0.0.1", 403)],
)  # fmt: skip
def test_names_of_others_that_lead_here(registry: Running, host: str, status: int) -> None:
    assert registry.ask("GET", "/v2/", headers={"Host": host}).status == status


def test_web_pages_are_refused(tmp_path: Path) -> None:
    with Running(tmp_path / "r", insecure=True) as registry:
        assert registry.ask("GET", "/v2/", headers={"Host": "any.example"}).status == 200
        assert registry.ask("GET", "/v2/", headers={"Origin": "http://any.example"}).code == "DENIED"


def certificate(folder: Path) -> ssl.SSLContext:
    """Files `cert` and `key`, new ones each time; what believes in them and nothing else."""
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split()
    )
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key", "-out", folder / "cert"]
    subprocess.run([*make, *files], check=True, capture_output=True)
    return ssl.create_default_context(cafile=str(folder / "cert"))


def test_tls(tmp_path: Path) -> None:
    believing = certificate(tmp_path)
    data = b"data" * 500_000
    with Running(tmp_path / "r", certificate=tmp_path / "cert", key=tmp_path / "key") as registry:
        registry.tls = believing
        digest = registry.push_blob("a", data)
        path = f"/v2/a/blobs/{digest}"
        assert registry.ask("GET", path).body == data
        assert registry.ask("GET", path, headers={"Range": "bytes=1999990-"}).body == data[-10:]
        assert registry.raw(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")[:5] != b"HTTP/"
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        registry.tls = old
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            registry.ask("GET", "/v2/")


def test_a_certificate_is_renewed(tmp_path: Path) -> None:
    believing = certificate(tmp_path)
    with Running(tmp_path / "r", certificate=tmp_path / "cert", key=tmp_path / "key") as registry:
        (tmp_path / "cert").write_text("half")
        registry.loop.call_soon_threadsafe(registry.server.reload)
        registry.wait_until_said("cert: ")
        registry.tls = believing
        assert registry.ask("GET", "/v2/").status == 200
        registry.tls = certificate(tmp_path)
        with pytest.raises(ssl.SSLCertVerificationError):
            registry.ask("GET", "/v2/")
        registry.loop.call_soon_threadsafe(registry.server.reload)
        assert registry.ask("GET", "/v2/").status == 200


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "cert").write_text("nothing")
    with pytest.raises(ManagerError, match="cert"), Running(tmp_path / "r", certificate=tmp_path / "cert"):
        pass
