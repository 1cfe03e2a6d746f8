"""explain over a bundle: what it compiles is what create compiles, and nothing comes of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import OCIRT, Bundle, Runtime, command

from ocirt.cgroups.rules import Rule
from ocirt.errors import ConfigError
from ocirt.plan.encode import encode
from ocirt.runtime.creation import Creation
from ocirt.runtime.explain import explain, id_for, rule_text


def test_the_plan_that_is_explained_is_the_one_that_create_runs(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocirt.runtime.creation.Init", lambda plan, encoded: None)  # nothing is started
    explanation = explain(str(bundle.path))
    creation = Creation(str(tmp_path / "state"), bundle.path.name, str(bundle.path), wait_for_start=True)
    assert encode(explanation.plan).content == creation.encoded.content
    assert explanation.prepared.size == len(creation.encoded.content)


def test_the_document_has_what_tools_need(bundle: Bundle) -> None:
    found: dict[str, Any] = json.loads(json.dumps(explain(str(bundle.path)).document()))
    assert {"bundle", "rootfs", "steps", "warnings", "cgroups"} <= found.keys()
    assert (found["bundle"], found["rootfs"]) == (str(bundle.path), str(bundle.rootfs))
    assert found["steps"][0]["call"] == "close_range"
    assert found["steps"][-1]["call"] == "execve"
    for cgroup in found["cgroups"]:
        assert cgroup["path"].endswith("/" + bundle.path.name)
        assert cgroup["path"] in cgroup["create"]


def test_the_text_has_a_header_the_plan_and_the_hosts_part(bundle: Bundle) -> None:
    bundle.config["linux"]["resources"]["devices"] += [
        {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"},
        {"allow": False, "type": "b", "major": 8, "access": "w"},
    ]
    bundle.write()
    explanation = explain(str(bundle.path))
    lines = explanation.lines(everything=False, colour=False)
    assert lines[0] == f"bundle  {bundle.path}"
    assert lines[1] == f"rootfs  {bundle.rootfs}"
    assert lines[2].startswith(f"plan    {len(explanation.plan.steps)} steps, {explanation.prepared.size} bytes, for ")
    at = lines.index("meanwhile, on the host")
    assert any(line.startswith("  create and join  /sys/fs/cgroup/") for line in lines[at:])
    rules = "deny a *:* rwm, allow c 10:200 rw, deny b 8:* w, and the default devices"
    assert f"  device rules     {rules}" in lines
    assert len(lines) < len(explanation.lines(everything=True, colour=False))


def test_warnings_stand_at_the_end(bundle: Bundle) -> None:
    bundle.config["process"]["capabilities"]["bounding"].append("CAP_NOTHING")
    bundle.write()
    explanation = explain(str(bundle.path))
    assert explanation.document()["warnings"] == explanation.warnings != []
    last = explanation.lines(everything=False, colour=False)[-1]
    assert last.startswith("warning: ")
    assert any('unknown capability "CAP_NOTHING"' in warning for warning in explanation.warnings)


def test_a_config_that_fails_to_compile_is_placed_in_its_file(bundle: Bundle) -> None:
    bundle.config["mounts"].append({"destination": "/x", "type": "tmpfs", "options": ["lazytime"]})
    bundle.write()
    with pytest.raises(ConfigError) as caught:
        explain(str(bundle.path))
    assert caught.value.pointer == "/mounts/7/options/0"
    assert caught.value.place.startswith(f"{bundle.path}/config.json:")


@pytest.mark.parametrize(("folder", "name"), [("/a/b-1", "b-1"), ("/a/b c", "container"), ("/", "container")])
def test_the_id_is_the_folders_name_where_that_can_be_one(folder: str, name: str) -> None:
    assert id_for(folder) == name


def test_rules_are_written_as_the_kernel_has_them() -> None:
    assert rule_text(Rule(True, "c", 1, -1, "rwm")) == "allow c 1:* rwm"
    assert rule_text(Rule(False, "a", -1, -1, "m")) == "deny a *:* m"


@pytest.mark.root
def test_explain_runs_as_an_unprivileged_user_and_says_what_that_means(bundle: Bundle, tmp_path: Path) -> None:
    """The executable and the bundle must be readable for that user: both are copied to a place that is."""
    folder = Path("/tmp") / f"ocirt-explain-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        shutil.copytree(bundle.path, folder / "bundle", symlinks=True)
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        for verb in ("explain", "check"):
            done = command(OCIRT, verb, folder / "bundle", user=65534, group=65534, extra_groups=[])
            assert done.code == 0, done.err
        done = command(OCIRT, "explain", folder / "bundle", user=65534, group=65534, extra_groups=[])
        assert "warning: this is the plan for user 65534 without CAP_SYS_ADMIN" in done.out
    finally:
        shutil.rmtree(folder)


@pytest.mark.root
def test_a_running_containers_bundle_can_be_explained(bundle: Bundle, runtime: Runtime) -> None:
    """Its cgroup is in use, which is no reason not to show the plan."""
    created = runtime("create", "--bundle", bundle.path, bundle.path.name)
    assert created.code == 0, created.err
    try:
        done = runtime("explain", bundle.path)
        assert done.code == 0, done.err
        assert "has processes already" in done.out
    finally:
        assert runtime("delete", "--force", bundle.path.name).code == 0
