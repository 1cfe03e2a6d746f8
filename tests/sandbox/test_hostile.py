"""Programs that want out, or want too much: none gets it, and nothing is left of any of them (conftest)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt import sandbox
from ocirt.errors import KernelError
from tests.support import make_rootfs

pytestmark = pytest.mark.root

PATIENCE = 120
"""Seconds for what would go on for ever if it worked."""


def python(program: str, **keywords: object) -> sandbox.Result:
    return sandbox.run(["python3", "-I", "-c", program], **{"timeout": PATIENCE, **keywords})


def sh(script: str, **keywords: object) -> sandbox.Result:
    return sandbox.run(["sh", "-c", script], **{"timeout": PATIENCE, **keywords})


def test_a_fork_bomb() -> None:
    program = """
import os
made = 0
while True:
    try:
        if os.fork() == 0:
            os.read(os.pipe()[0], 1)
        made += 1
    except BlockingIOError:
        print(made)
        break
"""
    result = python(program, pids=20)
    assert (result.returncode, result.stdout) == (0, b"19\n"), result.stderr


def test_a_memory_hog() -> None:
    result = python("x = [bytearray(b'x') * (1 << 20) for _ in range(1000)]", memory="48M")
    assert (result.returncode, result.oom_killed, result.timed_out) == (-9, True, False)


def test_a_writable_layer_counts_as_memory() -> None:
    result = sh("head -c 200000000 /dev/zero > /var/big", memory="48M")
    assert result.returncode != 0


def test_output_without_end() -> None:
    result = sh("yes 2>/dev/null | head -c 30000000; echo done >&2", max_output=1000)
    assert (len(result.stdout), result.stderr, result.truncated) == (1000, b"done\n", True)


@pytest.mark.parametrize("program", ["trap '' TERM INT HUP; while :; do :; done", "sleep 1000 & sleep 1000"])
def test_a_timeout_kills_whatever_it_ignores(program: str) -> None:
    result = sh(program, timeout=0.3)
    assert (result.returncode, result.timed_out) == (-9, True)


def test_a_daemon_ends_with_the_program() -> None:
    """It has the output open, and is in a session of its own."""
    result = sh("setsid sleep 1000 & echo started; exit 4")
    assert (result.returncode, result.stdout, result.timed_out) == (4, b"started\n", False)


def test_killing_everything_reaches_nobody_outside() -> None:
    result = sh("sleep 1000 & kill -9 -1; echo still here")
    assert result.stdout == b"still here\n"
    result = python("import os; print(sorted(int(one) for one in os.listdir('/proc') if one.isdigit()))")
    assert result.stdout == b"[1]\n"


def test_secrets_of_the_host() -> None:
    assert sh("cat /etc/shadow; cat /etc/gshadow").stdout == b""
    result = sh("ls /root /home /run /var/lib /var/log /srv /sys /boot /mnt")
    listed = [line for line in result.stdout.decode().splitlines() if line and not line.endswith(":")]
    assert listed == []


def test_calls_that_change_the_kernel_are_refused_and_named() -> None:
    program = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def refused(result):
    assert result == -1 and ctypes.get_errno() == errno.EPERM, ctypes.get_errno()
refused(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))
refused(libc.umount2(b"/proc", 2))
refused(libc.unshare(0x10000000))
refused(libc.ptrace(16, 1, 0, 0))
refused(libc.ptrace(16, 1, 0, 0))
refused(libc.pivot_root(b".", b"."))
refused(libc.reboot(0))
refused(libc.sethostname(b"x", 1))
refused(libc.setns(0, 0))
refused(libc.socket(16, 3, 0))
for family in (38, 40, 17, 29, 30):  # AF_ALG (CVE-2026-31431), AF_VSOCK, AF_PACKET, AF_CAN, AF_TIPC
    for kind in (1, 2, 3, 5, 5 | 0x80000):
        refused(libc.socket(family, kind, 0))
    refused(libc.socketpair(family, 1, 0, (ctypes.c_int * 2)()))
assert libc.socketpair(1, 1, 0, (ctypes.c_int * 2)()) == 0
refused(libc.personality(0x0400000))
refused(libc.ioctl(0, 0x5412, b"x"))
"""
    result = python(program)
    assert result.returncode == 0, result.stderr
    expected = "mount umount2 unshare pivot_root reboot sethostname setns personality ioctl"
    assert result.denied_syscalls == {
        **dict.fromkeys(expected.split(), 1),
        "ptrace": 2,
        "socket": 26,
        "socketpair": 5,
    }


def test_refused_calls_without_end() -> None:
    """The keeper answers a number of them, then the kernel does."""
    program = """
import ctypes
libc = ctypes.CDLL(None)
for _ in range(12_000):
    assert libc.unshare(0) == -1
"""
    result = python(program)
    assert result.returncode == 0, result.stderr
    assert 10_000 <= result.denied_syscalls["unshare"] <= 12_000


def test_capabilities_and_privileges() -> None:
    result = sh("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")
    values = dict(line.split(":\t") for line in result.stdout.decode().splitlines())
    assert {int(value, 16) for name, value in values.items() if name.startswith("Cap")} == {0}
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")


def test_its_root_is_nobody_on_the_host(tmp_path: Path) -> None:
    result = sh("cat /proc/self/uid_map")
    assert result.stdout.split() == [b"0", b"1900000000", b"65536"]
    tmp_path.chmod(0o755)
    (tmp_path / "mine").write_text("x")
    (tmp_path / "mine").chmod(0o600)
    assert sh("cat /data/mine", binds=[f"{tmp_path}:/data"]).returncode != 0


def test_what_the_kernel_shows_is_readonly_or_hidden() -> None:
    script = """
for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /etc/passwd; do
    if echo x > $file; then echo $file is writable; fi
done
cat /proc/kcore /proc/keys /etc/machine-id
"""
    assert sh(script).stdout == b""


def test_devices() -> None:
    script = "for name in /dev/*; do test -b $name && echo $name; done; mknod /tmp/mem c 1 1 && echo made"
    assert sh(script).stdout == b""


def test_the_network_is_not_there_unless_asked() -> None:
    import socket

    program = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", int(sys.stdin.read())), 30).close()
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert b"connected" not in python(program, stdin=port).stdout
        assert b"connected" in python(program, stdin=port, network=True).stdout


def test_symlinks_in_a_root_file_system_lead_nowhere_else(tmp_path: Path) -> None:
    rootfs = make_rootfs(tmp_path / "rootfs")
    outside = tmp_path / "outside"
    outside.mkdir()
    (rootfs / "trap").symlink_to(outside)
    (rootfs / "up").symlink_to("../../../../../..")
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "file").write_text("text")
    for destination in ("/trap/in", f"/up{outside}/in"):
        result = sh(f"cat {destination}/file", rootfs=rootfs, binds=[f"{tmp_path}/shown:{destination}"])
        assert (result.returncode, result.stdout) == (0, b"text"), result.stderr
        assert os.listdir(outside) == []
    (rootfs / "tmp").rmdir()
    (rootfs / "tmp").symlink_to(outside)
    with pytest.raises(KernelError, match="symbolic links"):
        sh("echo x > /tmp/x", rootfs=rootfs)
    assert os.listdir(outside) == []


def test_no_descriptor_of_ours_is_in_it() -> None:
    result = python("import os; print(sorted(os.listdir('/proc/self/fd')), os.listdir('/proc/1/fd'))")
    assert result.stdout.split(b"]")[0] == b"['0', '1', '2', '3'"
