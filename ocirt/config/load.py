"""Load a bundle's config.json: read it, and check everything that can be told from it alone."""

from __future__ import annotations

from ocirt.config.check import check_meaning
from ocirt.config.read import Config, absolute, parse, placed, read_json
from ocirt.config.shape import check_shape
from ocirt.errors import ConfigError, Error

DOCUMENT = "config"
"""What a configuration that is no file is called in errors."""


def load(bundle: str, file: str | None = None, text: str | None = None) -> Config:
    """Load `bundle`/config.json, another file or a text, and check everything that can be told from it alone.

    Raises ConfigError: one line with file, line, column, JSON pointer, what was expected and what was found.
    """
    return checked(*found(bundle, file, text))


def found(bundle: str, file: str | None, text: str | None) -> tuple[str, str, str]:
    """(the text, the bundle's absolute path, what the text is called in errors). Raises ConfigError."""
    try:
        folder = absolute(bundle)
    except OSError as error:
        raise ConfigError(f"cannot open the bundle: {error.strerror}", place=bundle, errno=error.errno or 0) from None
    path = file or folder + "/config.json"
    if text is None:
        return read_json(path), folder, path
    return text, folder, DOCUMENT


def checked(text: str, folder: str, path: str) -> Config:
    """What is said does not depend on the bundle's folder or on this host. Raises ConfigError."""
    try:
        config = Config(parse(text), text, folder, path)
        check_shape(config.spec)
        check_meaning(config)
    except Error as error:
        raise placed(error, path, text) from None
    return config
