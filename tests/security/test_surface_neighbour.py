"""What ocirt puts beside the processes of a container cannot be taken over by them.

CVE-2016-9962: a process that `exec` brings into a container's pid namespace could be traced there, and its descriptors
used, before it had become the program. The attacker is neighbour.c: it goes for every ocirt-init that it meets.

Three things protect. A container without CAP_SYS_PTRACE has no right to look into a process with more capabilities.
With a user namespace of its own it has no rights over ours; there, and for whatever else has the same user, ours
says that it may not be looked into (PR_SET_DUMPABLE, plan/enter.py, hide). And where neither helps, which is with
CAP_SYS_PTRACE and no user namespace, nothing of the host's is in it (plan/enter.py, _enter_unseen;
docs/threat-model.md says what is left).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime.life import wait_until
from support import CACHE, OCIRT, Bundle, Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root
EXECS = int(os.environ.get("RACES", "100"))
DOCKERS = (
    *"CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP".split(),
    *"CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE".split(),
)
FIRST = 100000


def with_rights(bundle: Bundle, names: tuple[str, ...]) -> None:
    sets = ("bounding", "permitted", "effective")
    bundle.config["process"]["capabilities"] = {kind: list(names) for kind in sets}


def with_user_namespace(bundle: Bundle) -> None:
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        linux[name] = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
    for path in [bundle.rootfs, *bundle.rootfs.rglob("*")]:
        os.chown(path, FIRST, FIRST, follow_symlinks=False)
    for parent in bundle.rootfs.parents:  # open to whom its root is on the host
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(0o711)


@contextmanager
def attacked(runtime: Runtime, bundle: Bundle, program: Path) -> Iterator[list[str]]:
    """The container c, in which the attacker runs until the block ends; then the list has what it says."""
    witness = bundle.path / "witness"
    witness.touch()
    shutil.copy(program, bundle.rootfs / "bin/neighbour")
    bundle.config["root"]["readonly"] = False
    (bundle.rootfs / "tmp").chmod(0o1777)
    bundle.config["process"]["args"] = ["/bin/neighbour", "/tmp/ready", "/tmp/stop", str(witness)]
    bundle.write()
    found: list[str] = []
    with subprocess.Popen(
        [OCIRT, "--root", runtime.root, "run", "-b", bundle.path, "c"],
        env={"OCIRT_CACHE": CACHE},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until((bundle.rootfs / "tmp/ready").exists)
            yield found
            (bundle.rootfs / "tmp/stop").touch()
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 0
            found += out.splitlines()
        finally:
            runtime("delete", "--force", "c")
            process.kill()


def execs(runtime: Runtime, bundle: Bundle, count: int = EXECS) -> None:
    """With the bundle as our working directory, as engines have it, and so that of init at first."""
    for _ in range(count):
        done = runtime("exec", "c", "/bin/true", cwd=bundle.path)
        assert (done.code, done.err) == (0, "")


def met(found: list[str]) -> set[str]:
    """What it says, but for how often it met one: which has to be at least once, or all of it says nothing."""
    assert int(found[-1].removeprefix("seen ")) > 0
    return set(found[:-1])


@pytest.mark.parametrize("rights", ["default", "docker's", "all in a user namespace"])
def test_cve_2016_9962_an_exec_cannot_be_looked_into(
    runtime: Runtime, bundle: Bundle, attacker: Callable[[str], Path], rights: str
) -> None:
    """Without PR_SET_DUMPABLE in plan/enter.py, hide, `verify` refuses the plan (enter-hidden); and without that, the
    attacker gets memory, descriptors and all else of it once it has dropped its rights to the container's own, and in a
    user namespace, whose root it becomes, its working directory and executable."""
    if rights == "docker's":
        with_rights(bundle, DOCKERS)
    elif rights != "default":
        with_rights(bundle, (*DOCKERS, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"))
        with_user_namespace(bundle)
    with attacked(runtime, bundle, attacker("neighbour.c")) as found:
        execs(runtime, bundle, EXECS if rights == "docker's" else EXECS // 3)
    assert met(found) == set()


def test_cve_2016_9962_with_cap_sys_ptrace_nothing_of_the_host_is_in_an_exec(
    runtime: Runtime, bundle: Bundle, attacker: Callable[[str], Path]
) -> None:
    """The kernel lets it look; there is nothing of the host to see. As ocirt was before (the clone into the pid
    namespace first, all else after it), it says "host root" and "host cwd" in most of the execs, and could have
    gone there."""
    with_rights(bundle, (*DOCKERS, "CAP_SYS_PTRACE"))
    with attacked(runtime, bundle, attacker("neighbour.c")) as found:
        execs(runtime, bundle)
    assert [line for line in met(found) if line.startswith("host ")] == []


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_container_that_is_made_in_the_same_pid_namespace_cannot_be_looked_into(
    runtime: Runtime, bundle: Bundle, attacker: Callable[[str], Path], verb: str
) -> None:
    """As in a pod that shares its processes: each of the next containers is beside the attacker from its clone on,
    with the host's root until it pivots."""
    with_rights(bundle, DOCKERS)
    with attacked(runtime, bundle, attacker("neighbour.c")) as found:
        pid = runtime.state("c")["pid"]
        second = bundle.path / "second"
        second.mkdir()
        config = Bundle(second, {**bundle.config, "root": {"path": "../rootfs"}})
        others = [one for one in bundle.config["linux"]["namespaces"] if one["type"] != "pid"]
        namespaces = [*others, {"type": "pid", "path": f"/proc/{pid}/ns/pid"}]
        config.config["linux"] = {**bundle.config["linux"], "namespaces": namespaces}
        config.config["process"] = {**bundle.config["process"], "args": ["/bin/true"]}
        config.write()
        for number in range(EXECS // 4):
            done = runtime(verb, "-b", second, f"n{number}", cwd=bundle.path)
            assert (done.code, done.err) == (0, "")
            if verb == "create":
                assert runtime("delete", "--force", f"n{number}").code == 0
    assert met(found) == set()
