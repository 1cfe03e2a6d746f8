"""config.md: "Mounts"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Container

pytestmark = pytest.mark.root


def add(container: Container, destination: str, kind: str, source: str, *options: str) -> None:
    container.config["mounts"].append(
        {"destination": destination, "type": kind, "source": source, "options": list(options)}
    )


def mount_of(out: str, destination: str) -> list[str]:
    """mountinfo's fields of the last mount there."""
    return [line.split() for line in out.splitlines() if line.split()[4] == destination][-1]


def test_mounts_are_made_in_the_order_of_the_configuration(container: Container) -> None:
    """config.md, Mounts: the runtime MUST mount entries in the listed order."""
    add(container, "/mnt", "tmpfs", "tmpfs")
    add(container, "/mnt/inner", "tmpfs", "tmpfs")
    add(container, "/over", "tmpfs", "first", "mode=700")
    add(container, "/over", "tmpfs", "second", "mode=711")
    done = container.run("stat -c %a /over; cat /proc/self/mountinfo")
    assert done.out.splitlines()[0] == "711"
    assert mount_of(done.out.split("\n", 1)[1], "/mnt/inner")


def test_a_destination_that_does_not_exist_is_made(container: Container) -> None:
    """config.md, Mounts: runtimes create what is missing of a destination (linux)."""
    add(container, "/not/there", "tmpfs", "tmpfs")
    assert container.run("touch /not/there/file").code == 0


def test_a_bind_mount_shows_a_folder_of_the_host(container: Container) -> None:
    """config.md, Mounts: bind by option, the type is ignored."""
    (container.bundle / "data").mkdir()
    (container.bundle / "data/file").write_text("host\n")
    add(container, "/data", "none", str(container.bundle / "data"), "bind")
    assert container.run("cat /data/file; echo more > /data/new").out == "host\n"
    assert (container.bundle / "data/new").read_text() == "more\n"


def test_a_relative_source_counts_from_the_bundle(container: Container) -> None:
    """config.md, Mounts: source of a bind mount is absolute or relative to the bundle."""
    (container.bundle / "data").mkdir()
    (container.bundle / "data/file").write_text("host\n")
    add(container, "/data", "bind", "data", "rbind", "ro")
    done = container.run("cat /data/file; touch /data/new || echo refused")
    assert done.out == "host\nrefused\n"


def test_a_file_can_be_bound(container: Container) -> None:
    """config.md, Mounts: a directory or a file."""
    (container.bundle / "file").write_text("host\n")
    add(container, "/etc/file", "bind", str(container.bundle / "file"), "bind", "ro")
    assert container.run("cat /etc/file").out == "host\n"


@pytest.mark.parametrize("option", ["nosuid", "nodev", "noexec", "noatime", "nodiratime", "ro"])
def test_an_option_of_the_mount_is_in_force(container: Container, option: str) -> None:
    """config.md, Linux mount options: the generic ones."""
    add(container, "/m", "tmpfs", "tmpfs", option)
    assert option in mount_of(container.run("cat /proc/self/mountinfo").out, "/m")[5].split(",")


@pytest.mark.parametrize(
    ("first", "second", "shown"), [("noexec", "exec", "noexec"), ("nosuid", "suid", "nosuid"), ("ro", "rw", "ro")]
)
def test_of_two_contrary_options_the_last_one_counts(container: Container, first: str, second: str, shown: str) -> None:
    """config.md, Mounts: options are applied as mount(8) does."""
    add(container, "/m", "tmpfs", "tmpfs", first, second)
    assert shown not in mount_of(container.run("cat /proc/self/mountinfo").out, "/m")[5].split(",")


def test_options_of_the_file_system_reach_it(container: Container) -> None:
    """config.md, Mounts: data options, such as tmpfs's."""
    add(container, "/m", "tmpfs", "tmpfs", "size=64k", "mode=1700", "uid=5", "gid=6")
    done = container.run("stat -c '%a %u %g' /m; head -c 100000 /dev/zero > /m/file || echo full")
    assert done.out == "1700 5 6\nfull\n"


@pytest.mark.parametrize(("option", "shown"), [("shared", "shared:"), ("slave", None), ("private", None)])
def test_the_propagation_of_a_mount_is_as_configured(container: Container, option: str, shown: str | None) -> None:
    """config.md, Linux mount options: propagation flags."""
    add(container, "/m", "tmpfs", "tmpfs", option)
    fields = mount_of(container.run("cat /proc/self/mountinfo").out, "/m")
    optional = fields[6 : fields.index("-")]
    assert [one for one in optional if one.startswith("shared:")] == ([] if shown is None else optional[:1])


def test_a_bind_mount_without_a_source_on_the_host_is_an_error(container: Container) -> None:
    """config.md, Mounts: what cannot be mounted is an error."""
    add(container, "/m", "bind", "/does/not/exist", "bind")
    assert container.run("true").code != 0


def test_an_unknown_file_system_is_an_error(container: Container) -> None:
    """config.md, Mounts: type is one of /proc/filesystems."""
    add(container, "/m", "nosuchfs", "none")
    assert container.run("true").code != 0
