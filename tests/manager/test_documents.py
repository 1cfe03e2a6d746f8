"""Manifests and indexes: what is read, and everything that is refused rather than guessed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ocirt.manager import documents
from ocirt.manager.documents import Descriptor, Index, Manifest, Platform
from ocirt.manager.errors import DocumentError, GrammarError, LimitError

D = "sha256:" + "a" * 64
CONFIG = {"mediaType": documents.OCI_CONFIG, "digest": D, "size": 2}
LAYER = {"mediaType": f"{documents.OCI_LAYER}+gzip", "digest": D, "size": 3}
MANIFEST = {"schemaVersion": 2, "mediaType": documents.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}


def parse(value: Any, media_type: str = "") -> Manifest | Index:
    return documents.parse(json.dumps(value).encode(), media_type)


def index(*entries: dict[str, Any]) -> Index:
    parsed = parse({"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": list(entries)})
    assert isinstance(parsed, Index)
    return parsed


def entry(platform: str, digit: str = "b") -> dict[str, Any]:
    os, architecture, *variant = platform.split("/")
    place = {"os": os, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
    return {"mediaType": documents.OCI_MANIFEST, "digest": "sha256:" + digit * 64, "size": 1, "platform": place}


def test_a_manifest_is_read() -> None:
    manifest = parse(MANIFEST, documents.OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    assert manifest.config == Descriptor(documents.OCI_CONFIG, D, 2)
    assert [documents.compression(layer) for layer in manifest.layers] == ["gzip"]
    assert manifest.layers[0].as_json() == LAYER


def test_a_type_that_is_left_out_is_the_senders_or_the_shapes() -> None:
    bare = {name: value for name, value in MANIFEST.items() if name != "mediaType"}
    assert parse(bare).media_type == documents.OCI_MANIFEST
    assert parse(bare, documents.DOCKER_MANIFEST).media_type == documents.DOCKER_MANIFEST
    assert isinstance(parse({"schemaVersion": 2, "manifests": []}), Index)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"manifests": []}, "which is another kind's"),
        ({"mediaType": documents.OCI_INDEX}, "another kind's"),
        ({"mediaType": "text/html"}, "no image's"),
        ({"mediaType": 7}, "no string"),
        ({"schemaVersion": 1, "mediaType": ""}, "has no schemaVersion 2"),
        ({"config": None}, "no JSON object"),
        ({"config": CONFIG | {"digest": "sha256:../../x"}}, "no digest"),
        ({"config": CONFIG | {"size": -1}}, "no size"),
        ({"config": CONFIG | {"size": True}}, "no size"),
        ({"config": CONFIG | {"size": 1 << 63}}, "no size"),
        ({"config": CONFIG | {"mediaType": ""}}, "no mediaType"),
        ({"layers": {}}, "no list"),
        ({"layers": [LAYER | {"annotations": {"a": 1}}]}, "no string"),
        ({"annotations": []}, "no JSON object"),
        ({"subject": []}, "no JSON object"),
        ({"fsLayers": []}, "another kind's"),
    ],
)
def test_a_manifest_that_is_not_one_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(DocumentError, match=says):
        parse(MANIFEST | change)


def test_what_the_sender_says_must_agree() -> None:
    with pytest.raises(DocumentError, match="calls itself"):
        parse(MANIFEST, documents.DOCKER_MANIFEST)
    with pytest.raises(DocumentError, match="another kind's"):
        parse({"schemaVersion": 2, "layers": [], "config": CONFIG}, documents.OCI_INDEX)


def test_schema_1_is_named() -> None:
    with pytest.raises(DocumentError, match=r"neither a manifest nor an index.*schema 1"):
        parse({"schemaVersion": 1, "fsLayers": []})
    with pytest.raises(DocumentError, match="schema 1"):
        parse({"schemaVersion": 1}, "application/vnd.docker.distribution.manifest.v1+prettyjws")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a":1,"a":2}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"schemaVersion":2,"config":' * 5000,
    ],
)
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        documents.parse(data)


def test_sizes_are_bounded() -> None:
    with pytest.raises(LimitError, match="more than 4194304"):
        documents.parse(b" " * (documents.LARGEST_DOCUMENT + 1))
    with pytest.raises(LimitError, match="1001 layers"):
        parse(MANIFEST | {"layers": [LAYER] * 1001})


def test_a_platform_is_chosen_by_variant() -> None:
    several = index(
        entry("linux/amd64", "1"), entry("linux/arm/v6", "2"), entry("linux/arm/v7", "3"), entry("linux/arm64/v8", "4")
    )

    def digit(text: str) -> str:
        return documents.choose(several, documents.platform(text)).digest[-1]

    assert digit("linux/amd64") == "1"
    assert digit("amd64") == "1"
    assert digit("linux/arm/v7") == "3"
    assert digit("linux/arm") == "3"
    assert digit("linux/arm/v6") == "2"
    assert digit("linux/arm/v8") == "3"
    assert digit("linux/arm64") == "4"
    assert digit("aarch64") == "4"
    with pytest.raises(DocumentError, match=r"no image for linux/arm/v5.*linux/arm/v6, linux/arm/v7"):
        digit("linux/arm/v5")


def test_of_two_that_fit_alike_the_first_is_chosen() -> None:
    assert (
        documents.choose(
            index(entry("linux/amd64", "1"), entry("linux/amd64", "2")), Platform("linux", "amd64")
        ).digest[-1]
        == "1"
    )


def test_attestations_are_never_chosen() -> None:
    only = index(entry("unknown/unknown"))
    with pytest.raises(DocumentError, match="none at all"):
        documents.choose(only, Platform("linux", "amd64"))


def test_a_single_entry_without_a_platform_will_do() -> None:
    bare = {name: value for name, value in entry("linux/amd64").items() if name != "platform"}
    assert documents.choose(index(bare), Platform("linux", "s390x")).platform is None


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "linux/a b", "../x"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        documents.platform(text)


def test_what_is_no_layer_has_no_compression() -> None:
    with pytest.raises(DocumentError, match="no file system"):
        documents.compression(Descriptor("application/x-sh", D, 1))
