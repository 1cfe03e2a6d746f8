"""Images as files: OCI layouts (image-spec 1.1, image-layout.md) and what `docker save` writes."""

from __future__ import annotations

from ocirt.manager.archives.loading import load, load_folder
from ocirt.manager.archives.saving import save, save_folder

__all__ = ["load", "load_folder", "save", "save_folder"]
