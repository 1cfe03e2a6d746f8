"""state.place: where a caller's state is, and which folders are believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt.errors import ContainerError
from ocirt.state import place
from ocirt.state.place import check_own, check_root, own_folder

INITIAL = [place.ALL_IDS]
PODMAN = [["0", "1000", "1"], ["1", "100000", "65536"]]


class Caller:
    """Who asks: by default an ordinary user of the host, with no variable, and no login."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.environment: dict[bytes, bytes] = {}
        monkeypatch.setattr("posix.environ", self.environment)
        self.be(uid=1000)

    def be(self, *, uid: int, maps: list[list[str]] = INITIAL, run: bool = False) -> Caller:
        self.patch.setattr("posix.geteuid", lambda: uid)
        self.patch.setattr("posix.access", lambda path, mode: run if path == "/run" else None)
        self.patch.setattr(place, "_uid_map", lambda: maps)
        self.logged_in(None)
        return self

    def has(self, runtime: str) -> Caller:
        self.environment[b"XDG_RUNTIME_DIR"] = os.fsencode(runtime)
        return self

    def logged_in(self, status: os.stat_result | None, at: str = "/run/user/1000") -> None:
        """Is there such a folder?"""

        def lstat(path: str) -> os.stat_result:
            if status is None or path != at:
                raise FileNotFoundError(path)
            return status

        self.patch.setattr("posix.lstat", lstat)


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Caller:
    return Caller(monkeypatch)


def status(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, uid, 0, 0, 0, 0))


def test_roots_state_is_in_run_whatever_the_environment_says(caller: Caller) -> None:
    """`sudo -E` keeps a user's variables."""
    caller.be(uid=0, run=True)
    assert own_folder("ocirt") == "/run/ocirt"
    caller.has("/run/user/1000")
    assert own_folder("ocirt") == "/run/ocirt"


def test_root_that_cannot_write_to_run_is_told_so(caller: Caller) -> None:
    """Such as on a host that is read-only: another place would surprise."""
    caller.be(uid=0, run=False).has("/run/user/1000")
    assert own_folder("ocirt") == "/run/ocirt"


def test_a_containers_root_has_its_own_run(caller: Caller) -> None:
    caller.be(uid=0, maps=PODMAN, run=True).has("/run/user/1000")
    assert own_folder("ocirt") == "/run/ocirt"


def test_root_of_a_user_namespace_that_has_no_right_to_run_is_the_user(caller: Caller) -> None:
    caller.be(uid=0, maps=PODMAN, run=False).has("/run/user/1000")
    assert own_folder("ocirt") == "/run/user/1000/ocirt"


def test_an_ordinary_user_has_it_in_the_runtime_folder(caller: Caller) -> None:
    caller.has("/run/user/1000")
    assert own_folder("ocirt") == "/run/user/1000/ocirt"
    caller.has("/run/user/1000/")
    assert own_folder("ocirt-cache") == "/run/user/1000/ocirt-cache"


@pytest.mark.parametrize("runtime", ["", "relative", "."])
def test_without_one_it_is_beside_others_by_its_name(caller: Caller, runtime: str) -> None:
    caller.has(runtime)
    assert own_folder("ocirt") == "/tmp/ocirt-1000"


def test_a_login_has_made_such_a_folder(caller: Caller) -> None:
    caller.logged_in(status(0o40700, 1000))
    assert own_folder("ocirt") == "/run/user/1000/ocirt"


@pytest.mark.parametrize(
    "found", [status(0o40700, 1001), status(0o40755, 1000), status(0o120777, 1000), status(0o40777, 1000)], ids=str
)
def test_what_is_there_and_not_the_users_alone_is_not_taken(caller: Caller, found: os.stat_result) -> None:
    caller.logged_in(found)
    assert own_folder("ocirt") == "/tmp/ocirt-1000"


def test_a_user_and_root_of_the_users_namespace_mean_one_folder(caller: Caller) -> None:
    outside = own_folder("ocirt")
    caller.be(uid=0, maps=PODMAN)
    assert own_folder("ocirt") == outside
    caller.logged_in(status(0o40700, 0))
    assert own_folder("ocirt") == "/run/user/1000/ocirt"


def test_another_user_of_the_namespace_is_another_one_outside(caller: Caller) -> None:
    caller.be(uid=7, maps=PODMAN)
    assert own_folder("ocirt") == "/tmp/ocirt-100006"


def test_the_real_map_is_read() -> None:
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    assert place._uid_map() == [line.split() for line in lines]


US = os.geteuid()


@pytest.mark.parametrize("mode", [0o40700, 0o40755, 0o41700, 0o100600, 0o100644])
def test_what_is_ours_and_nobody_else_may_write_to_is_believed(mode: int) -> None:
    check_own(status(mode, US), "/folder")


@pytest.mark.parametrize(
    ("mode", "uid", "why"),
    [
        (0o40700, US + 1, f"belongs to the user {US + 1}"),
        (0o40770, US, "others than you may write to /folder: its mode is 770"),
        (0o40702, US, "its mode is 702"),
        (0o41777, US, "its mode is 1777"),
        (0o100620, US, "its mode is 620"),
    ],
)
def test_all_else_is_not(mode: int, uid: int, why: str) -> None:
    with pytest.raises(ContainerError, match=why):
        check_own(status(mode, uid), "/folder")


@pytest.mark.parametrize("mode", [0o700, 0o1700, 0o755, 0o1777])
def test_a_state_root_may_be_sticky_and_open(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    check_root(str(tmp_path))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_state_root_may_not_be_open_without(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ContainerError, match="others than you may write"):
        check_root(str(tmp_path))


def test_a_link_of_ours_is_followed_to_a_state_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir(0o700)
    (tmp_path / "link").symlink_to("root")
    check_root(str(tmp_path / "link"))
    (tmp_path / "root").chmod(0o777)
    with pytest.raises(ContainerError, match="others than you may write"):
        check_root(str(tmp_path / "link"))
