"""config.md: "Annotations"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_unknown_annotations_are_no_error(container: Container) -> None:
    """config.md, Annotations: implementations MUST NOT generate an error for an unknown key."""
    container.config["annotations"] = {"org.example.unknown": "value", "plain": ""}
    assert container.run("exit 3").code == 3


def test_annotations_may_be_absent(container: Container) -> None:
    """config.md, Annotations: absent or an empty map."""
    container.config.pop("annotations", None)
    assert container.run("exit 3").code == 3


@pytest.mark.parametrize("value", [1, None, ["a"], {}])
def test_an_annotation_that_is_no_string_is_an_error(container: Container, value: object) -> None:
    """config.md, Annotations: values MUST be strings."""
    container.config["annotations"] = {"key": value}
    assert container.run("true").code != 0
