"""explain --seccomp: a bundle's profile, by itself."""

from __future__ import annotations

from ocirt.config.load import load
from ocirt.config.read import placed
from ocirt.config.seccomp import POINTER
from ocirt.errors import ConfigError, Error
from ocirt.host.filters import lowers_rights
from ocirt.host.seccomp_table import seccomp_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def explain_seccomp(bundle: str) -> dict[str, Any]:
    """host.seccomp_table's object. Raises Error; also if there is no profile."""
    config = load(bundle)
    try:
        seccomp = (config.spec.get("linux") or {}).get("seccomp")
        if not seccomp:
            raise ConfigError("there is no profile: all system calls are allowed", pointer=POINTER)
        return seccomp_table(seccomp, lowers=lowers_rights(config.spec["process"]))
    except Error as error:
        raise placed(error, config.path, config.text) from None
