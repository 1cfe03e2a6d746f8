"""Parents that were made for a container go with it, also where the kernel is not yet done with what was below."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.cgroups import manager


def test_a_parent_that_is_refused_at_first_is_removed_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False, False, True]
    monkeypatch.setattr(manager, "removed", lambda path: answers.pop(0))
    monkeypatch.setattr(manager, "sleep", lambda seconds: None)
    manager._remove_soon(str(tmp_path))
    assert answers == []


@pytest.mark.parametrize("content", ["another", "a process"])
def test_one_that_is_anothers_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    if content == "another":
        (tmp_path / "another").mkdir()
    else:
        monkeypatch.setattr(manager, "processes", lambda path: [7])
    monkeypatch.setattr(manager, "removed", lambda path: pytest.fail("it was tried again"))
    manager._remove_soon(str(tmp_path))


def test_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    monkeypatch.setattr(manager, "removed", lambda path: bool(tries.append(path)))
    monkeypatch.setattr(manager, "sleep", lambda seconds: None)
    manager._remove_soon(str(tmp_path))
    assert 0 < len(tries) <= 100
    manager._remove_soon(str(tmp_path / "gone"))
