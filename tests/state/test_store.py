"""state.store: the folder of a container, its lock, and what is read from it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ocirt.errors import ContainerError, Error, KernelError, NotFoundError, UsageError
from ocirt.state import entry as module
from ocirt.state.store import STATE, Store, check_id, unfinished


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "a" / "root"))


def state(container_id: str, **values: Any) -> dict[str, Any]:
    return unfinished(container_id) | values


@pytest.mark.parametrize("name", ["a", "A-b_c+d.e", "0", "-", "x" * 255, "a.b", "_"])
def test_an_id_may_have_letters_digits_and_four_more(name: str) -> None:
    check_id(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "/", "a b", "é", "a\n", "a\0", "x" * 256, "a:b", "*"])
def test_no_other_id_is_taken(name: str) -> None:
    with pytest.raises(UsageError):
        check_id(name)


@pytest.mark.parametrize("name", ["../../etc", ".", "", "a/b"])
def test_a_wrong_id_is_an_unknown_one_when_it_is_looked_for(store: Store, name: str) -> None:
    for look in (store.lock, store.read):
        with pytest.raises(NotFoundError, match="does not exist"):
            look(name)


def test_what_is_written_is_read(store: Store) -> None:
    with store.create("one") as entry:
        entry.write_state(state("one", pid=7, annotations={"key": "välue"}))
    assert store.read("one") == state("one", pid=7, annotations={"key": "välue"})


def test_folders_are_private(store: Store) -> None:
    with store.create("one") as entry:
        entry.write("file", b"x")
        assert os.stat(entry.folder).st_mode & 0o777 == 0o700
        assert os.stat(f"{entry.folder}/file").st_mode & 0o777 == 0o600
    assert os.stat(store.root).st_mode & 0o777 == 0o700


def test_a_second_container_of_the_same_name_is_refused(store: Store) -> None:
    store.create("one").close()
    with pytest.raises(ContainerError, match="exists already"):
        store.create("one")


def test_a_file_is_replaced_whole(store: Store) -> None:
    with store.create("one") as entry:
        entry.write("file", b"first, and longer")
        before = os.open(f"{entry.folder}/file", os.O_RDONLY)
        entry.write("file", b"second")
        assert os.read(before, 100) == b"first, and longer"
        os.close(before)
        assert Path(entry.folder, "file").read_bytes() == b"second"
        assert os.listdir(entry.folder) == ["file"]


def test_removing_leaves_nothing_and_can_be_done_again(store: Store) -> None:
    with store.create("one") as entry:
        entry.write_state(state("one"))
        entry.write("file", b"x")
        os.mkfifo(f"{entry.folder}/start")
        entry.remove()
        entry.remove()
    assert store.ids() == []


def test_a_removal_that_fails_says_what_is_in_the_way(store: Store) -> None:
    with store.create("one") as entry:
        os.mkdir(f"{entry.folder}/folder")
        with pytest.raises(KernelError, match="remove"):
            entry.remove()


def test_ids_are_the_folders_sorted(store: Store) -> None:
    assert store.ids() == []
    for name in ("b", "a", "c"):
        store.create(name).close()
    Path(store.root, "file").touch()
    Path(store.root, "link").symlink_to(store.folder("a"))
    assert store.ids() == ["a", "b", "c"]


def test_an_unknown_container_does_not_exist(store: Store) -> None:
    for look in (store.lock, store.read):
        with pytest.raises(NotFoundError, match='container "one" does not exist'):
            look("one")


def test_a_link_is_no_container(store: Store, tmp_path: Path) -> None:
    """Its files would be removed, wherever it leads."""
    store.create("one").close()
    (tmp_path / "victim").mkdir()
    Path(store.root, "link").symlink_to(tmp_path / "victim")
    for look in (store.lock, store.read):
        with pytest.raises(NotFoundError):
            look("link")


def test_a_folder_without_state_is_an_unfinished_creation(store: Store) -> None:
    store.create("one").close()
    assert store.read("one") == unfinished("one")


SCOPE = {"manager": "systemd", "unit": "u.scope", "slice": "s.slice", "bus": "", "description": "d"}


@pytest.mark.parametrize("manager", [{}, {"manager": "cgroupfs"}, {"manager": "disabled"}, SCOPE], ids=str)
def test_who_made_the_cgroups_is_known(store: Store, manager: dict[str, str]) -> None:
    """Of an older state, which does not say it, we did."""
    cgroups = {"places": [], "made": [], **manager}
    with store.create("one") as entry:
        entry.write_state(state("one", cgroups=cgroups))
    assert store.read("one")["cgroups"] == cgroups


@pytest.mark.parametrize(
    "manager", [{"manager": "docker"}, {"manager": 1}, {"manager": "systemd"}, {**SCOPE, "bus": None}], ids=str
)
def test_a_manager_that_is_none_is_damage(store: Store, manager: dict[str, Any]) -> None:
    with store.create("one") as entry:
        entry.write_state(state("one", cgroups={"places": [], "made": [], **manager}))
    with pytest.raises(Error, match="is damaged"):
        store.read("one")


DAMAGED = {
    "empty": b"",
    "half": b'{"id": "one", "pid"',
    "not an object": b"[]",
    "another type": b'{"id": 1}',
    "not UTF-8": b"\xff",
    "something behind it": None,
    "a property too few": b'{"id": "one", "pid": 3}',
    "nested deeply": b"[" * 100_000,
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_state_is_an_error_with_a_way_out(store: Store, what: str) -> None:
    with store.create("one") as entry:
        entry.write_state(state("one"))
        content = DAMAGED[what]
        entry.write(STATE, Path(entry.folder, STATE).read_bytes() + b"x" if content is None else content)
    with pytest.raises(Error, match="is damaged") as refused:
        store.read("one")
    assert "delete --force" in refused.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pid", "7"),
        ("creator", [1]),
        ("creator", ["a", 1]),
        ("cgroups", {}),
        ("cgroups", {"places": [["name"]], "made": []}),
        ("cgroups", {"places": [], "made": [1]}),
        ("annotations", None),
    ],
)
def test_state_of_other_types_is_damaged_too(store: Store, key: str, value: object) -> None:
    """What is in it says what to kill and to remove."""
    with store.create("one") as entry:
        entry.write_state(state("one", **{key: value}))
    with pytest.raises(Error, match="is damaged"):
        store.read("one")


# The lock.


def test_a_second_command_waits_for_the_first(store: Store) -> None:
    first = store.create("one")
    got: list[str] = []

    def second() -> None:
        with store.lock("one"):
            got.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.05)
    assert got == []
    first.close()
    thread.join(5)
    assert got == ["second"]


def test_a_command_that_waits_too_long_gives_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_PATIENCE", 0.02)
    with store.create("one"), pytest.raises(ContainerError, match="another command"):
        store.lock("one")


def test_a_container_that_was_deleted_meanwhile_does_not_exist(store: Store) -> None:
    first = store.create("one")
    raised: list[BaseException] = []

    def second() -> None:
        try:
            store.lock("one")
        except NotFoundError as error:
            raised.append(error)

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.05)
    first.remove()
    first.close()
    thread.join(5)
    assert len(raised) == 1


def test_a_container_that_was_made_anew_meanwhile_is_not_taken_for_the_old_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("one").close()

    def flock(fd: int, operation: int) -> None:
        monkeypatch.undo()
        os.rename(store.folder("one"), store.folder("old"))
        os.mkdir(store.folder("one"))

    monkeypatch.setattr(module, "flock", flock)
    with pytest.raises(NotFoundError):
        store.lock("one")


def test_no_descriptor_is_left_open(store: Store) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    store.create("one").close()
    with store.lock("one") as entry:
        entry.write_state(state("one"))
    store.read("one")
    for look in (store.lock, store.read):
        with pytest.raises(NotFoundError):
            look("two")
    with pytest.raises(ContainerError):
        store.create("one")
    assert descriptors() == before


def test_a_state_root_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KernelError, match="state directory") as refused:
        Store(str(tmp_path / "file" / "root")).create("one")
    assert "--root" in refused.value.hint
