"""What a container's processes can reach of the host: no interpreter, no library and no descriptor of its.

They look at themselves, at a first process that waits for `start`, and at a program that takes the place of ours
(CVE-2019-5736: a container's /proc/self/exe was the runtime's file on the host).
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from launchers import build_launcher
from support import OCIRT, Bundle, Runtime, command

import ocirt

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
ITSELF = """
readlink /proc/self/exe
echo maps; cut -d' ' -f6- /proc/self/maps | tr -d ' ' | grep -v '^$' | sort -u
echo fd; for f in /proc/self/fd/*; do echo "${f##*/} $(readlink $f)"; done
echo links; readlink /proc/self/cwd; readlink /proc/self/root
echo end
"""
APPLETS = ("readlink", "cut", "tr", "sort", "dd", "chmod", "cp")


@pytest.fixture
def tools(bundle: Bundle) -> Bundle:
    """A bundle with some more of busybox's programs, whose root can be written to."""
    for name in APPLETS:
        (bundle.rootfs / "bin" / name).symlink_to("busybox")
    bundle.config["root"]["readonly"] = False
    (bundle.rootfs / "tmp").chmod(0o1777)
    return bundle


def sections(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line in ("maps", "fd", "links", "end"):
            lines = found.setdefault(line, [])
        else:
            lines.append(line)
    return found


def check_itself(text: str) -> None:
    """Its executable and all that is mapped are the image's; its descriptors are 0, 1 and 2."""
    exe, *_ = text.splitlines()
    found = sections(text)
    assert exe == "/bin/busybox"
    assert {name for name in found["maps"] if not name.startswith("[")} == {"/bin/busybox"}
    numbers = {line.split()[0]: line.split()[1:] for line in found["fd"]}
    own = {
        number for number, target in numbers.items() if target == ["/proc/1/fd"] or not target
    }  # the shell's own look
    assert set(numbers) - own <= {"0", "1", "2"}, numbers
    assert found["links"] == ["/", "/"]


def test_a_program_has_nothing_of_the_hosts(runtime: Runtime, tools: Bundle) -> None:
    """Without the last close_range (plan/process.py, close_descriptors) and `verify` the socket to ocirt is there
    too."""
    done = runtime.sh(tools, ITSELF)
    assert done.code == 0, done.err
    check_itself(done.out)


def test_an_exec_has_nothing_of_the_hosts(runtime: Runtime, tools: Bundle) -> None:
    """The same is seen."""
    tools.config["process"]["args"] = ["/bin/sleep", "1000"]
    tools.write()
    try:
        assert runtime("run", "--detach", "-b", tools.path, "c").code == 0
        done = runtime("exec", "c", "/bin/sh", "-c", ITSELF)
        assert done.code == 0, done.err
        check_itself(done.out)
    finally:
        runtime("delete", "--force", "c")


# A first process that waits for `start`

LOOKING = """
for f in exe root cwd ns/mnt; do readlink /proc/1/$f 2>/dev/null && echo "got $f"; done
for f in maps environ auxv syscall mem stack; do
    head -c 1 /proc/1/$f >/tmp/out 2>/dev/null && test -s /tmp/out && echo "got $f"
done
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12; do
    readlink /proc/1/fd/$n 2>/dev/null && echo "got fd/$n"
    test -e /proc/1/fd/$n && echo "got fd/$n"
    test -e /proc/1/fd/$n/.. && echo "got fd/$n/.."
    test -e /proc/1/fd/$n/../../../../../../../..{witness} && echo "host"
done
for f in /proc/1/map_files/*; do test -e $f && echo "got $f"; done
(echo > /proc/1/exe) 2>/dev/null && echo "wrote to exe"
cp /proc/1/exe /tmp/init 2>/dev/null && echo "copied exe"
test -e /proc/1/root{witness} && echo "host"
test -e /proc/1/cwd/{name} && echo "host"
echo looked
"""


@pytest.fixture
def created(runtime: Runtime, tools: Bundle) -> Iterator[Bundle]:
    """The container c, which waits for `start`."""
    tools.config["process"]["args"] = ["/bin/sleep", "1000"]
    yield tools
    runtime("delete", "--force", "c")


def looked(runtime: Runtime, bundle: Bundle, *flags: str) -> list[str]:
    """What an exec sees of the first process before `start`; which can be started all the same."""
    witness = bundle.path / "witness"
    witness.touch()
    assert runtime("create", "-b", bundle.write().path, "c", cwd=bundle.path).code == 0
    assert Path(os.readlink(f"/proc/{runtime.state('c')['pid']}/exe")).name.startswith("memfd:ocirt-init")
    done = runtime("exec", *flags, "c", "/bin/sh", "-c", LOOKING.format(witness=witness, name=witness.name))
    assert done.code == 0, done.err
    assert runtime.state("c")["status"] == "created"
    assert runtime("start", "c").code == 0
    lines = done.out.splitlines()
    assert lines[-1] == "looked"
    return lines[:-1]


@pytest.mark.parametrize("user", ["0:0", "1000:1000"])
def test_a_waiting_init_shows_nothing_to_an_exec(runtime: Runtime, created: Bundle, user: str) -> None:
    """Without namespaces.hide in plan/compile.py it sees, as the same user, exe, root, maps, and the start FIFO as
    fd/4."""
    uid, gid = user.split(":")
    created.config["process"]["user"] = {"uid": int(uid), "gid": int(gid)}
    assert looked(runtime, created, "-u", user) == []


def test_a_waiting_init_has_nothing_of_the_host_even_for_cap_sys_ptrace(runtime: Runtime, created: Bundle) -> None:
    """What is seen then: ocirt-init in a sealed memfd, the caller's stdin, stdout and stderr, the FIFO that `start`
    reads (a file, from which no path leads on), and a procfs of the container's own pid namespace. Nothing else of
    the host is mapped or open, which the assertions say one by one."""
    names = [*created.config["process"]["capabilities"]["bounding"], "CAP_SYS_PTRACE"]
    created.config["process"]["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective"), names)
    seen = looked(runtime, created)
    targets = {line for line in seen if not line.startswith("got ")}
    assert "got exe" in seen, "it could look"
    assert not {"host", "wrote to exe"} & targets
    open_files = {
        path for path in targets if path.startswith("/") and not path.startswith(("/memfd:ocirt-init", "/dev/"))
    }
    # stdout of `create` is a file of the tests' own, which the caller hands to the container.
    others = {path for path in open_files if path != "/" and not path.endswith("/start") and " (deleted)" not in path}
    assert others == set()
    folders = [line for line in seen if line.startswith("got fd") and line.endswith("/..")]
    assert len(folders) <= 1, "that is the procfs, whose root has nothing above it"


