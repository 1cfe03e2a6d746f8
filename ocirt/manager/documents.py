"""Manifests, indexes and image configurations: read, checked, and never guessed at.

Sources: image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md) and Docker's manifest schema 2. A
document is one of these by its `mediaType` and by its shape, which must agree (CVE-2021-41190: bytes that are a
manifest to one reader and an index to another). Sizes are bounded before a parser sees them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ocirt.manager import digest as digests
from ocirt.manager.errors import DocumentError, GrammarError, LimitError

LARGEST_DOCUMENT = 4 << 20  # bytes: what registries must take at least (distribution-spec 1.1, "Pushing Manifests")
DEEPEST = 500
"""Brackets in brackets: a parser that comes to its own limit leaves no room for what else Python does just then."""
MOST_LAYERS = 1000
MOST_MANIFESTS = 10_000

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ACCEPTED = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)

# How a layer is compressed, by the end of its media type; "" is a plain tar.
_COMPRESSIONS = {
    OCI_LAYER: "",
    f"{OCI_LAYER}+gzip": "gzip",
    f"{OCI_LAYER}+zstd": "zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": "gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": "zstd",
    DOCKER_LAYER: "gzip",
    DOCKER_FOREIGN_LAYER: "gzip",
    "application/vnd.docker.image.rootfs.diff.tar": "",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = Any  # what json.loads returns; narrowed by the functions here


@dataclass(frozen=True, slots=True)
class Platform:
    """os and architecture in Go's words ("linux", "arm64"), variant "v8" or ""."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Where bytes are to be had, and what they must be (descriptor.md)."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    def as_json(self) -> dict[str, Json]:
        """The object for a manifest."""
        value: dict[str, Json] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform is not None:
            value["platform"] = {"architecture": self.platform.architecture, "os": self.platform.os}
            if self.platform.variant:
                value["platform"]["variant"] = self.platform.variant
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image: its configuration and its layers, lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """The same image for several platforms, or whatever somebody put together."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str = ""


def load(data: bytes, what: str) -> Json:
    """The JSON value of untrusted bytes. Raises LimitError (size), DocumentError (no JSON, too deep, a key twice)."""
    if len(data) > LARGEST_DOCUMENT:
        raise LimitError(f"{what} has {len(data)} bytes, more than {LARGEST_DOCUMENT}")
    if _depth(data) > DEEPEST:
        raise DocumentError(f"{what} is no JSON that anybody means: it is nested more than {DEEPEST} deep")
    try:
        return json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{what} is no JSON: {error}") from error


_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _depth(data: bytes) -> int:
    """How deep brackets are nested, those in strings counted too: honest texts close most that they open."""
    depth = deepest = 0
    for bracket in data.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """A key that is there twice means one thing to one reader and another to the next."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a key twice")
    return value


def parse(data: bytes, media_type: str = "", *, what: str = "manifest") -> Manifest | Index:
    """The document of these bytes.

    media_type   what the registry or the descriptor called it, or "": it must agree with the document's own.
    Raises DocumentError, LimitError, GrammarError (a digest).
    """
    value = _object(load(data, what), what)
    own = value.get("mediaType", "")
    if not isinstance(own, str):
        raise DocumentError(f"{what}: mediaType is no string")
    if own and media_type and own != media_type:
        raise DocumentError(f"{what} calls itself {own}, and its sender {media_type}")
    kind = own or media_type or _kind(value, what)
    if kind not in MANIFESTS | INDEXES:
        raise DocumentError(f"{what} is {_of(value, kind)}", hint=_hint(value))
    wrong = ("manifests",) if kind in MANIFESTS else ("layers", "config")
    for name in (*wrong, "fsLayers", "history"):
        if name in value:
            raise DocumentError(f"{what} is {kind} and has {name!r}, which is another kind's")
    if value.get("schemaVersion") != 2:
        raise DocumentError(f"{what} has no schemaVersion 2")
    subject = descriptor(value["subject"], f"{what}: subject") if value.get("subject") is not None else None
    common = (
        _strings(value.get("annotations"), f"{what}: annotations"),
        subject,
        _string(value.get("artifactType"), what),
    )
    if kind in INDEXES:
        return Index(kind, tuple(_descriptors(value, "manifests", MOST_MANIFESTS, what)), *common)
    config = descriptor(value.get("config"), f"{what}: config")
    return Manifest(kind, config, tuple(_descriptors(value, "layers", MOST_LAYERS, what)), *common)


def _kind(value: dict[str, Json], what: str) -> str:
    """OCI documents may leave out their type where the shape says it."""
    if ("manifests" in value) == ("layers" in value):
        raise DocumentError(f"{what} is neither a manifest nor an index", hint=_hint(value))
    return OCI_INDEX if "manifests" in value else OCI_MANIFEST


def _of(value: dict[str, Json], kind: str) -> str:
    if value.get("schemaVersion") == 1:
        return "a manifest of Docker's schema 1"
    return f"of the type {kind[:100]!r}, which is no image's"


def _hint(value: dict[str, Json]) -> str:
    return "schema 1 was given up by all registries; push the image again" if value.get("schemaVersion") == 1 else ""


