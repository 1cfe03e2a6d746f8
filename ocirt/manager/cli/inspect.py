"""inspect: all about containers, images and volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ocirt.errors import Error
from ocirt.manager.cli.here import find, site, text
from ocirt.manager.cli.main import complain
from ocirt.manager.cli.output import pretty, show
from ocirt.manager.errors import MissingError

if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value
    from ocirt.manager.site import Site

Document = dict[str, object]
Look = Callable[[str], Document]


def _container(here: Site, *, size: bool = False) -> Look:
    from ocirt.manager.containers import inspect as containers

    return lambda name: containers.container(here, find(here, name), size=size)


def _image(here: Site) -> Look:
    from ocirt.manager.images import operations

    return lambda name: operations.inspect(here, name)


def _volume(here: Site) -> Look:
    from ocirt.manager.volumes import Volumes

    return lambda name: Volumes(here).find(name).inspect()


def inspect(values: dict[str, Value], arguments: list[str]) -> int:
    here, kind = site(), text(values["type"])
    looks: dict[str, Callable[[], Look]] = {
        "container": lambda: _container(here, size=bool(values["size"])),
        "image": lambda: _image(here),
        "volume": lambda: _volume(here),
    }
    chosen = [looks[kind]()] if kind else [look() for look in looks.values()]
    return _printed(arguments, chosen, text(values["format"]))


def container(values: dict[str, Value], arguments: list[str]) -> int:
    return _printed(arguments, [_container(site(), size=bool(values["size"]))], text(values["format"]))


def image(values: dict[str, Value], arguments: list[str]) -> int:
    return _printed(arguments, [_image(site())], text(values["format"]))


def volume(values: dict[str, Value], arguments: list[str]) -> int:
    return _printed(arguments, [_volume(site())], text(values["format"]))


def _printed(names: list[str], looks: list[Look], form: str) -> int:
    """What is there is printed, what is not is said: as docker does."""
    found: list[Document] = []
    code = 0
    for name in names:
        try:
            found.append(_first(name, looks))
        except Error as error:
            complain(str(error))
            code = 1
    if form:
        for one in found:
            show(one, form)
    else:
        pretty(found)
    return code


def _first(name: str, looks: list[Look]) -> Document:
    missing: MissingError | None = None
    for look in looks:
        try:
            return look(name)
        except MissingError as error:
            missing = missing or error
    if missing is not None and len(looks) == 1:
        raise missing
    raise MissingError(f"there is no container, image or volume {name}")
