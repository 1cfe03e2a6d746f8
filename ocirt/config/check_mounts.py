"""What a config.json must say about mounts beyond the common: labels, propagation of the root, id mappings.

Imported only for a configuration that has one of these.
"""

from __future__ import annotations

from ocirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROPAGATION = ("shared", "slave", "private", "unbindable")


CONTEXTS = ("context", "fscontext", "defcontext", "rootcontext")
"""mount(8), "context=context": SELinux' four kinds."""

CONTEXT_TYPE = "run.oci.mount_context_type"
"""The annotation that names the mount option which linux.mountLabel becomes: crun's."""


def check_root_mount(spec: dict[str, Any], linux: dict[str, Any]) -> None:
    """The specification has four values for rootfsPropagation; engines write the recursive ones, too."""
    value = linux.get("rootfsPropagation")
    if value and value.removeprefix("r") not in _PROPAGATION:
        raise ConfigError(
            f'unknown propagation "{value}"',
            pointer="/linux/rootfsPropagation",
            hint=f"one of {', '.join(_PROPAGATION)}, or with an r before it for all that is mounted below",
        )
    kind = (spec.get("annotations") or {}).get(CONTEXT_TYPE)
    if linux.get("mountLabel") and kind and kind not in CONTEXTS:
        raise ConfigError(
            f'unknown context type "{kind}"',
            pointer=f"/annotations/{CONTEXT_TYPE}",
            hint=f"one of {', '.join(CONTEXTS)}",
        )
