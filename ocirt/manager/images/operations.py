"""tag, rmi, images, history, inspect: docker's words for what is in the store.

An image's id is the digest of its configuration, as docker and podman have it. What no name leads to any more goes with
the next collection, unless a container needs it: a container keeps its image whatever becomes of its names.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from ocirt.manager import names
from ocirt.manager.documents import Descriptor, Platform
from ocirt.manager.errors import ConflictError, GrammarError, ManagerError, MissingError
from ocirt.manager.images import facts
from ocirt.manager.images.committing import commit, export
from ocirt.manager.images.facts import Facts
from ocirt.manager.images.importing import import_tar
from ocirt.manager.site import Site
from ocirt.manager.store.collect import collect
from ocirt.manager.store.images import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Listed", "Step", "commit", "export", "history", "import_tar", "inspect", "listed", "remove", "tag"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of `images`.

    id           digest of the configuration
    repository   "busybox", "localhost:5000/a/b", or ""; tag: "" where it has none
    digest       of what the name stands for
    created      nanoseconds since 1970, or 0
    size         bytes of all layers: of their files where they are unpacked, else of their blobs
    """

    id: str
    repository: str
    tag: str
    digest: str
    created: int
    size: int
    labels: dict[str, str]
    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """A line of `history`, the newest first. id: of the image for its last step, "" for others; created: nanoseconds
    since 1970, or 0.
    """

    id: str
    created: int
    created_by: str
    size: int
    comment: str
    tags: tuple[str, ...] = ()


def tag(site: Site, source: str, name: str) -> None:
    """Another name for an image. Raises MissingError, ConflictError, GrammarError."""
    reference = names.parse(name)
    if reference.digest:
        raise GrammarError(f"{name} has a digest, and no tag can be given to that")
    image = site.images.find(source)
    with site.database.write() as transaction:
        query = "select 1 from images where name = ? and digest = ?"
        if transaction.execute(query, (image.name, image.target.digest)).fetchone() is None:
            raise MissingError(f"{source} was removed meanwhile")
        site.images.set(transaction, str(reference), image.target)
        # The name by which an image without one was kept.
        transaction.execute("delete from images where name = ?", (image.target.digest,))


def remove(site: Site, text: str, *, force: bool = False) -> list[str]:
    """Take a name away, or by an id all names of an image, and remove what nothing else needs.

    force   though a container is of it, and though the id has several names
    Returns docker's lines: "Untagged: NAME", "Deleted: ID". Raises MissingError, ConflictError.
    """
    image = site.images.find(text)
    by_name = image.named and _is_name_of(text, image)
    with site.database.write() as transaction:
        rows = transaction.execute("select name from images where digest = ?", (image.target.digest,)).fetchall()
        all_names = [str(name) for (name,) in rows]
        going = [image.name] if by_name else all_names
        if image.name not in all_names:
            raise MissingError(f"{text} was removed meanwhile")
        if len(going) > 1 and not force:
            hint = "ocim rmi of each, or --force: " + ", ".join(_familiar(name) for name in going)
            raise ConflictError(f"{text} has several names", hint=hint)
        last = len(going) == len(all_names)
        if last and not force:
            _check_unused(site, image.target, text)
        transaction.executemany("delete from images where name = ?", [(name,) for name in going])
    lines = [f"Untagged: {_familiar(name)}" for name in going if "/" in name]
    if not last:
        return lines
    ids = [digest for digest in site.images.ids(image.target) if digest != image.target.digest]
    collect(site.blobs, site.database, site.snapshots)
    gone = [digest for digest in (image.target.digest, *ids) if site.blobs.size(digest) is None]
    return lines + [f"Deleted: {digest}" for digest in gone]


def _check_unused(site: Site, target: Descriptor, text: str) -> None:
    users = containers_of(site, target)
    if users:
        container_id, name = users[0]
        raise ConflictError(
            f"the container {name} ({container_id[:12]}) is of {text}",
            hint="ocim rm it first; with --force the name goes, and what the container needs stays",
        )


def containers_of(site: Site, target: Descriptor) -> list[tuple[str, str]]:
    """(id, name) of the containers that are of an image, or of one of an index's platforms."""
    query = "select id, name, image from containers"
    documents = set(site.images.ids(target))
    rows = site.database.read.execute(query).fetchall()
    return [(str(container), str(name)) for container, name, image in rows if image in documents]


def listed(site: Site, filters: Sequence[tuple[str, str]] = ()) -> list[Listed]:
    """All images, the newest first.

    filters   docker's: dangling=BOOL, label=KEY[=VALUE], reference=PATTERN, before=IMAGE, since=IMAGE. Several
              of `reference` are alternatives; of the others all have to hold.
    Raises GrammarError, MissingError.
    """
    found = [_listed(site, image, _facts(site, image)) for image in site.images]
    found.sort(key=lambda one: (-one.created, one.name))
    patterns = [value for name, value in filters if name == "reference"]
    if patterns:
        found = [one for one in found if any(_matches(one, pattern) for pattern in patterns)]
    for name, value in filters:
        if name != "reference":
            found = _filtered(site, found, name, value)
    return found


