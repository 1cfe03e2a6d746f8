"""Configurations as engines wrote them (tests/configs), with what lay on the engine's host pointed at something here:
the root file system, bind sources, joined namespaces, hooks, and limits that this machine may not raise."""

from __future__ import annotations

import copy
import json
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import Bundle, Runtime, make_rootfs, traces

from ocirt.runtime.explain import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.json"))
OF_EVERY_HOST = ("/sys", "/proc", "/dev", "/dev/shm", "/sys/fs/cgroup")
FILES = ("hosts", "hostname", "resolv.conf", ".containerenv", "docker-init", "secret")
KINDS = {"network": "net", "mount": "mnt"}


@pytest.fixture(scope="module")
def neighbour() -> Iterator[int]:
    """A process in namespaces that can be joined: what an engine's sandbox container is."""
    kinds = ("--pid", "--net", "--ipc", "--uts", "--cgroup")
    with subprocess.Popen(["unshare", "--kill-child", "--fork", *kinds, "sleep", "3600"]) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (found := children.read_text().split()) or "sleep" not in Path(f"/proc/{found[0]}/comm").read_text():
            time.sleep(0.01)
        yield int(found[0])
        process.kill()


def local_source(source: str, folder: Path) -> str:
    """A file or folder that stands for the engine's."""
    if source in OF_EVERY_HOST:
        return source
    place = folder / source.strip("/").replace("/", "_")[-100:]
    if Path(source).name in FILES or Path(source).suffix:
        place.write_text("local\n")
    else:
        place.mkdir(exist_ok=True)
        place.chmod(0o777)
    return str(place)


def localize(config: dict[str, Any], bundle: Path, neighbour: int) -> dict[str, Any]:
    """A copy that this machine can run; everything else stays as the engine wrote it."""
    config = copy.deepcopy(config)
    linux, process = config["linux"], config["process"]
    config["root"]["path"] = "rootfs"
    sources = bundle / "sources"
    sources.mkdir()
    for mount in config["mounts"]:
        if {"bind", "rbind"}.intersection(mount.get("options") or ()):
            mount["source"] = local_source(mount["source"], sources)
    for namespace in linux["namespaces"]:
        if namespace.get("path"):
            namespace["path"] = f"/proc/{neighbour}/ns/{KINDS.get(namespace['type'], namespace['type'])}"
    for hooks in (config.get("hooks") or {}).values():
        for hook in hooks:
            hook["path"] = "/bin/true"
    for limit in process.get("rlimits") or ():
        hard = resource.getrlimit(getattr(resource, limit["type"]))[1]
        if hard != resource.RLIM_INFINITY:
            limit["hard"] = min(limit["hard"], hard)
            limit["soft"] = min(limit["soft"], hard)
    process["args"] = ["/bin/sh", "-c", "echo ran as $(id -u)"]
    process["terminal"] = False
    if linux.get("uidMappings"):
        first = linux["uidMappings"][0]["hostID"]
        for folder, folders, files in os.walk(bundle):
            for name in [".", *folders, *files]:
                os.chown(os.path.join(folder, name), first, first, follow_symlinks=False)
    return config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_checked_explained_and_run(
    runtime: Runtime, tmp_path_factory: pytest.TempPathFactory, neighbour: int, path: Path
) -> None:
    folder = tmp_path_factory.mktemp("engine")  # short, and open to the mapped root of a user namespace
    for parent in (folder, folder.parent):
        parent.chmod(0o755)
    make_rootfs(folder / "rootfs")
    programs = folder / "rootfs" / "bin"
    (programs / "busybox").rename(programs / "program")  # one engine's image has a folder of that name
    for link in [link for link in programs.iterdir() if link.is_symlink()]:
        link.unlink()
        link.symlink_to("program")
    bundle = Bundle(folder, localize(json.loads(path.read_text()), folder, neighbour)).write()
    before = traces(runtime.root)

    checked = runtime("check", bundle.path)
    assert checked.code == 0, checked.out + checked.err
    explained = runtime("explain", "--json", bundle.path)
    assert explained.code == 0, explained.err
    assert len(json.loads(explained.out)["steps"]) > 100
    lines = explain(str(bundle.path)).lines(everything=True, colour=False)
    assert len(lines) > len(json.loads(explained.out)["steps"])
    assert not [line for line in lines if not line.isprintable() or line != line.rstrip()]
    done = runtime("run", "--bundle", bundle.path, "one")
    user = bundle.config["process"]["user"]["uid"]
    assert (done.code, done.out) == (0, f"ran as {user}\n"), done.err

    with open(folder / "out", "w") as out:
        created = runtime("create", "--bundle", bundle.path, "two", stdout=out)
    assert created.code == 0, created.err
    assert runtime("start", "two").code == 0
    until = time.monotonic() + 30
    while runtime.state("two")["status"] != "stopped" and time.monotonic() < until:
        time.sleep(0.01)
    assert runtime("delete", "two").code == 0
    assert (folder / "out").read_text() == f"ran as {user}\n"
    after = traces(runtime.root)
    assert (after.cgroups, after.mounts, after.inits) == (before.cgroups, before.mounts, before.inits)


def test_there_are_sixty() -> None:
    assert len(CONFIGS) == 60
