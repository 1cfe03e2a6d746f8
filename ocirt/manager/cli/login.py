"""login and logout."""

from __future__ import annotations

import sys

from ocirt.manager import names
from ocirt.manager.cli.here import text
from ocirt.manager.cli.images import client
from ocirt.manager.cli.main import complain
from ocirt.manager.cli.output import line
from ocirt.manager.errors import GrammarError, ManagerError
from ocirt.manager.registry.credentials import Credentials, Keychain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value


def login(values: dict[str, Value], arguments: list[str]) -> None:
    host = _host(arguments)
    name, password = text(values["username"]), text(values["password"])
    if values["password_stdin"]:
        if password:
            raise GrammarError("--password and --password-stdin are against each other")
        if not name:
            raise GrammarError("--password-stdin needs --username")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        complain("warning: a password on the command line can be seen by others (--password-stdin)")
    else:
        name, password = _asked(name)
    if not name or not password:
        raise ManagerError("a name and a password are needed")
    credentials = Credentials(name, password)
    client().login(host, credentials)
    Keychain().store(host, credentials)
    line("Login Succeeded")


def _asked(name: str) -> tuple[str, str]:
    if not sys.stdin.isatty():
        raise ManagerError("there is no terminal to ask for a password", hint="--username NAME --password-stdin")
    import getpass

    return name or input("Username: "), getpass.getpass("Password: ")


def logout(values: dict[str, Value], arguments: list[str]) -> None:
    host = _host(arguments)
    if Keychain().erase(host):
        line(f"Removing login credentials for {host}")
    else:
        line(f"Not logged in to {host}")


def _host(arguments: list[str]) -> str:
    """As references have it: without a scheme, "docker.io" where nothing was said. Raises GrammarError."""
    said = arguments[0] if arguments else names.DEFAULT_HOST
    host = said.removeprefix("https://").removeprefix("http://").rstrip("/")
    if host in ("index.docker.io", "registry-1.docker.io", "index.docker.io/v1", names.DEFAULT_HOST):
        return names.DEFAULT_HOST
    found = names.parse(f"{host}/x").host if host else ""
    if found != host:
        raise GrammarError(
            f"{said[:100]!r} is no registry", hint="HOST or HOST:PORT; localhost, or with a dot or a port"
        )
    return host
