"""config.md: "Hostname" and "Domainname"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def test_the_hostname_is_set(container: Container) -> None:
    """config.md, Hostname: as seen by processes running inside."""
    container.config["hostname"] = "some-host"
    assert container.run("hostname").out == "some-host\n"


def test_the_domainname_is_set(container: Container) -> None:
    """config.md, Domainname."""
    container.config["domainname"] = "example.org"
    assert container.run("cat /proc/sys/kernel/domainname").out == "example.org\n"


def test_a_hostname_without_a_uts_namespace_is_an_error(container: Container) -> None:
    """config.md, Hostname: it needs a uts namespace, or the host's would change."""
    container.linux["namespaces"] = [one for one in container.linux["namespaces"] if one["type"] != "uts"]
    assert container.run("true").code != 0
