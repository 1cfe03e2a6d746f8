"""A caller who is not root, and what others have put in the way: links, folders and containers of somebody else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocirt.errors import ContainerError, Error, KernelError, NotFoundError
from ocirt.host import filters
from ocirt.state.place import own_folder
from ocirt.state.store import Store, unfinished

USER, OTHER = 54321, 54322
"""Of whom nothing is known on this host."""

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="becomes other users: root may")


@contextmanager
def being(uid: int) -> Iterator[None]:
    """The effective user, whose rights the kernel then looks at."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A sticky folder in which everybody may make something, like /tmp."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def runtime_folder(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """XDG_RUNTIME_DIR of USER."""
    path = shared / "runtime"
    path.mkdir(0o700)
    os.chown(path, USER, USER)
    monkeypatch.setattr("posix.environ", {b"XDG_RUNTIME_DIR": os.fsencode(path)})
    return path


def make(container_id: str = "c") -> None:
    with Store(own_folder("ocirt")).create(container_id) as entry:
        entry.write_state(unfinished(container_id) | {"annotations": {"of": str(os.geteuid())}})


def test_a_user_has_containers_below_the_runtime_folder(runtime_folder: Path) -> None:
    with being(USER):
        make()
        store = Store(own_folder("ocirt"))
        assert store.ids() == ["c"]
        assert store.read("c")["annotations"] == {"of": str(USER)}
    for path in (runtime_folder / "ocirt", runtime_folder / "ocirt" / "c"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o7777) == (USER, 0o1700)
    state = (runtime_folder / "ocirt" / "c" / "state.json").stat()
    assert (state.st_uid, state.st_mode & 0o7777) == (USER, 0o1600), "sticky files are spared by a clean-up"


def test_a_runtime_folder_of_another_user_is_an_error_with_a_way_out(runtime_folder: Path) -> None:
    """Such as after `su` without `-`: the variable is still there."""
    with being(OTHER), pytest.raises(KernelError, match="Permission denied") as refused:
        make()
    assert "XDG_RUNTIME_DIR" in refused.value.hint
    assert not list(runtime_folder.iterdir())


def as_link(place: Path, target: Path) -> None:
    place.symlink_to(target)
    os.lchown(place, OTHER, OTHER)


def as_folder(place: Path, target: Path) -> None:
    place.mkdir(0o777)
    place.chmod(0o777)
    os.chown(place, OTHER, OTHER)


def as_fifo(place: Path, target: Path) -> None:
    os.mkfifo(place)
    os.chown(place, OTHER, OTHER)


PUT: list[Callable[[Path, Path], None]] = [as_link, as_folder, as_fifo]


@pytest.mark.parametrize("put", PUT, ids=lambda put: put.__name__)
def test_who_is_first_in_a_shared_folder_gets_nothing(
    shared: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path, Path], None]
) -> None:
    """XDG_RUNTIME_DIR may be a folder like /tmp: another user has put something where the state is to be, or a link to
    what is the victim's."""
    mine = shared / "mine"
    mine.mkdir(0o700)
    os.chown(mine, USER, USER)
    monkeypatch.setattr("posix.environ", {b"XDG_RUNTIME_DIR": os.fsencode(shared)})
    put(shared / "ocirt", mine)
    with (
        being(USER),
        pytest.raises(Error, match=r"link of the user 54322|belongs to the user 54322|File exists|Not a dir"),
    ):
        make()
    assert not list(mine.iterdir())
    put_there = shared / "ocirt"
    assert put_there.is_symlink() or not put_there.is_dir() or not list(put_there.iterdir())


