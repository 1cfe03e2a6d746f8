"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: files in its folder, mounted over its own."""

from __future__ import annotations

import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LOCALHOST = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)
_PLACES = {"/etc/resolv.conf": "resolv.conf", "/etc/hostname": "hostname", "/etc/hosts": "hosts"}


def write(folder: Path, container_id: str, document: dict[str, Any]) -> dict[str, str]:
    """Write what is not there yet: programs may have changed them. Returns place in the container → path here.

    With the network of another container its files are shared. Raises OSError.
    """
    host = document["host"]
    mode = host["NetworkMode"]
    if mode.startswith("container:"):
        other = folder.parent / mode.removeprefix("container:")
        return {place: str(other / name) for place, name in _PLACES.items() if (other / name).exists()}
    name = hostname(container_id, document)
    contents = {
        "hostname": name + "\n",
        "hosts": _hosts(host, mode),
        "resolv.conf": _resolv(host),
    }
    for file, text in contents.items():
        path = folder / file
        if not path.exists():
            written = folder / f"{file}.new"
            written.write_text(text)
            written.chmod(0o644)
            written.rename(path)
    return {place: str(folder / file) for place, file in _PLACES.items()}


def hostname(container_id: str, document: dict[str, Any]) -> str:
    """As was asked for; else with the host's network its name, and the beginning of the id otherwise."""
    config, host = document["config"], document["host"]
    if config["Hostname"]:
        return str(config["Hostname"])
    return os.uname().nodename if "host" in (host["NetworkMode"], host["UTSMode"]) else container_id[:12]


def _hosts(host: dict[str, Any], mode: str) -> str:
    text = _read("/etc/hosts") if mode == "host" else ""
    text = text or _LOCALHOST
    for entry in host["ExtraHosts"] or ():
        name, _, address = entry.partition(":")
        text += f"{address}\t{name}\n"
    return text


def _resolv(host: dict[str, Any]) -> str:
    """The host's, and in its place what was asked for: each kind of line for itself."""
    kept = []
    wanted = {"nameserver": host["Dns"], "search": host["DnsSearch"], "options": host["DnsOptions"]}
    for line in _read("/etc/resolv.conf").splitlines():
        word = (line.split() or [""])[0]
        if not wanted.get("search" if word == "domain" else word):
            kept.append(line)
    kept += [f"nameserver {address}" for address in host["Dns"] or ()]
    for word in ("search", "options"):
        if wanted[word] and wanted[word] != ["."]:
            kept.append(f"{word} {' '.join(wanted[word])}")
    return "".join(f"{line}\n" for line in kept)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
