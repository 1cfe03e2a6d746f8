"""The copy of its configuration that a container's folder has, for who takes no lock."""

from __future__ import annotations

import posix

from ocirt.config.read import read_json
from ocirt.state.store import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.state.store import Store


def config_text(store: Store, container_id: str) -> str:
    """Raises NotFoundError if the container is gone, Error if its folder is not ours alone, ConfigError."""
    folder = store.open(container_id)
    try:
        return read_json(f"{store.folder(container_id)}/{CONFIG}", folder=folder)
    finally:
        posix.close(folder)
