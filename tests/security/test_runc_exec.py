"""`exec`, and what a process has of who made it: users by number, descriptors, the working directory, capabilities."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runtime.life import Life
from runtime.test_namespaces import in_user_namespace
from security.attacks import ROUNDS, Hunted
from support import OCIRT, Bundle, Done, Runtime, command

from ocirt.runtime.spec import default_spec

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root


@pytest.fixture
def running(life: Life) -> Life:
    life.reach("running")
    return life


# Users


@pytest.mark.parametrize(
    ("user", "expected"), [("1000", "1000 0"), ("1000:1000", "1000 1000"), ("01000", "1000 0"), ("4294967294", None)]
)
def test_cve_2016_3697_a_number_is_no_name(life: Life, user: str, expected: str | None) -> None:
    """There are users of these names in the image's passwd, who are root. (It was CVE-2016-3697's; CVE-2026-30892 of
    crun's is the number that becomes another one.)"""
    names = ("1000", "01000", "4294967294", "0x1", "one")
    for kind in ("passwd", "group"):
        entry = ":x:0:0:::/bin/sh\n" if kind == "passwd" else ":x:0:\n"
        (life.bundle.rootfs / "etc" / kind).write_text("".join(name + entry for name in names))
    life.reach("running")
    done = life("exec", "--user", user, "c", "sh", "-c", "grep -E '^(Uid|Gid)' /proc/self/status")
    assert done.code == 0, done.err
    uid, gid = (line.split()[1:] for line in done.out.splitlines())
    wanted = expected or f"{user} 0"
    assert (set(uid), set(gid)) == ({wanted.split()[0]}, {wanted.split()[1]})


@pytest.mark.parametrize("user", ["one", "0x1", "1000:one", "-1", "4294967295", "4294967296", "+0", " 0", "1e3", ""])
def test_cve_2016_3697_a_name_is_refused(running: Life, user: str) -> None:
    (running.bundle.rootfs / "etc/passwd").write_text("one:x:0:0::/:/bin/sh\n0x1:x:0:0::/:/bin/sh\n")
    done = running("exec", f"--user={user}", "c", "sh", "-c", "id -u")
    if user:
        assert (done.code, done.out) == (255, "")
        assert "--user" in done.err
        assert done.err.count("\n") == 1
    else:  # as if there was no flag
        assert (done.code, done.out) == (0, "0\n")


# Descriptors and the working directory


def as_leaking(folder: Path) -> dict[str, Any]:
    """Options of `command`: 3 to 20 are open on a folder of the host, and inherited, as an engine once left them."""

    def leak() -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for number in range(3, 21):
            os.dup2(fd, number, inheritable=True)

    return {"preexec_fn": leak, "close_fds": False}


WHERE = "pwd -P; cd ../../../../../../../..; echo *; for fd in /proc/self/fd/*; do echo ${fd##*/}; done"


def inside_or_refused(done: Done, number: int) -> None:
    if done.code == 0:  # one of init's own: the container's root, its /dev, or a file's folder in it
        place, listed, *descriptors = done.out.splitlines()
        assert place in ("/", "/dev"), (number, done)
        assert "inside" in listed.split(), (number, done)
        assert "ptmx" not in listed, (number, done)
        assert descriptors == ["0", "1", "2", "3"], (number, done)  # 3 is the shell's own, of the folder
    else:
        assert done.err.count("\n") == 1
        assert "/process/cwd" in done.err or "--cwd" in done.err, (number, done)


def test_cve_2024_21626_a_working_directory_in_a_descriptor(runtime: Runtime, bundle: Bundle, host: Path) -> None:
    (bundle.rootfs / "inside").touch()
    for number in range(3, 65):
        bundle.config["process"]["cwd"] = f"/proc/self/fd/{number}"
        inside_or_refused(runtime.sh(bundle, WHERE, f"cwd-{number}", **as_leaking(host)), number)


def test_cve_2024_21626_a_working_directory_of_exec_in_a_descriptor(running: Life, host: Path) -> None:
    (running.bundle.rootfs / "inside").touch()
    for number in range(3, 65):
        to_exec = ("exec", "--cwd", f"/proc/self/fd/{number}", "c", "sh", "-c", WHERE)
        inside_or_refused(running.runtime(*to_exec, **as_leaking(host)), number)


