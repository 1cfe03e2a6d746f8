"""list, as an engine or a person calls the installed executable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support import Runtime

from ocirt.cli.listing import table
from ocirt.runtime import state as states
from ocirt.runtime.list import list_containers
from ocirt.state.process import start_time
from ocirt.state.store import unfinished


def write_state(root: Path, container_id: str, **changes: Any) -> None:
    """A container's state, as if its process had ended."""
    folder = root / container_id
    folder.mkdir(parents=True)
    state = unfinished(container_id) | {
        "bundle": f"/bundles/{container_id}",
        "rootfs": "/r",
        "created": "2026-01-02T03:04:05.000000006Z",
        "ociVersion": "1.3.0",
    }
    (folder / "state.json").write_text(json.dumps(state | changes))


def test_list_aligns_its_columns_like_runc(runtime: Runtime) -> None:
    write_state(runtime.root, "one")
    write_state(runtime.root, "a-longer-name-than-twelve")
    done = runtime("list")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert [line.split()[0] for line in lines[1:]] == ["a-longer-name-than-twelve", "one"]
    at = lines[0].index("PID")
    assert at == len("a-longer-name-than-twelve") + 3
    assert all(line[at:].startswith("0  ") for line in lines[1:])
    assert lines[0].index("STATUS") == at + 12
    assert lines[2].split()[2:] == ["stopped", "/bundles/one", "2026-01-02T03:04:05.000000006Z", "root"]


def test_an_empty_list_is_a_header_or_an_empty_array_or_nothing(runtime: Runtime) -> None:
    assert runtime("list").out == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    assert runtime("list", "--format", "json").out == "[]\n"
    assert runtime("list", "-q").out == ""
    assert not runtime.root.exists()


def test_quiet_lists_only_ids(runtime: Runtime) -> None:
    write_state(runtime.root, "one")
    write_state(runtime.root, "two")
    for args in (["-q"], ["--quiet"], ["-q", "-f", "json"], ["-q", "-f=json"], ["-qf", "json"]):
        assert runtime("list", *args).out == "one\ntwo\n"


def test_the_json_list_has_the_documents_of_state(runtime: Runtime) -> None:
    write_state(runtime.root, "one", annotations={"a": 'b\n"\u2028\ud83d\ude00'})
    assert json.loads(runtime("list", "--format", "json").out) == [json.loads(runtime("state", "one").out)]


DAMAGE: dict[str, str] = {
    "empty": "",
    "not-json": "{",
    "not-object": "[]",
    "lacking": "{}",
    "endless": json.dumps(unfinished("x") | {"annotations": {"a": float("inf")}}),
    "no-number": json.dumps(unfinished("x") | {"pid": float("nan")}),
    "pid-as-text": json.dumps(unfinished("x") | {"pid": "12"}),
    "owner-as-text": json.dumps(unfinished("x") | {"owner": "me"}),
    "creator-missing": json.dumps(unfinished("x") | {"creator": []}),
    "annotations-as-list": json.dumps(unfinished("x") | {"annotations": [1]}),
    "bundle-as-number": json.dumps(unfinished("x") | {"bundle": 1e999}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_a_warning_and_hides_no_other_container(runtime: Runtime, damage: str) -> None:
    write_state(runtime.root, "good")
    (runtime.root / "bad").mkdir()
    (runtime.root / "bad" / "state.json").write_text(DAMAGE[damage])

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    done = runtime("list", "--format", "json")
    assert done.code == 0
    assert [document["id"] for document in json.loads(done.out, parse_constant=refuse)] == ["good"]
    assert done.err.startswith("ocirt: warning: ") and done.err.count("\n") == 1
    assert str(runtime.root / "bad") in done.err
    assert runtime("list", "-q").out == "good\n"


def test_a_table_has_its_last_column_as_it_is() -> None:
    assert table([["A", "B"], ["long" * 5, "x"]]) == ["A" + " " * 22 + "B", "long" * 5 + "   x"]


def test_a_path_that_is_none_hides_no_other_container(runtime: Runtime) -> None:
    """The kernel is asked with what the state says."""
    own = {"pid": os.getpid(), "pidStart": start_time(os.getpid())}
    write_state(runtime.root, "bad", **own, cgroups={"places": [], "made": [], "paused": "\0"})
    write_state(runtime.root, "good")
    done = runtime("list", "--format", "json")
    assert (done.code, [document["id"] for document in json.loads(done.out)]) == (0, ["good"])
    assert done.err.startswith("ocirt: warning: ") and done.err.count("\n") == 1
    assert str(runtime.root / "bad") in done.err


def test_a_user_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(states, "owner_name", lambda uid: asked.append(uid) or f"user{uid}")
    for index in range(6):
        write_state(tmp_path, f"c{index}", owner=index % 2)
    documents, warnings = list_containers(str(tmp_path))
    assert [document["owner"] for document in documents] == ["user0", "user1"] * 3
    assert (asked, warnings) == ([0, 1], [])
