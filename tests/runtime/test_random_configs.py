"""500 random valid configurations compile and verify, and some of them run; whatever they ask for, nothing is left."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

import pytest
from random_configs import FIRST, has, random_config
from support import Runtime, make_rootfs, traces

from ocirt.config.load import load
from ocirt.runtime.explain import prepare

pytestmark = pytest.mark.root

COUNT = 500
RUNS = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles, of root and of the mapped root of a user namespace, with what the configurations refer to."""
    folder = tmp_path_factory.mktemp("random")
    for parent in (folder, folder.parent):
        parent.chmod(0o755)
    for owner in (0, FIRST):
        bundle = folder / str(owner)
        make_rootfs(bundle / "rootfs")
        (bundle / "sources" / "folder").mkdir(parents=True)
        (bundle / "sources" / "file").write_text("file\n")
        for path, folders, files in os.walk(bundle):
            for name in [".", *folders, *files]:
                os.chown(os.path.join(path, name), owner, owner, follow_symlinks=False)
    return folder


def write(place: Path, seed: int) -> Path:
    spec = random_config(Random(seed))
    bundle = place / str(FIRST if has(spec, "user") else 0)
    (bundle / "config.json").write_text(json.dumps(spec, indent=1))
    return bundle


def test_they_compile_and_verify(place: Path) -> None:
    for seed in range(COUNT):
        bundle = write(place, seed)
        try:
            prepared = prepare(load(str(bundle)))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}\n{(bundle / 'config.json').read_text()}") from error
        assert prepared.size > 1000


@pytest.mark.parametrize("seed", range(RUNS))
def test_it_runs_and_leaves_nothing(runtime: Runtime, place: Path, seed: int) -> None:
    bundle = write(place, seed)
    before = traces(runtime.root)
    done = runtime("run", "--bundle", bundle, f"random-{seed}")
    assert done.code == 0, f"{done.err}\n{(bundle / 'config.json').read_text()}"
    after = traces(runtime.root)
    assert (after.cgroups, after.mounts, after.inits) == (before.cgroups, before.mounts, before.inits)
    assert not any(runtime.root.glob("*"))
