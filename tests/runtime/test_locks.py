"""Several commands on one container at once: the lock lets one of them win, and nothing is left half done."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from support import OCIRT, Bundle, Runtime, cgroup_folders, inits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture
def sleeper(runtime: Runtime, bundle: Bundle) -> Iterator[Bundle]:
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    yield bundle.write()
    runtime("delete", "--force", "c")
    assert not inits()


def together(runtime: Runtime, *commands: Sequence[str | Path]) -> list[tuple[int, str]]:
    """Start all of them, then wait for all: (code, stderr) of each. No pipes, which a container could hold open."""
    running = []
    for number, words in enumerate(commands):
        errors = runtime.root.parent / f"stderr-{number}"
        with errors.open("wb") as stderr:
            running.append(
                (
                    errors,
                    subprocess.Popen(
                        [OCIRT, "--root", runtime.root, *words],
                        env={},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=stderr,
                    ),
                )
            )
    return [(process.wait(60), errors.read_text()) for errors, process in running]


def test_of_eight_starts_at_once_exactly_one_succeeds(runtime: Runtime, sleeper: Bundle) -> None:
    assert runtime("create", "--bundle", sleeper.path, "c").code == 0
    ended = together(runtime, *[["start", "c"]] * 8)
    assert sorted(code for code, _ in ended) == [0] + [1] * 7
    for code, errors in ended:
        assert code == 0 or "running, not created" in errors
    assert runtime.state("c")["status"] == "running"


def test_of_eight_creates_with_one_id_exactly_one_succeeds(runtime: Runtime, sleeper: Bundle) -> None:
    folders = cgroup_folders()
    ended = together(runtime, *[["create", "--bundle", sleeper.path, "c"]] * 8)
    assert sorted(code for code, _ in ended) == [0] + [1] * 7
    for code, errors in ended:
        assert code == 0 or "exists already" in errors
    assert len(inits()) == 1
    assert runtime.state("c")["status"] == "created"
    assert runtime("delete", "c").code == 0
    assert cgroup_folders() == folders


def test_of_eight_deletes_at_once_exactly_one_succeeds(runtime: Runtime, sleeper: Bundle) -> None:
    assert runtime("create", "--bundle", sleeper.path, "c").code == 0
    ended = together(runtime, *[["delete", "c"]] * 8)
    assert sorted(code for code, _ in ended) == [0] + [1] * 7
    for code, errors in ended:
        assert code == 0 or "does not exist" in errors


@pytest.mark.parametrize("order", [("start", "delete"), ("delete", "start")])
def test_start_and_forced_delete_at_once_end_with_nothing(
    runtime: Runtime, sleeper: Bundle, order: tuple[str, str]
) -> None:
    folders = cgroup_folders()
    commands = {"start": ["start", "c"], "delete": ["delete", "--force", "c"]}
    for _ in range(5):
        assert runtime("create", "--bundle", sleeper.path, "c").code == 0
        ended = dict(zip(order, together(runtime, *(commands[verb] for verb in order)), strict=True))
        assert ended["delete"] == (0, "")
        code, errors = ended["start"]
        assert code == 0 or "does not exist" in errors
        assert runtime("state", "c").code == 1
        assert cgroup_folders() == folders


def test_create_and_forced_delete_at_once_leave_a_container_or_nothing(runtime: Runtime, sleeper: Bundle) -> None:
    folders = cgroup_folders()
    for _ in range(5):
        created, deleted = together(runtime, ["create", "--bundle", sleeper.path, "c"], ["delete", "--force", "c"])
        assert deleted == (0, "")
        if runtime("state", "c").code == 0:
            assert created[0] == 0
            assert runtime("delete", "c").code == 0
        assert cgroup_folders() == folders
        assert not inits()


def test_containers_with_different_ids_do_not_wait_for_each_other(runtime: Runtime, sleeper: Bundle) -> None:
    names = [f"n{number}" for number in range(6)]
    try:
        ended = together(runtime, *(["create", "--bundle", sleeper.path, name] for name in names))
        assert [code for code, _ in ended] == [0] * 6
    finally:
        together(runtime, *(["delete", "--force", name] for name in names))
