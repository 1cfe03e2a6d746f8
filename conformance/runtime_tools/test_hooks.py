"""The suite's programs about hooks: a test has its program's name. The bundles claim version 1.0.2-dev.

Hooks are programs of the bundle's root, run on the host; output goes to a file in the root, where the container's
process writes too. (The suite's program `hooks` itself is not here: it expects what its own hooks do not print.)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from suite_container import fails

if TYPE_CHECKING:
    from suite_container import SuiteContainer

pytestmark = pytest.mark.root

CREATED_BY = {"org.opencontainers.runtime-tools": "hook stdin test"}
AFTER_PROCESS = "for i in 0 1 2 3 4 5 6 7 8 9; do grep -q process {output} && break; sleep 0.1; done"
"""A hook that must come after the process gives it a second: only a runtime that runs the hook first is too early."""


def hook(container: SuiteContainer, script: str, **properties: Any) -> dict[str, Any]:
    return {"path": str(container.bundle / "bin/sh"), "args": ["sh", "-c", script], **properties}


def says(container: SuiteContainer, words: str) -> dict[str, Any]:
    return hook(container, f"echo '{words} called' >> {container.bundle}/output")


def failing(container: SuiteContainer) -> dict[str, Any]:
    return {"path": str(container.bundle / "bin/false"), "args": ["false"]}


def with_process(container: SuiteContainer) -> SuiteContainer:
    """Its process says so in /output."""
    return container.args("sh", "-c", "echo 'process called' >> /output")


def test_hooks_stdin(container: SuiteContainer) -> None:
    """The state of the container MUST be passed to hooks over stdin, with the status of the moment."""
    statuses = {"prestart": "created", "poststart": "running", "poststop": None}
    container.config["hooks"] = {
        name: [hook(container, f"cat > {container.bundle}/{name}.json", timeout=1)] for name in statuses
    }
    container.config["annotations"] = CREATED_BY
    container.args("true").created()
    pid = container.state()["pid"]
    assert container.start().code == 0
    container.wait_for("stopped")
    assert container.delete().code == 0
    for name, status in statuses.items():
        state = json.loads(container.read(f"{name}.json"))
        assert (state["id"], state["bundle"]) == (container.id, str(container.bundle)), name
        assert state["annotations"] == CREATED_BY, name
        if status:
            assert (state["pid"], state["status"]) == (pid, status), name
        else:
            assert state["status"], name


def test_hooks_stdin_that_is_not_read(container: SuiteContainer) -> None:
    """What the suite's other hooks take for granted: one that never reads its stdin is no error."""
    container.config["hooks"] = {name: [hook(container, "exec <&-")] for name in ("prestart", "poststart", "poststop")}
    container.args("true").stopped()
    assert container.delete().code == 0


def test_prestart(container: SuiteContainer) -> None:
    """Prestart hooks MUST be called after start is called but before the user's program is executed (until 1.0.2)."""
    container.config["hooks"] = {"prestart": [says(container, "pre-start")]}
    with_process(container).created()
    assert container.read("output") == ""
    assert container.start().code == 0
    container.wait_for("stopped")
    assert container.read("output") == "pre-start called\nprocess called\n"


def test_prestart_fail(container: SuiteContainer) -> None:
    """If a prestart hook fails, the runtime MUST generate an error, stop the container, and go on at its deletion."""
    container.config["hooks"] = {"prestart": [failing(container)]}
    container.args("sh", "-c", "touch /output")
    done = container.create()
    assert fails(done if done.code else container.start())
    assert not (container.bundle / "output").exists()
    assert fails(container("state", container.id))


def test_poststart(container: SuiteContainer) -> None:
    """Poststart hooks MUST be called after the user's program is executed but before start returns."""
    output = container.bundle / "output"
    script = f"{AFTER_PROCESS.format(output=output)}; echo 'post-start called' >> {output}"
    container.config["hooks"] = {"poststart": [hook(container, script)]}
    with_process(container).created()
    assert container.read("output") == ""
    assert container.start().code == 0
    assert container.read("output") == "process called\npost-start called\n"


def test_poststart_fail(container: SuiteContainer) -> None:
    """If a poststart hook fails, the remaining hooks and the lifecycle MUST continue (until 1.2)."""
    container.config["hooks"] = {"poststart": [failing(container), says(container, "post-start")]}
    container.args("true").stopped()
    assert container.delete().code == 0
    assert container.read("output") == "post-start called\n"


def test_poststop(container: SuiteContainer) -> None:
    """Poststop hooks MUST be called after the container is deleted but before delete returns."""
    container.config["hooks"] = {"poststop": [says(container, "post-stop")]}
    with_process(container).created()
    assert container.read("output") == ""
    assert container.start().code == 0
    container.wait_for("stopped")
    assert container.read("output") == "process called\n"
    assert container.delete().code == 0
    assert container.read("output") == "process called\npost-stop called\n"


def test_poststop_fail(container: SuiteContainer) -> None:
    """If a poststop hook fails, the remaining hooks and the lifecycle MUST continue."""
    container.config["hooks"] = {"poststop": [failing(container), says(container, "post-stop")]}
    container.args("true").stopped()
    assert container.delete().code == 0
    assert container.read("output") == "post-stop called\n"
