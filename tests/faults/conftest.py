"""Fixtures of fault injection: the injector, and a bundle whose plan has a step of each concern."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Bundle, Runtime, default_config

sys.path.insert(0, str(Path(__file__).parent))
from checking import Host


@pytest.fixture(scope="session")
def injector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("injector") / "injector"
    source = Path(__file__).with_name("injector.c")
    subprocess.run(["gcc", "-std=c11", "-O2", "-o", program, source], check=True)
    return program


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The executable with a state root of its own; whatever is left in it is removed."""
    runtime = Runtime(tmp_path / "state")
    runtime.root.mkdir()
    yield runtime
    for entry in runtime.root.iterdir():
        runtime("delete", "--force", entry.name)


def made_rich_bundle(path: Path, rootfs: Path) -> Bundle:
    """What engines ask for, and one of each of the rest that every host has."""
    path.mkdir()
    (path / "rootfs").symlink_to(rootfs)
    (path / "bound").write_text("bound\n")
    config = default_config(
        args=["sh", "-c", "true"],
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
        oomScoreAdj=10,
        user={"uid": 1000, "gid": 1000, "umask": 0o22, "additionalGids": [5]},
    )
    config["hostname"] = "faults"
    config["mounts"].append(
        {"destination": "/tmp/bound", "type": "bind", "source": str(path / "bound"), "options": ["bind", "ro"]}
    )
    linux = config["linux"]
    linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]
    linux["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}, "cpu": {"shares": 512}}
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["reboot", "swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    return Bundle(path, config).write()


@pytest.fixture
def rich_bundle(tmp_path: Path, shared_rootfs: Path) -> Bundle:
    return made_rich_bundle(tmp_path / "bundle", shared_rootfs)


@pytest.fixture
def host(injector: Path, runtime: Runtime, rich_bundle: Bundle) -> Host:
    """With the filter of the bundle in the cache: compiling it is another test's."""
    assert runtime("run", "--bundle", rich_bundle.path, "warm").code == 0
    return Host(injector, runtime)
