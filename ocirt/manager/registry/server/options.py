"""What a registry is started with, and its bounds."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from ocirt.manager.errors import ManagerError

DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 5000


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, bytes and numbers that nobody who sends requests can go beyond.

    connections    open at once; further ones are answered with 503
    uploads        under way at once, finished requests or not
    header         bytes of a request line with its headers
    header_wait    for these to come, once they have begun
    idle           for the next request on a connection
    body_wait      for the next bytes of a body, or for the peer to take some
    slowest        bytes a second, either way, over a minute
    blob           bytes of the largest blob
    upload_idle    an upload that nobody sends to is forgotten
    promise        a blob that no manifest needs stays, after it was sent or asked for
    collect        between two garbage collections; one more follows soon on deletions
    finish         for requests to end after SIGTERM
    """

    connections: int = 1000
    uploads: int = 1000
    header: int = 32 << 10
    header_wait: float = 30.0
    idle: float = 75.0
    body_wait: float = 60.0
    slowest: int = 1024
    blob: int = 1 << 40
    upload_idle: float = 24 * 3600.0
    promise: float = 3600.0
    collect: float = 900.0
    finish: float = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """How `ocim registry serve` was called.

    address       to listen on; a name or a number; port 0 takes a free one
    certificate   PEM files for TLS, or None; key: None where the certificate's file has it
    htpasswd      who may log in, and `rules` (see access.py) what they may do; None: everybody may do all
    insecure      listen beyond loopback without TLS and passwords all the same
    log           whether requests are logged
    """

    address: str = DEFAULT_ADDRESS
    port: int = DEFAULT_PORT
    certificate: Path | None = None
    key: Path | None = None
    htpasswd: Path | None = None
    rules: Path | None = None
    insecure: bool = False
    log: bool = True
    limits: Limits = Limits()

    @property
    def loopback(self) -> bool:
        """Whether only this machine's programs reach it."""
        return is_loopback(self.address)

    @property
    def local_names_only(self) -> bool:
        """Whether requests are taken for this machine's own names only: where nobody has to log in, a web page whose
        name leads to 127.0.0.1 (DNS rebinding) would be as good as a program of this machine."""
        return self.loopback and self.htpasswd is None and not self.insecure

    def check(self) -> None:
        """Raises ManagerError for what makes no sense, or is not safe."""
        if self.key is not None and self.certificate is None:
            raise ManagerError("a key without a certificate", hint="--tls-cert FILE")
        if self.rules is not None and self.htpasswd is None:
            raise ManagerError("rules without passwords: nobody could log in", hint="--htpasswd FILE")
        if not 0 <= self.port <= 65535:
            raise ManagerError(f"{self.port} is no port")
        if self.loopback or self.insecure:
            return
        missing = [
            word
            for word, there in (("TLS (--tls-cert)", self.certificate), ("passwords (--htpasswd)", self.htpasswd))
            if there is None
        ]
        if missing:
            raise ManagerError(
                f"the registry would be open to the network on {self.address} without {' and '.join(missing)}",
                hint="give them, or --insecure behind a proxy that has them",
            )

    def tls(self) -> ssl.SSLContext | None:
        """Raises ManagerError for files that cannot be used."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """The certificate as it is now: connections that are open keep theirs. Raises ManagerError."""
        try:
            context.load_cert_chain(str(self.certificate), str(self.key) if self.key else None, password=lambda: "")
        except (OSError, ssl.SSLError) as error:
            raise ManagerError(f"{self.certificate}: {error}", hint="PEM; a key without a password") from error


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own; names are not looked up, but "localhost" is."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False