def descriptor(value: Json, what: str) -> Descriptor:
    """One descriptor. Raises DocumentError, GrammarError."""
    value = _object(value, what)
    media_type, size = value.get("mediaType"), value.get("size")
    if not isinstance(media_type, str) or not media_type:
        raise DocumentError(f"{what} has no mediaType")
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise DocumentError(f"{what} has no size in bytes")
    try:
        digest = digests.parse(value.get("digest"))
    except GrammarError as error:
        raise DocumentError(f"{what}: {error.message}", hint=error.hint) from error
    annotations = _strings(value.get("annotations"), f"{what}: annotations")
    platform = _platform(value["platform"], what) if value.get("platform") is not None else None
    return Descriptor(media_type, digest, size, platform, annotations, _string(value.get("artifactType"), what))


def _platform(value: Json, what: str) -> Platform:
    value = _object(value, f"{what}: platform")
    return Platform(
        *(_string(value.get(name), f"{what}: platform: {name}") for name in ("os", "architecture", "variant"))
    )


def _descriptors(value: dict[str, Json], name: str, most: int, what: str) -> Iterable[Descriptor]:
    several = value.get(name)
    if not isinstance(several, list):
        raise DocumentError(f"{what} has no list {name!r}")
    if len(several) > most:
        raise LimitError(f"{what} has {len(several)} {name}, more than {most}")
    return [descriptor(each, f"{what}: {name}[{index}]") for index, each in enumerate(several)]


def _object(value: Json, what: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise DocumentError(f"{what} is no JSON object")
    return value


def _string(value: Json, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DocumentError(f"{what}: {str(value)[:40]!r} is no string")
    return value


def _strings(value: Json, what: str) -> dict[str, str]:
    if value is None:
        return {}
    texts = _object(value, what)
    if not all(isinstance(each, str) for each in texts.values()):
        raise DocumentError(f"{what}: a value is no string")
    return texts


def compression(layer: Descriptor) -> str:
    """How a layer is compressed: "", "gzip" (estargz too) or "zstd". Raises DocumentError for what is no layer."""
    try:
        return _COMPRESSIONS[layer.media_type]
    except KeyError:
        raise DocumentError(
            f"layer {layer.digest} is of the type {layer.media_type[:100]!r}, which is no file system"
        ) from None


# Platforms, in the order in which a host prefers them.

_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "i386": "386",
    "riscv64": "riscv64",
}
_MACHINES |= {"ppc64le": "ppc64le", "s390x": "s390x", "loongarch64": "loong64"}
_NORMAL = {("arm64", ""): "v8", ("arm", ""): "v7", ("amd64", "v1"): ""}
_OTHERS = {"x86_64": "amd64", "x86-64": "amd64", "i386": "386", "aarch64": "arm64", "armhf": "arm", "armel": "arm"}


def platform(text: str) -> Platform:
    """ "linux/arm64/v8", "arm64", "linux": what was left out is this host's. Raises GrammarError."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise GrammarError(f"{text[:60]!r} is no platform", hint="OS/ARCHITECTURE[/VARIANT], such as linux/arm64")
    if len(parts) == 1:
        parts = ["linux", *parts] if parts[0] != "linux" else [parts[0], host_platform().architecture]
    machine = _OTHERS.get(parts[1], parts[1])
    variant = parts[2] if len(parts) == 3 else {"armel": "v6"}.get(parts[1], "")
    return Platform(parts[0], machine, _NORMAL.get((machine, variant), variant))


def host_platform() -> Platform:
    """This machine's (uname(2))."""
    import os

    machine = os.uname().machine
    architecture = _MACHINES.get(machine, machine)
    variant = {"armv6l": "v6", "armv7l": "v7"}.get(machine, "")
    return Platform("linux", architecture, _NORMAL.get((architecture, variant), variant))


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The entry for a platform: the same variant, else the nearest lower one, else one without (image-index.md;
    containerd's order).

    Attestations and other entries of "unknown/unknown" are never chosen. Raises DocumentError, which lists what there
    is.
    """
    fitting = []
    for position, entry in enumerate(index.manifests):
        if entry.media_type not in MANIFESTS or entry.platform is None:
            continue
        distance = _distance(entry.platform, wanted)
        if distance is not None:
            fitting.append((distance, position, entry))
    if fitting:
        return min(fitting)[2]
    images = [entry for entry in index.manifests if entry.media_type in MANIFESTS]
    if len(images) == 1 and images[0].platform is None:
        return images[0]
    there = sorted({str(entry.platform) for entry in images if entry.platform and entry.platform.os != "unknown"})
    raise DocumentError(f"no image for {wanted}", hint="there is " + (", ".join(there) or "none at all"))


def _distance(has: Platform, wanted: Platform) -> int | None:
    """0 for the same, more for an older variant that this one runs, None for another platform."""
    if (has.os, has.architecture) != (wanted.os, wanted.architecture):
        return None
    mine = _NORMAL.get((has.architecture, has.variant), has.variant)
    ours = _NORMAL.get((wanted.architecture, wanted.variant), wanted.variant)
    if mine == ours:
        return 0
    numbers = _version(mine), _version(ours)
    return numbers[1] - numbers[0] if numbers[0] < numbers[1] else None


def _version(variant: str) -> int:
    """ "v7" is 7; no variant is older than any."""
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdecimal() else 0


def encode(value: Mapping[str, Json] | Sequence[Json]) -> bytes:
    """The bytes of a document that we make: compact, keys in the order given, the same each time."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
