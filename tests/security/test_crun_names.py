"""Names that become paths: ids, cgroup paths, cgroups below a container's, and annotations.

crun hardened these without a CVE: no slash in a name (1.20), ids of certain letters only, no ".." in
run.oci.delegate-cgroup, no way out by a sub-cgroup (1.28, 1.29).
"""

from __future__ import annotations

import os
import posixpath
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import Bundle, Runtime, cgroup_folders, default_config, tree_of

from ocirt.cgroups.below import below
from ocirt.cgroups.layout import Layout, Mounted
from ocirt.cgroups.manager import Cgroups
from ocirt.cgroups.systemd.unit import unit_for
from ocirt.config.check import check_meaning
from ocirt.config.read import Config
from ocirt.errors import ConfigError, Error, UsageError
from ocirt.state.store import check_id

LETTERS = frozenset(string.ascii_letters + string.digits + "_+-.")
PIECES = st.sampled_from(["..", ".", "/", "a", "b", "-", "", ":", "\\", "\0", "\n", " ", "é", "%", "+", "cgroup.procs"])
PATHS = st.one_of(st.text(max_size=20), st.lists(PIECES, max_size=9).map("".join), st.lists(PIECES).map("/".join))
NASTY = (
    "..",
    ".",
    "",
    "/",
    "a/b",
    "../a",
    "a/../b",
    ".a",
    "a\n",
    "a b",
    "é",
    "a\\b",
    "a:b",
    "a%2e",
    "x" * 256,
    "\x1b[2J",
    "a;b",
)


# Container ids


@given(PATHS)
@example("a" * 255)
@example("a" * 256)
@example("-")
def test_crun_1_28_an_id_is_one_file_name_of_plain_letters(name: str) -> None:
    """With `return` as the first line of state/store.py, check_id, every text is an id; ".." is the state root's
    parent."""
    right = 0 < len(name) <= 255 and LETTERS.issuperset(name) and not name.startswith(".")
    try:
        check_id(name)
    except UsageError:
        assert not right
    else:
        assert right
        assert posixpath.normpath(f"/root/{name}") == f"/root/{name}"


@pytest.mark.root
def test_crun_1_20_no_verb_takes_a_path_for_an_id(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """Not even where there is something: with check_id as above, `delete --force ../victim` removes the folder, as
    if it were a container's that was never finished."""
    runtime.root.mkdir()
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "state.json").write_text("{}")
    before, cgroups = tree_of(tmp_path), cgroup_folders()
    for name in (*NASTY, "../victim", str(victim), "../../" * 20 + "tmp"):
        for words in (
            ("create", "-b", bundle.path, "--", name),
            ("run", "-b", bundle.path, "--", name),
            *((verb, "--", name) for verb in ("start", "state", "ps", "pause", "resume", "delete")),
            ("delete", "--force", "--", name),
            ("kill", "--", name, "KILL"),
            ("exec", "--", name, "true"),
            ("update", "--pids-limit", "5", "--", name),
        ):
            done = runtime(*words)
            # What is no id has no container, and `delete --force` is content with that.
            assert (done.code == 0) == (words[1] == "--force"), (words, done)
            assert done.err.count("\n") == (done.code != 0), (words, done)
            assert "\x1b" not in done.err
    assert (tree_of(tmp_path), cgroup_folders()) == (before, cgroups)


# The path of a container's cgroup


def cgroups_of(path: str) -> Cgroups:
    """Where a configuration with this path has its cgroups, on a host with v1 and v2. Raises ConfigError."""
    spec = default_config()
    spec["linux"]["cgroupsPath"] = path
    check_meaning(Config(spec, "", "/bundle"))
    hierarchies = [
        Mounted("pids", ("pids",), "/sys/fs/cgroup/pids", "/own/place", v2=False),
        Mounted("unified", (), "/sys/fs/cgroup/unified", "/own/place", v2=True),
    ]
    return Cgroups.for_container(Layout(hierarchies, pure_v2=False), path, "c")


@given(PATHS)
@example("/../../../tmp")
@example("../..")
@example("a/../../../b")
@example("/..")
def test_crun_1_28_a_cgroups_path_stays_below_where_it_counts_from(path: str) -> None:
    """Without the check of ".." in config/check.py "/../../../tmp" is a folder on the host."""
    try:
        places = cgroups_of(path).places
    except ConfigError as error:
        assert error.pointer == "/linux/cgroupsPath"
        return
    for name, _, _, mount, folder in places:
        base = mount if path.startswith("/") else f"{mount}/own"
        assert posixpath.normpath(folder) == folder.rstrip("/"), name
        assert f"{folder}/".startswith(f"{base}/")


