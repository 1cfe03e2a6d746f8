"""A registry of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ocirt.manager.cli.here import site, text
from ocirt.manager.errors import GrammarError

if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value


def serve(values: dict[str, Value], arguments: list[str]) -> None:
    from ocirt.manager.registry.server.options import Options
    from ocirt.manager.registry.server.server import serve as run

    address, _, port = text(values["address"]).rpartition(":")
    if not port.isascii() or not port.isdecimal():
        raise GrammarError(f"--address {text(values['address'])[:60]!r}", hint="[ADDRESS]:PORT")
    options = Options(
        address=address or "0.0.0.0",
        port=int(port),
        certificate=_path(values["tls_cert"]),
        key=_path(values["tls_key"]),
        htpasswd=_path(values["htpasswd"]),
        rules=_path(values["rules"]),
        insecure=bool(values["insecure"]),
        log=not values["quiet"],
    )
    run(site(), options)


def _path(value: Value) -> Path | None:
    return Path(text(value)) if value else None
