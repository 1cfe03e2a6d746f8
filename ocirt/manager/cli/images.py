"""The commands for images."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from ocirt.manager import documents, names
from ocirt.manager.cli.here import confirmed, read, settings_file, site, text, texts, written
from ocirt.manager.cli.human import ago, size, stamp
from ocirt.manager.cli.output import each, line, listing
from ocirt.manager.cli.progress import progress
from ocirt.manager.errors import GrammarError, ManagerError

if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value
    from ocirt.manager.names import Reference
    from ocirt.manager.pull import Pulled
    from ocirt.manager.registry.client import Client
    from ocirt.manager.site import Site

_SHORT = 12


def client() -> Client:
    """With the settings of registries.toml and what `login` has stored. Raises ManagerError."""
    from ocirt.manager.registry.client import Client as Opened
    from ocirt.manager.registry.settings import Settings

    return Opened(Settings(settings_file()))


def pull_one(
    here: Site, connection: Client, reference: Reference, platform: str, *, quiet: bool, out: TextIO | None = None
) -> Pulled:
    """Fetch one image, and unpack it while it comes. Raises ManagerError."""
    from ocirt.manager.pull import Pull

    wanted = documents.platform(platform) if platform else documents.host_platform()
    with progress(quiet=quiet, out=out) as shown:
        work = Pull(here.database, here.blobs, connection.repository(reference), shown.tell, here.snapshots)
        return work.run(reference, wanted)


def pull(values: dict[str, Value], arguments: list[str]) -> None:
    reference = names.parse(arguments[0])
    here, connection, quiet = site(), client(), bool(values["quiet"])
    if values["all_tags"]:
        if ":" in arguments[0].rpartition("/")[2]:
            raise GrammarError("--all-tags is for a name without a tag")
        wanted = [names.parse(f"{reference.repository}:{tag}") for tag in connection.repository(reference).tags()]
    else:
        wanted = [reference]
        if not quiet and ":" not in arguments[0].rpartition("/")[2]:
            line(f"Using default tag: {reference.tag}")
    for one in wanted:
        if not quiet:
            line(f"{one.tag or one.digest}: Pulling from {one.path}")
            sys.stdout.flush()
        pulled = pull_one(here, connection, one, text(values["platform"]), quiet=quiet)
        if quiet:
            line(str(one))
            continue
        line(f"Digest: {pulled.target.digest}")
        line(f"Status: {'Downloaded newer image' if pulled.new else 'Image is up to date'} for {one.familiar}")
        line(str(one))


def push(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.push import Push

    here, connection, quiet = site(), client(), bool(values["quiet"])
    reference = names.parse(arguments[0])
    known = [(names.parse(image.name), image) for image in here.images]
    if values["all_tags"]:
        wanted = [one for one in known if one[0].repository == reference.repository and one[0].tag]
        if not wanted:
            raise ManagerError(f"there is no image {reference.repository}")
    else:
        wanted = [(reference, here.images.find(str(reference)))]
    others = sorted({one.path for one, _ in known if one.host == reference.host} - {reference.path})
    if not quiet:
        line(f"The push refers to repository [{reference.repository}]")
        sys.stdout.flush()
    for one, image in wanted:
        with progress(quiet=quiet, push=True) as shown:
            done = Push(here.blobs, connection.repository(one), others, shown.tell).run(image.target, one)
        if quiet:
            line(str(one))
        else:
            line(f"{one.tag or 'latest'}: digest: {done.target.digest} size: {done.target.size}")


_COLUMNS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS",
}  # fmt: skip


def listed(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.images import operations

    filters = [("reference", one) for one in arguments] + pairs(texts(values["filter"]))
    found = operations.listed(site(), filters)
    whole = bool(values["no_trunc"])
    if values["quiet"]:
        for one in dict.fromkeys(short(image.id, whole=whole) for image in found):
            line(one)
        return
    rows = [
        {
            "ID": short(image.id, whole=whole),
            "Repository": image.repository or "<none>",
            "Tag": image.tag or "<none>",
            "Digest": image.digest or "<none>",
            "CreatedSince": ago(image.created) if image.created else "N/A",
            "CreatedAt": stamp(image.created) if image.created else "N/A",
            "Size": size(image.size),
        }
        for image in found
    ]
    digest = ("Digest",) if values["digests"] else ()
    listing(rows, _COLUMNS, text(values["format"]), ("Repository", "Tag", *digest, "ID", "CreatedSince", "Size"))


def pairs(filters: tuple[str, ...]) -> list[tuple[str, str]]:
    """(name, value) of each --filter. Raises GrammarError."""
    found = []
    for one in filters:
        name, equals, value = one.partition("=")
        if not equals:
            raise GrammarError(f"--filter {one[:60]!r}", hint="NAME=VALUE")
        found.append((name.strip().lower(), value.strip()))
    return found


def short(digest: str, *, whole: bool) -> str:
    return digest if whole else digest.partition(":")[2][:_SHORT] or digest[:_SHORT]


def remove(values: dict[str, Value], arguments: list[str]) -> int:
    from ocirt.manager.images import operations

    here = site()

    def one(name: str) -> None:
        for said in operations.remove(here, name, force=bool(values["force"])):
            line(said)

    return each(arguments, one, echo=False)


def tag(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.images import operations

    operations.tag(site(), *arguments)


_STEPS = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
          "Size": "SIZE", "Comment": "COMMENT"}  # fmt: skip
_LONGEST = 45


def history(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.images import operations

    whole, human = bool(values["no_trunc"]), bool(values["human"])
    found = operations.history(site(), arguments[0])
    if values["quiet"]:
        for step in found:
            line(short(step.id, whole=whole) if step.id else "<missing>")
        return
    rows = [
        {
            "ID": short(step.id, whole=whole) if step.id else "<missing>",
            "CreatedSince": ago(step.created) if human else stamp(step.created),
            "CreatedAt": stamp(step.created),
            "CreatedBy": step.created_by if whole else cut(step.created_by, _LONGEST),
            "Size": size(step.size) if human else str(step.size),
            "Comment": step.comment,
        }
        for step in found
    ]
    listing(rows, _STEPS, text(values["format"]), ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"))


def cut(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def save(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.archives import saving

    with written(text(values["output"])) as out:
        saving.save(site(), arguments, out, text(values["format"]))


def load(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.archives import loading

    with read(text(values["input"])) as stream:
        for one in loading.load(site(), stream):
            line(f"Loaded image ID: {one}" if one.startswith("sha256:") else f"Loaded image: {one}")


def import_(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.images import importing

    with read(arguments[0]) as stream:
        name = arguments[1] if len(arguments) > 1 else ""
        line(importing.import_tar(site(), stream, name, texts(values["change"]), text(values["message"])))


def prune(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager import system
    from ocirt.manager.cli.system import told

    what = "all images without a container" if values["all"] else "all images without a name"
    if confirmed(f"This removes {what}. Go on?", force=bool(values["force"])):
        told(system.prune_images(site(), all_=bool(values["all"]), filters=pairs(texts(values["filter"]))))
