"""state: the specification's document in every status, by `state` and by `list`."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support import OCIRT, REPOSITORY, Bundle, Runtime

SCHEMA = json.loads((REPOSITORY / "spec" / "state.schema.json").read_text())
pytestmark = pytest.mark.root


def errors(state: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(state)]


def test_the_state_is_the_schemas_in_every_status(bundle: Bundle, runtime: Runtime) -> None:
    bundle.config["annotations"] = {"com.example.key": "välue", "com.example.empty": ""}
    bundle.config["process"]["args"] = ["/bin/sleep", "100"]
    bundle.write()
    create = subprocess.Popen([OCIRT, "--root", runtime.root, "create", "--bundle", bundle.path, "c"], env={})
    seen = []
    try:
        while create.poll() is None and not (runtime.root / "c" / "state.json").exists():
            pass
        create.send_signal(signal.SIGSTOP)
        seen.append(runtime.state("c"))
        create.send_signal(signal.SIGCONT)
        assert create.wait(20) == 0
        seen.append(runtime.state("c"))
        assert runtime("start", "c").code == 0
        seen.append(runtime.state("c"))
        assert runtime("kill", "c", "KILL").code == 0
        while (state := runtime.state("c"))["status"] == "running":
            pass
        seen.append(state)
    finally:
        create.send_signal(signal.SIGCONT)
        create.wait(20)
        runtime("delete", "--force", "c")
    assert [errors(state) for state in seen] == [[]] * 4
    assert seen[0]["status"] in ("creating", "created")  # created only if it was faster than our look
    assert [state["status"] for state in seen[1:]] == ["created", "running", "stopped"]
    assert [state["annotations"] for state in seen] == [bundle.config["annotations"]] * 4
    assert seen[1]["pid"] == seen[2]["pid"] > 0 == seen[3]["pid"]
    assert all(state.keys() == SCHEMA["properties"].keys() for state in seen)


def test_a_list_is_made_of_states(bundle: Bundle, runtime: Runtime) -> None:
    for name in ("a", "b"):
        assert runtime("create", "--bundle", bundle.path, name).code == 0
    try:
        listed = json.loads(runtime("list", "--format", "json").out)
        assert [errors(state) for state in listed] == [[], []]
        assert listed == [runtime.state("a"), runtime.state("b")]
    finally:
        for name in ("a", "b"):
            assert runtime("delete", "--force", name).code == 0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"pid": 0}, "$.pid"),
        ({"pid": "12"}, "$.pid"),
        ({"status": "dead"}, "$.status"),
        ({"bundle": "relative"}, "$.bundle"),
        ({"created": "yesterday"}, "$.created"),
        ({"annotations": {"a": 1}}, "$.annotations.a"),
        ({"ociVersion": "1"}, "$.ociVersion"),
    ],
)
def test_the_schema_refuses_what_is_no_state(
    bundle: Bundle, runtime: Runtime, change: dict[str, Any], fault: str
) -> None:
    assert runtime("create", "--bundle", bundle.path, "c").code == 0
    state = runtime.state("c")
    assert runtime("delete", "--force", "c").code == 0
    assert errors(state) == []
    assert [error.split(": ")[0] for error in errors(state | change)] == [fault]
