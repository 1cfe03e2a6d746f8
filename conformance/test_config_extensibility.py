"""config.md: "Extensibility" and "Valid values"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


@pytest.mark.parametrize("place", [(), ("process",), ("root",), ("linux",), ("linux", "resources")])
def test_an_unknown_property_is_ignored(container: Container, place: tuple[str, ...]) -> None:
    """config.md, Extensibility: MUST NOT generate an error for a property that is not known."""
    section = container.config
    for name in place:
        section = section[name]
    section["org.example.extension"] = {"any": ["thing", 1, None]}
    assert container.run("exit 3").code == 3


def test_an_invalid_value_is_an_error(container: Container) -> None:
    """config.md, Valid values: invalid or unsupported values MUST generate an error."""
    container.process["cwd"] = ""
    assert container.run("true").code != 0


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.2.0", "1.3.0"])
def test_a_bundle_of_an_earlier_version_runs(container: Container, version: str) -> None:
    """config.md, Specification version: a runtime supports the earlier minor versions."""
    container.config["ociVersion"] = version
    assert container.run("exit 3").code == 3
