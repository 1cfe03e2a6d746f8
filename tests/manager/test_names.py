"""References, digests and names: what is accepted, what it becomes, what is refused."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.manager import digest as digests
from ocirt.manager import names
from ocirt.manager.errors import DigestError, GrammarError

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("a/b:t", "docker.io/a/b:t", "a/b:t"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        (f"a@{D}", f"docker.io/library/a@{D}", f"a@{D}"),
        (f"h.example/a:t@{D}", f"h.example/a:t@{D}", f"h.example/a:t@{D}"),
        ("Example.com/a", "example.com/a:latest", "example.com/a:latest"),
        ("a__b/c--d:T.1_-", "docker.io/a__b/c--d:T.1_-", "a__b/c--d:T.1_-"),
    ],
)
def test_a_reference_is_made_whole(text: str, whole: str, familiar: str) -> None:
    reference = names.parse(text)
    assert str(reference) == whole
    assert reference.familiar == familiar
    assert names.parse(familiar) == reference
    assert names.parse(whole) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "a/B",
        "a:",
        "a:.x",
        "a:" + "x" * 129,
        "a@",
        "a@sha256:ab",
        f"a@{D}@{D}",
        "a@sha256:" + "A" * 64,
        "a//b",
        "/a",
        "a/",
        "../a",
        "a/../b",
        "a___b",
        "-a",
        "a b",
        "a\n",
        "localhost:99999/a",
        "localhost:0/a",
        "ex_ample.com/a",
        "a" * 300,
        "a" * 64,
        "http://a.example/b",
        "a?b",
        "a:t/b",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        names.parse(text)


def test_a_name_in_capitals_is_told_why() -> None:
    with pytest.raises(GrammarError, match="lowercase"):
        names.parse("Busybox")


@given(st.text(max_size=80))
def test_no_text_is_anything_but_a_reference_or_an_error(text: str) -> None:
    try:
        reference = names.parse(text)
    except GrammarError:
        return
    assert names.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["sha256:../../x", "md5:" + "a" * 32, "sha256:" + "a" * 63, "sha256:" + "g" * 64, "", None, 7, f"{D}\n"]
)
def test_what_is_no_digest_is_refused(text: object) -> None:
    with pytest.raises(GrammarError):
        digests.parse(text)


def test_bytes_are_checked_while_they_pass() -> None:
    data = b"abc" * 1000
    for algorithm in ("sha256", "sha512"):
        checking = digests.Checking(digests.of(data, algorithm), len(data))
        for start in range(0, len(data), 7):
            checking.update(data[start : start + 7])
        checking.finish()
        assert checking.digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def test_too_many_bytes_are_noticed_at_once_and_too_few_or_others_at_the_end() -> None:
    data = b"0123456789"
    with pytest.raises(DigestError, match="longer than the 9"):
        digests.Checking(digests.of(data), 9).update(data)
    short = digests.Checking(digests.of(data), 10)
    short.update(data[:9])
    with pytest.raises(DigestError, match="9 bytes instead of 10"):
        short.finish()
    other = digests.Checking(digests.of(data), 10)
    other.update(data[::-1])
    with pytest.raises(DigestError, match="has the digest sha256:"):
        other.finish()


@pytest.mark.parametrize("text", ["a", "", ".a", "a/b", "a b", "-ab", "ab\n", "é1", "a" * 256])
def test_what_is_no_name_of_a_container_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        names.name(text)


def test_names_of_containers() -> None:
    assert names.name("a1") == "a1"
    assert names.name("My.web_server-1") == "My.web_server-1"
