"""What a request is refused with: HTTP's status, and a code of distribution-spec 1.1 ("Error Codes")."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ocirt.errors import printable
from ocirt.manager.errors import ManagerError

STATUS = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 400,
    "UNAUTHORIZED": 401,
    "DENIED": 403,
    "UNSUPPORTED": 400,
    "TOOMANYREQUESTS": 429,
}
"""What each code is sent with, unless the raiser says another."""
LONGEST_MESSAGE = 500


class Problem(ManagerError):
    """A request that is not answered with what it asks for.

    word      the specification's code
    status    HTTP's; 0 means the code's own
    headers   further ones for the answer
    """

    code = "registry-server"

    def __init__(
        self, word: str, message: str, *, status: int = 0, headers: Iterable[tuple[str, str]] = (), hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.word = word
        self.status = status or STATUS[word]
        self.headers = tuple(headers)

    def body(self) -> bytes:
        """The JSON of the specification."""
        message = printable(str(self))[:LONGEST_MESSAGE]
        return json.dumps({"errors": [{"code": self.word, "message": message}]}).encode() + b"\n"
