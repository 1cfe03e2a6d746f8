"""Capabilities as youki once gave them out: inheritable ones to an exec, and a bounding set that nobody had limited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from security.rights import SHOW, SOME, begin, capabilities
from support import Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
SETS = ("bounding", "permitted", "effective")


@pytest.fixture
def container(runtime: Runtime, bundle: Bundle) -> Iterator[Runtime]:
    """The container c, with some capabilities, of which none is inheritable."""
    bundle.config["process"]["capabilities"] = {key: list(SOME) for key in SETS}
    yield from begin(runtime, bundle)


def exec_object(runtime: Runtime, file: Path, **process: Any) -> dict[str, int]:
    """The capabilities of `exec --process`."""
    file.write_text(json.dumps({"args": SHOW, "cwd": "/", "user": {"uid": 0, "gid": 0}, **process}))
    return capabilities(runtime("exec", "--process", file, "c"))


@pytest.mark.parametrize("named", [("CAP_CHOWN",), ("CAP_SYS_PTRACE", "CAP_KILL"), ()], ids=" ".join)
@pytest.mark.parametrize("uid", [0, 1000])
def test_cve_2025_27612_a_process_object_gets_no_inheritable_capability_that_it_does_not_name(
    container: Runtime, tmp_path: Path, named: tuple[str, ...], uid: int
) -> None:
    """youki's builder of an exec's process put all of them into the inheritable set too. With _granted(scope,
    "permitted", …) for "inheritable" in plan/credentials.py, set_capabilities, CapInh is what CapPrm is."""
    user = {"uid": uid, "gid": uid}
    found = exec_object(container, tmp_path / "p", user=user, capabilities={key: list(named) for key in SETS})
    assert (found["CapInh"], found["CapAmb"]) == (0, 0)
    if uid == 0:
        assert bool(found["CapPrm"]) == bool(named)


def test_cve_2025_27612_without_capabilities_in_the_object_they_are_the_containers_and_none_is_inheritable(
    container: Runtime, tmp_path: Path
) -> None:
    """The same is seen."""
    found = exec_object(container, tmp_path / "p")
    own = capabilities(container("exec", "c", *SHOW))
    assert found == own
    assert (found["CapInh"], found["CapAmb"]) == (0, 0)
    assert found["CapPrm"] and found["CapBnd"]


@pytest.mark.parametrize("absent", ["absent", "null", "empty", "no bounding set"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_youki_3434_without_capabilities_in_the_configuration_the_bounding_set_is_empty(
    runtime: Runtime, bundle: Bundle, absent: str, uid: int
) -> None:
    """youki#3434, mended by #3554: it left the caller's. Without credentials.drop_bounding in plan/scope.py,
    drop_rights, and without `verify`, CapBnd is 0x1ffffffffff."""
    process = bundle.config["process"]
    process["user"] = {"uid": uid, "gid": uid}
    process["capabilities"] = {"null": None, "empty": {}}.get(absent, {"effective": [], "permitted": []})
    if absent == "absent":
        del process["capabilities"]
    assert set(capabilities(runtime.sh(bundle, " ".join(SHOW))).values()) == {0}


def test_youki_3434_in_an_exec_too(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """Of a container that has none: nothing comes back by saying less. (The same is seen.)"""
    del bundle.config["process"]["capabilities"]
    for one in begin(runtime, bundle):
        assert set(capabilities(one("exec", "c", *SHOW)).values()) == {0}
        assert set(exec_object(one, tmp_path / "p").values()) == {0}
        assert set(exec_object(one, tmp_path / "p", capabilities={}).values()) == {0}


def test_youki_3434_a_setuid_program_and_one_with_capabilities_get_none(runtime: Runtime, bundle: Bundle) -> None:
    """What an empty bounding set is for: with the caller's, a setuid root program of the image has them all."""
    del bundle.config["process"]["capabilities"]
    bundle.config["process"]["noNewPrivileges"] = False
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    (bundle.rootfs / "bin/busybox").chmod(0o4755)
    found = capabilities(runtime.sh(bundle, " ".join(SHOW)))
    assert set(found.values()) == {0}