def _filtered(site: Site, found: list[Listed], name: str, value: str) -> list[Listed]:
    if name == "dangling":
        if value.lower() not in ("true", "false", "1", "0"):
            raise GrammarError(f"dangling={value[:40]}", hint="true or false")
        return [one for one in found if (not one.repository) == (value.lower() in ("true", "1"))]
    if name == "label":
        key, equals, wanted = value.partition("=")
        return [one for one in found if key in one.labels and (not equals or one.labels[key] == wanted)]
    if name in ("before", "since"):
        moment = facts.of(site, site.images.find(value).target).created
        return [one for one in found if (one.created < moment if name == "before" else one.created > moment)]
    raise GrammarError(f"{name[:40]!r} is no filter of images", hint="before, dangling, label, reference, since")


def _matches(one: Listed, pattern: str) -> bool:
    """Go's path.Match: a star does not cover a slash, as docker's --filter reference has it."""
    if not one.repository:
        return False
    texts = [one.repository]
    if one.tag:
        texts.append(f"{one.repository}:{one.tag}")
    whole = names.parse(one.name)
    texts += [whole.repository, f"{whole.repository}:{one.tag}"]
    parts = pattern.split("/")
    for text in texts:
        pieces = text.split("/")
        if len(pieces) == len(parts) and all(map(fnmatch.fnmatchcase, pieces, parts)):
            return True
    return False


def _listed(site: Site, image: Image, known: Facts | None) -> Listed:
    repository = shown_tag = ""
    if image.named:
        reference = names.parse(image.name)
        repository, shown_tag = names.Reference(reference.host, reference.path).familiar, reference.tag
    if known is None:
        return Listed(image.target.digest, repository, shown_tag, image.target.digest, 0, 0, {}, image.name)
    size = sum(facts.layer_sizes(site, known))
    labels = known.configuration.config.get("Labels") or {}
    return Listed(known.id, repository, shown_tag, image.target.digest, known.created, size, labels, image.name)


def _facts(site: Site, image: Image) -> Facts | None:
    """None for what is damaged, which is listed all the same: `system check` says what is wrong with it."""
    try:
        return facts.of(site, image.target)
    except ManagerError:
        return None


def history(site: Site, text: str, platform: Platform | None = None) -> list[Step]:
    """The steps of an image, the newest first. Raises MissingError, DocumentError."""
    image = site.images.find(text)
    known = facts.of(site, image.target, platform)
    sizes = iter(facts.layer_sizes(site, known))
    steps = []
    for said in known.configuration.history:
        size = 0 if said.get("empty_layer") else next(sizes, 0)
        created = facts.nanoseconds(said.get("created") or "")
        steps.append(Step("", created, said.get("created_by") or "", size, said.get("comment") or ""))
    # Layers that no step of the history speaks of.
    steps += [Step("", known.created, "", size, "") for size in sizes]
    if steps:
        last = steps.pop()
        tags = tuple(_familiar(name) for name in _names_of(site, image.target.digest))
        steps.append(Step(known.id, last.created, last.created_by, last.size, last.comment, tags))
    return steps[::-1]


_CONFIG = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False,
    "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None,
    "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": None,
}  # fmt: skip
_MORE = ("ExposedPorts", "Healthcheck", "Shell", "StopSignal", "ArgsEscaped")


def inspect(site: Site, text: str, platform: Platform | None = None) -> dict[str, Any]:
    """An image in the shape of docker's inspect (API 1.41). Raises MissingError, DocumentError."""
    image = site.images.find(text)
    known = facts.of(site, image.target, platform)
    document = known.configuration.document
    all_names = [names.parse(name) for name in _names_of(site, image.target.digest)]
    repositories = dict.fromkeys(names.Reference(one.host, one.path).familiar for one in all_names)
    size = sum(facts.layer_sizes(site, known))
    config = _CONFIG | {key: value for key, value in known.configuration.config.items() if key in (*_CONFIG, *_MORE)}
    comments = [step.get("comment") or "" for step in known.configuration.history]
    found: dict[str, Any] = {
        "Id": known.id,
        "RepoTags": [one.familiar for one in all_names if one.tag],
        "RepoDigests": [f"{repository}@{image.target.digest}" for repository in repositories],
        "Parent": "",
        "Comment": document.get("comment") or (comments[-1] if comments else ""),
        "Created": document.get("created") or "",
        "DockerVersion": document.get("docker_version") or "",
        "Author": document.get("author") or "",
        "Config": config,
        "Architecture": known.configuration.platform.architecture,
        "Os": known.configuration.platform.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Data": None, "Name": site.snapshots.driver.name},
        "RootFS": {"Type": "layers", "Layers": list(known.configuration.diff_ids)},
        "Metadata": {"LastTagTime": _tagged(site, image.target.digest)},
        "Descriptor": image.target.as_json(),
    }
    if known.configuration.platform.variant:
        found["Variant"] = known.configuration.platform.variant
    return found


def _names_of(site: Site, digest: str) -> list[str]:
    query = "select name from images where digest = ? order by name"
    return [str(name) for (name,) in site.database.read.execute(query, (digest,)).fetchall() if "/" in name]


def _tagged(site: Site, digest: str) -> str:
    from datetime import UTC, datetime

    row = site.database.read.execute("select max(updated) from images where digest = ?", (digest,)).fetchone()
    moment = datetime.fromtimestamp((row[0] or 0) // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{(row[0] or 0) % 10**9:09d}Z"


def _is_name_of(text: str, image: Image) -> bool:
    """Whether the image was found by this name, and not by its id."""
    try:
        asked = names.parse(text)
    except GrammarError:
        return False
    return asked.repository == names.parse(image.name).repository


def _familiar(name: str) -> str:
    return names.parse(name).familiar if "/" in name else name