@given(PATHS)
@example("a:..:b")
@example("..:a:b")
@example("system.slice:../..:x")
@example("-.slice:a:..")
def test_crun_1_28_a_unit_of_systemds_has_a_folder_below_its_slice(path: str) -> None:
    """Without _check(unit) in cgroups/systemd/unit.py "system.slice:../..:x" is /system.slice/../..-x.scope."""
    try:
        unit = unit_for(path, "c", user=False)
    except ConfigError as error:
        assert error.pointer == "/linux/cgroupsPath"
        return
    assert posixpath.normpath(unit.folder) == unit.folder
    assert not {"", ".", ".."} & set(unit.folder.split("/")[1:])
    assert not {"\0", "\n", "/"} & set(unit.name)


@pytest.mark.root
@pytest.mark.parametrize("path", ["/../../../../{out}", "../../../..{out}", "a/../../..{out}", "/..", ".."])
def test_crun_1_28_no_folder_is_made_outside_of_the_hierarchies(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, path: str
) -> None:
    """Without the same check the folder is made where the path leads, and removed again: it has no cgroup.procs."""
    bundle.config["linux"]["cgroupsPath"] = path.format(out=tmp_path / "out")
    before = cgroup_folders()
    done = runtime.sh(bundle, "true")
    assert done.code == 1
    assert '/linux/cgroupsPath: ".." has no place in a cgroup path' in done.err
    assert not (tmp_path / "out").exists()
    assert cgroup_folders() == before


# Cgroups below the container's: exec --cgroup


@given(PATHS, st.sampled_from(["", "pids:", "pids,cpu:", "nothing:", ":"]))
@example("../..", "pids:")
@example("sub/../../../../etc", "")
def test_crun_1_29_a_cgroup_of_an_exec_is_below_the_containers(path: str, controllers: str) -> None:
    """Without the check of ".." in cgroups/below.py "pids:../.." is the folder above the container's; of a path
    with more of them, any folder of the host that has a cgroup.procs."""
    own = [
        ("pids", ("pids", "cpu"), False, "/sys/fs/cgroup/pids", "/proc/self"),  # what exists, for the check of that
        ("unified", (), True, "/sys/fs/cgroup/unified", "/proc/self"),
    ]
    try:
        places = below(Cgroups(own), [controllers + path]).places
    except Error:
        return
    for (_, _, _, _, folder), (_, _, _, _, before) in zip(places, own, strict=True):
        assert f"{posixpath.normpath(folder)}/".startswith(f"{before}/")


@pytest.mark.root
def test_crun_1_29_an_exec_cannot_be_put_above_its_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    assert runtime("run", "-d", "-b", bundle.path, "c").code == 0
    try:
        names = [
            line.split(":")[1].removeprefix("name=") for line in Path("/proc/self/cgroup").read_text().splitlines()
        ]
        for name in names:
            for path in ("..", "../..", "a/../..", "/..", "./.."):
                done = runtime("exec", "--cgroup", f"{name}:{path}" if name else path, "c", "/bin/true")
                assert (done.code, '".." has no place' in done.err) == (255, True), done
    finally:
        runtime("delete", "--force", "c")


# Annotations of crun's, which a pod's author may have written

ANNOTATIONS = (
    *("run.oci.delegate-cgroup", "run.oci.systemd.subgroup", "run.oci.systemd.force_cgroup_v1", "run.oci.handler"),
    *(
        "run.oci.keep_original_groups",
        "run.oci.seccomp.receiver",
        "run.oci.seccomp.plugins",
        "run.oci.seccomp_bpf_data",
    ),
    *("run.oci.timens_offset", "run.oci.mount_context_type", "module.wasm.image/variant", "org.criu.config"),
    *("run.oci.hooks.stdout", "run.oci.hooks.stderr", "run.oci.pidfd_receiver"),
)


def owners(folders: set[str]) -> dict[str, tuple[int, int, int]]:
    """Of each cgroup and its files: who may change it. What ends meanwhile does not count."""
    found = {}
    for folder in folders:
        for path in (folder, f"{folder}/cgroup.procs", f"{folder}/cgroup.subtree_control"):
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            found[path] = status.st_uid, status.st_gid, status.st_mode
    return found


@pytest.mark.root
@pytest.mark.parametrize("name", ANNOTATIONS)
def test_crun_1_28_dots_in_an_annotation_lead_nowhere(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, name: str
) -> None:
    """run.oci.delegate-cgroup handed a cgroup of that name to the container. ocirt knows few of these, and none is
    a path of a cgroup."""
    (tmp_path / "out").mkdir()
    before, cgroups = tree_of(tmp_path / "out"), cgroup_folders()
    rights = owners(cgroups)
    for value in ("../../../..", f"../../../../..{tmp_path}/out/x", "..", "/.."):
        config: dict[str, Any] = bundle.config
        config["annotations"] = {name: value}
        done = runtime.sh(bundle, "grep -c . /proc/self/cgroup; (touch /sys/fs/cgroup/x) 2>/dev/null; true")
        assert done.code == 0 or f"/annotations/{name}" in done.err, done
        assert tree_of(tmp_path / "out") == before
        assert cgroup_folders() == cgroups
        assert owners(cgroups) == rights
