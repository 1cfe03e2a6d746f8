"""What the manager's operations raise: kinds of `ocirt.Error`, which the CLI prints and the daemon turns into a
status.
"""

from __future__ import annotations

from ocirt.errors import Error


class ManagerError(Error):
    """An operation of the manager failed."""

    code = "manager"


class GrammarError(ManagerError):
    """A reference, a digest or a name is not written as its grammar asks for."""

    code = "grammar"


class MissingError(ManagerError):
    """No image, container, volume, blob or repository has this name."""

    code = "missing"


class ConflictError(ManagerError):
    """The name is taken, or what it names is in use."""

    code = "conflict"


class DigestError(ManagerError):
    """Bytes do not have the digest or the size that was promised for them."""

    code = "digest"


class LimitError(ManagerError):
    """Something from outside is larger, deeper or longer than is accepted."""

    code = "limit"


class ArchiveError(ManagerError):
    """A tar archive cannot be read, or wants what no layer may do."""

    code = "archive"


class DocumentError(ManagerError):
    """A manifest, an index or an image configuration is not what image-spec 1.1 or Docker's schema 2 say."""

    code = "document"


class RegistryError(ManagerError):
    """A registry refused, failed, or could not be reached.

    status        HTTP's, or 0
    retry_after   the seconds that it asked to be left alone for, or None
    """

    code = "registry"

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after: float | None = None
