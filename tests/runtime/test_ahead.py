"""`run` starts init while the plan is made, where it is known what its clone will be; and nothing is left of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import CACHE, OCIRT, Bundle, Runtime, inits, traces

pytestmark = pytest.mark.root


def arguments(runtime: Runtime, bundle: Bundle, tmp_path: Path, *args: str) -> list[list[str]]:
    """The arguments of each ocirt-init that a command executed."""
    log = tmp_path / "strace"
    argv = ["strace", "-f", "-e", "trace=execve", "-o", log, OCIRT, "--root", runtime.root, *args]
    done = subprocess.run(argv, env={"OCIRT_CACHE": CACHE}, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return [re.findall(r'"([^"]*)"', found)[1:] for found in re.findall(r'(\["ocirt-init"[^]]*\])', log.read_text())]


@pytest.fixture
def on_v1() -> None:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("on cgroup v2 the clone needs the cgroup")


@pytest.mark.usefixtures("on_v1")
def test_run_goes_ahead(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["process"]["args"] = ["/bin/true"]
    bundle.write()
    (one,) = arguments(runtime, bundle, tmp_path, "run", "--bundle", str(bundle.path), "one")
    assert one[:2] == ["4", "3"]
    assert len(one) == 3


def _user(config: dict[str, Any]) -> None:
    ids = [{"containerID": 0, "hostID": 0, "size": 1000}]
    config["linux"] |= {"uidMappings": ids, "gidMappings": ids}
    config["linux"]["namespaces"].append({"type": "user"})


def _joined(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"] = [
        {"type": "uts", "path": "/proc/self/ns/uts"} if one["type"] == "uts" else one
        for one in config["linux"]["namespaces"]
    ]
    del config["hostname"]


def _clocks(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"].append({"type": "time"})
    config["linux"]["timeOffsets"] = {"boottime": {"secs": 5}}


@pytest.mark.parametrize("change", [_user, _joined, _clocks])
def test_it_does_not_where_more_has_to_be_known(runtime: Runtime, bundle: Bundle, tmp_path: Path, change: Any) -> None:
    bundle.config["process"]["args"] = ["/bin/true"]
    change(bundle.config)
    bundle.write()
    (one,) = arguments(runtime, bundle, tmp_path, "run", "--bundle", str(bundle.path), "one")
    assert len(one) == 1


@pytest.mark.usefixtures("on_v1")
def test_what_does_not_fit_is_dropped_for_one_that_does(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """An id-mapped mount gives init a descriptor more, which shows when the facts are gathered."""
    bundle.config["process"]["args"] = ["/bin/true"]
    ids = [{"containerID": 0, "hostID": 1000, "size": 1}]
    source = tmp_path / "source"
    source.mkdir()
    bundle.config["mounts"].append(
        {"destination": "/mnt", "source": str(source), "options": ["bind"], "uidMappings": ids, "gidMappings": ids}
    )
    bundle.write()
    ahead, then = arguments(runtime, bundle, tmp_path, "run", "--bundle", str(bundle.path), "one")
    assert len(ahead) == 3
    assert len(then) == 1
    assert not inits()


def test_a_plan_that_cannot_be_made_leaves_nothing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["mounts"][1]["options"].append("size=strange")
    bundle.config["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]})
    bundle.write()
    before = traces(runtime.root, bundle.rootfs)
    done = runtime("run", "--bundle", bundle.path, "one")
    assert done.code == 1
    assert "/mounts/" in done.err
    assert traces(runtime.root, bundle.rootfs) == before


def test_an_id_that_is_taken_is_refused_before_anything_is_mounted(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["/bin/true"]
    bundle.write()
    assert runtime("create", "--bundle", bundle.path, "one").code == 0
    bundle.config["mounts"].append({"destination": "/new", "type": "tmpfs", "source": "tmpfs"})
    bundle.write()
    before = traces(runtime.root, bundle.rootfs)
    done = runtime("run", "--bundle", bundle.path, "one")
    assert done.code == 1
    assert "exists" in done.err
    assert traces(runtime.root, bundle.rootfs) == before
    assert not (bundle.rootfs / "new").exists()
    assert runtime("delete", "--force", "one").code == 0