# A program of the image that is a link to /proc/self/exe, or an interpreter line with it


def files_of_ours() -> dict[str, str]:
    """All that runs of us on the host: the executable, the package, the interpreter and its libraries → SHA-256."""
    package = Path(ocirt.__file__).parent
    interpreter = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    libraries = command("ldd", interpreter).out.split() + command("ldd", OCIRT).out.split()
    paths = [Path(OCIRT), interpreter, *(Path(word) for word in libraries if word.startswith("/"))]
    paths += [path for path in package.rglob("*") if path.suffix in (".py", ".so", ".bin") or path.name == "ocirt-init"]
    assert len(paths) > 100
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


WRITE = """#!/bin/sh
# each second argument is a way to a file that is perhaps not the container's
for f in /proc/self/exe /proc/1/exe /proc/$PPID/exe; do
    (echo overwritten > $f) 2>/dev/null && echo "wrote $(readlink $f)" >> /tmp/wrote
    (dd if=/bin/busybox of=$f bs=64 count=1 conv=notrunc) 2>/dev/null && echo "wrote $(readlink $f)" >> /tmp/wrote
done
exit 0
"""


@pytest.fixture(params=["installed", "launcher"])
def executable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The executable with Python in it, and the one that starts python3 -I -S."""
    return Path(OCIRT) if request.param == "installed" else build_launcher(tmp_path / "launcher")


@pytest.mark.parametrize("trick", ["link", "interpreter line", "relative link", "loader"])
def test_cve_2019_5736_a_program_that_is_proc_self_exe_never_is_ours(
    tools: Bundle, tmp_path: Path, executable: Path, trick: str
) -> None:
    """What execve(2) finds there is ocirt-init's sealed memfd: it is executed once more, in the container, without
    the plan, and ends with 125; and in it nothing can be overwritten. With a file of the host in its place
    (host/launch.py, spawn: posix_spawn of the installed init/ocirt-init instead of the memfd) that file is
    overwritten."""
    before = files_of_ours()
    program = tools.rootfs / "bin/program"
    if trick == "interpreter line":
        program.write_text("#!/proc/self/exe\n")
        program.chmod(0o755)
    elif trick == "loader":
        program.write_text("#!/bin/sh /proc/self/exe\n")
        program.chmod(0o755)
    else:
        program.symlink_to("/proc/self/exe" if trick == "link" else "../proc/self/exe")
    writer = tools.rootfs / "bin/writer"
    writer.write_text(WRITE)
    writer.chmod(0o755)
    root = tmp_path / "state"
    tools.config["process"]["args"] = ["/bin/program"]
    done = command(executable, "--root", root, "run", "-b", tools.write().path, "p")
    assert done.code not in (0, 255), done
    tools.config["process"]["args"] = ["/bin/sh", "-c", "/bin/writer; while true; do sleep 1; done"]
    command(executable, "--root", root, "run", "-d", "-b", tools.write().path, "c")
    try:
        for _ in range(3):
            assert command(executable, "--root", root, "exec", "c", "/bin/program").code != 0
            assert command(executable, "--root", root, "exec", "c", "/bin/writer").code == 0
    finally:
        command(executable, "--root", root, "delete", "--force", "c")
    assert not (tools.rootfs / "tmp/wrote").exists()
    assert files_of_ours() == before


def test_cve_2019_5736_the_image_s_own_files_named_like_ours_are_not_loaded(runtime: Runtime, tools: Bundle) -> None:
    """libseccomp, Python's library and the loader of the image: nothing of it is executed by ocirt on the host
    (docker's CVE-2019-14271 was of this kind). They are no programs at all, so whoever loaded one would fail."""
    for name in (
        *("lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libseccomp.so.2"),
        *(
            "usr/lib/python3.11/os.py",
            "usr/lib/python3.11/encodings/__init__.py",
            "usr/bin/python3",
            "etc/ld.so.preload",
        ),
        *(
            "usr/bin/newuidmap",
            "lib/x86_64-linux-gnu/libnss_files.so.2",
            "etc/nsswitch.conf",
            "usr/lib/ocirt/__init__.py",
        ),
    ):
        path = tools.rootfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('the image is executed')\n")
        path.chmod(0o755)
    tools.config["process"]["args"] = ["/bin/sleep", "1000"]
    tools.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    tools.write()
    own_cache = {"OCIRT_CACHE": str(tools.path / "cache")}  # so that the filter is compiled
    try:
        for words in (
            ("create", "-b", tools.path, "c"),
            ("start", "c"),
            ("exec", "c", "/bin/true"),
            ("ps", "c"),
            ("state", "c"),
            ("delete", "--force", "c"),
        ):
            done = runtime(*words, cwd=tools.rootfs, env=own_cache)
            assert (done.code, "executed" in done.err) == (0, False), (words, done)
    finally:
        runtime("delete", "--force", "c")