def test_cve_2024_21626_a_working_directory_through_a_link_of_the_image(
    runtime: Runtime, bundle: Bundle, host: Path
) -> None:
    (bundle.rootfs / "inside").touch()
    for number in range(3, 12):
        (bundle.rootfs / "out").unlink(missing_ok=True)
        (bundle.rootfs / "out").symlink_to(f"/proc/self/fd/{number}")
        bundle.config["process"]["cwd"] = "/out"
        inside_or_refused(runtime.sh(bundle, WHERE, f"cwd-{number}", **as_leaking(host)), number)


def test_cve_2024_21626_what_waits_for_start_holds_nothing_of_the_host(
    runtime: Runtime, bundle: Bundle, host: Path
) -> None:
    assert runtime("create", "-b", bundle.write().path, "c", **as_leaking(host)).code == 0
    try:
        folder = Path(f"/proc/{runtime.state('c')['pid']}")
        targets = [os.readlink(path) for path in (folder / "fd").iterdir()]
        assert str(host) not in targets
        assert os.readlink(folder / "cwd") == "/"
    finally:
        runtime("delete", "--force", "c")


# Who looks


@pytest.mark.parametrize("namespace", ["no user namespace", "a user namespace"])
def test_cve_2016_9962_what_enters_cannot_be_looked_into(
    bundle: Bundle, hunt: Callable[[Path], Hunted], namespace: str
) -> None:
    """fd_hunter.c goes for each ocirt-init that it sees: in a user namespace with all rights that there are. Neither
    its descriptors nor its executable can be opened, nor can it be traced."""
    if namespace == "a user namespace":
        in_user_namespace(bundle)
        names = ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SETUID"]
        bundle.config["process"]["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective"), names)
        for parent in bundle.rootfs.parents:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(0o711)
    hunted = hunt(Path(OCIRT))
    for _ in range(ROUNDS):
        done = hunted("exec", "c", "true")
        assert (done.code, done.err) == (0, "")
    assert hunted.lines() == {"ready"}


# Capabilities


def inheritable(done: Done) -> set[int]:
    assert done.code == 0, done.err
    found = dict(line.split() for line in done.out.splitlines())
    return {int(found["CapInh:"], 16), int(found["CapAmb:"], 16)}


SHOW = ("grep", "-E", "^Cap", "/proc/self/status")


def test_cve_2022_29162_no_capability_is_inheritable(running: Life, tmp_path: Path) -> None:
    """Also CVE-2022-24769, CVE-2022-27649, CVE-2022-27650, CVE-2022-27651, CVE-2022-27652 (engines, crun): the image's
    files could make more of such ones. Those of `run` and `create` are the configuration's, and that of
    `ocirt spec` has none; a configuration that lists some means it."""
    sets = default_spec()["process"]["capabilities"]
    assert set(sets) == {"bounding", "effective", "permitted"}
    assert inheritable(running("exec", "c", *SHOW)) == {0}
    for name in ("CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_KILL"):
        assert inheritable(running("exec", "--cap", name, "c", *SHOW)) == {0}
        assert inheritable(running("exec", "--cap", name, "--user", "1000:1000", "c", *SHOW)) == {0}
    process = {"args": list(SHOW), "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]}
    for capabilities in (None, {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}):
        process["capabilities"] = capabilities or {}
        (tmp_path / "process.json").write_text(json.dumps(process))
        assert inheritable(running("exec", "--process", tmp_path / "process.json", "c")) == {0}


def test_cve_2022_29162_those_of_the_caller_do_not_go_on(runtime: Runtime, bundle: Bundle) -> None:
    """Called with inheritable and ambient capabilities, as from a service that has them."""
    bundle.config["process"]["args"] = ["/bin/grep", "^Cap", "/proc/self/status"]
    bundle.write()
    caller = ["setpriv", "--inh-caps=+net_raw,+kill", "--ambient-caps=+net_raw,+kill"]
    run = [OCIRT, "--root", runtime.root, "run", "-b", bundle.path, "c"]
    assert inheritable(command(*caller, *run, env={"PATH": "/usr/bin:/bin"})) == {0}