def test_a_runtime_folder_that_is_a_link_to_another_users_gives_nothing(
    shared: Path, runtime_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link's owner may lead a user to a folder of a third one, who has open doors."""
    theirs = shared / "theirs"
    theirs.mkdir(0o777)
    theirs.chmod(0o777)
    (theirs / "ocirt").mkdir(0o700)
    os.chown(theirs, OTHER, OTHER)
    os.chown(theirs / "ocirt", OTHER, OTHER)
    (shared / "link").symlink_to(theirs)
    monkeypatch.setattr("posix.environ", {b"XDG_RUNTIME_DIR": os.fsencode(shared / "link")})
    with being(USER), pytest.raises(ContainerError, match="belongs to the user 54322"):
        make()
    assert not list((theirs / "ocirt").iterdir())


def test_a_folder_below_that_is_another_users_is_not_believed(runtime_folder: Path) -> None:
    with being(USER):
        make("mine")
    root = runtime_folder / "ocirt"
    (root / "theirs").mkdir(0o755)
    (root / "theirs" / "state.json").write_bytes((root / "mine" / "state.json").read_bytes())
    for path in (root / "theirs" / "state.json", root / "theirs"):
        path.chmod(0o755)
        os.chown(path, OTHER, OTHER)
    with being(USER):
        store = Store(own_folder("ocirt"))
        for look in (store.read, store.lock, store.open):
            with pytest.raises(ContainerError, match="belongs to the user 54322"):
                look("theirs")
        with pytest.raises(ContainerError, match="belongs to the user 54322"):
            store.read("theirs", listed=True)


def test_two_users_of_one_sticky_root_cannot_reach_each_other(shared: Path) -> None:
    store = Store(str(shared))
    with being(OTHER), store.create("c") as entry:
        entry.write_state(unfinished("c"))
    with being(USER):
        for look in (store.read, store.lock, store.open):
            with pytest.raises(KernelError, match="Permission denied"):
                look("c")
        with pytest.raises(ContainerError, match="exists already"):
            store.create("c")
        store.create("d").close()
        assert store.ids() == ["c", "d"]
    (shared / "c").chmod(0o755)  # whoever opens the door has a container that nobody else believes in
    (shared / "c" / "state.json").chmod(0o644)
    with being(USER), pytest.raises(ContainerError, match="belongs to the user 54322"):
        store.read("c")
    with being(OTHER):
        assert store.read("c") == unfinished("c")


def test_an_exchanged_folder_is_not_touched(shared: Path) -> None:
    """Somebody who may rename what is above exchanges a locked container's folder for a link to another one."""
    mine, victim = shared / "mine", shared / "victim"
    mine.mkdir(0o700)
    victim.mkdir(0o700)
    (victim / "state.json").write_text("precious")
    (victim / "file").write_text("precious")
    with Store(str(mine)).create("c") as entry:
        entry.write_state(unfinished("c"))
        os.close(entry.make_fifo("fifo", 0o622))
        (mine / "c").rename(shared / "moved")
        (mine / "c").symlink_to(victim)
        entry.write_state(unfinished("c") | {"pid": 1})
        os.close(entry.open_fifo("fifo"))
        os.close(entry.make_fifo("second", 0o622))
        entry.rename("second", "file")
        entry.unlink("fifo")
        with pytest.raises(KernelError, match="remove"):
            entry.remove()
    assert sorted(os.listdir(victim)) == ["file", "state.json"]
    assert {path.read_text() for path in victim.iterdir()} == {"precious"}
    assert not list((shared / "moved").iterdir())
    with pytest.raises(NotFoundError):
        Store(str(mine)).read("c")


def test_filters_are_cached_beside_the_state(runtime_folder: Path) -> None:
    with being(USER):
        folder, why = filters._open_folder()
        assert (folder >= 0, why) == (True, "")
        os.close(folder)
    assert (runtime_folder / "ocirt-cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("put", PUT, ids=lambda put: put.__name__)
def test_a_cache_that_another_user_has_put_there_is_not_used(
    shared: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path, Path], None]
) -> None:
    mine = shared / "mine"
    mine.mkdir(0o700)
    os.chown(mine, USER, USER)
    monkeypatch.setattr("posix.environ", {b"XDG_RUNTIME_DIR": os.fsencode(shared)})
    put(shared / "ocirt-cache", mine)
    with being(USER):
        folder, why = filters._open_folder()
    assert folder == -1
    assert "no cache of seccomp filters" in why
