"""cgroups.systemd.unit: what `slice:prefix:name` means."""

from __future__ import annotations

import pytest

from ocirt.cgroups.systemd.unit import cgroup_name, object_path, slice_folder, unit_for
from ocirt.errors import ConfigError


@pytest.mark.parametrize(
    ("path", "name", "slice", "folder"),
    [
        ("", "ocirt-one.scope", "system.slice", "/system.slice/ocirt-one.scope"),
        (":docker:x", "docker-x.scope", "system.slice", "/system.slice/docker-x.scope"),
        ("machine.slice:libpod:x", "libpod-x.scope", "machine.slice", "/machine.slice/libpod-x.scope"),
        ("-:p:x", "p-x.scope", "-.slice", "/p-x.scope"),
        ("-.slice:p:x", "p-x.scope", "-.slice", "/p-x.scope"),
        ("a-b-c.slice:p:x", "p-x.scope", "a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/p-x.scope"),
        ("::x", "x.scope", "system.slice", "/system.slice/x.scope"),
        ("s.slice::memory", "memory.scope", "s.slice", "/s.slice/_memory.scope"),
        ("cpu.slice:p:x", "p-x.scope", "cpu.slice", "/_cpu.slice/p-x.scope"),
        # A slice itself: what is before it can only say where it is anyway.
        ("::a.slice", "a.slice", "-.slice", "/a.slice"),
        (":ignored:a-b.slice", "a-b.slice", "a.slice", "/a.slice/a-b.slice"),
        ("a.slice:ignored:a-b.slice", "a-b.slice", "a.slice", "/a.slice/a-b.slice"),
        ("-::a.slice", "a.slice", "-.slice", "/a.slice"),
    ],
)
def test_the_unit_of_a_path(path: str, name: str, slice: str, folder: str) -> None:
    unit = unit_for(path, "one", user=False)
    assert (unit.name, unit.slice, unit.folder) == (name, slice, folder)
    assert unit.is_slice == name.endswith(".slice")


def test_a_user_has_another_default() -> None:
    assert unit_for("", "one", user=True).folder == "/user.slice/ocirt-one.scope"
    assert unit_for("a.slice:p:x", "one", user=True).folder == "/a.slice/p-x.scope"


def test_an_id_may_have_what_a_unit_name_may_not() -> None:
    assert unit_for("", "a+b", user=False).name == "ocirt-a\\x2bb.scope"


@pytest.mark.parametrize(
    "path",
    [
        "/a/b",
        "a",
        "a:b",
        "a.slice:b:c:d",
        "a.slice:b:",
        "system:b:c",
        ".slice:b:c",
        "-a.slice:b:c",
        "a-.slice:b:c",
        "a--b.slice:b:c",
        "../a.slice:b:c",
        "a.slice:b:../c",
        "a.slice:b/c:d",
        "a.slice:b c:d",
        "a.slice:b:c\n",
        "a.slice:b:é",
        "a.slice:b:" + "c" * 250,
        "b.slice:p:a-b.slice",
        "::-.slice",
        "::a--b.slice",
    ],
)
def test_what_is_none_is_refused_at_its_place(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        unit_for(path, "one", user=False)
    assert caught.value.pointer == "/linux/cgroupsPath"
    assert str(caught.value).isprintable()


def test_the_form_is_named() -> None:
    with pytest.raises(ConfigError, match=r"expected SLICE:PREFIX:NAME, got .*such as system\.slice:ocirt:web"):
        unit_for("/a/b", "one", user=False)


@pytest.mark.parametrize(
    ("unit", "folder"),
    [
        ("a.scope", "a.scope"),
        ("_a.scope", "__a.scope"),
        (".a.scope", "_.a.scope"),
        ("cgroup.scope", "_cgroup.scope"),
        ("tasks", "_tasks"),
        ("pids.scope", "_pids.scope"),
        ("pids.x.scope", "pids.x.scope"),
        ("x-pids.scope", "x-pids.scope"),
    ],
)
def test_a_cgroup_is_never_called_like_a_file_of_the_kernels(unit: str, folder: str) -> None:
    assert cgroup_name(unit) == folder


def test_paths_of_objects_have_letters_and_digits() -> None:
    prefix = "/org/freedesktop/systemd1/unit/"
    assert object_path("ocirt-c.scope") == prefix + "ocirt_2dc_2escope"
    assert object_path("1a\\x2b.scope") == prefix + "_31a_5cx2b_2escope"


def test_the_root_slice_has_no_folder() -> None:
    assert slice_folder("-.slice") == ""
