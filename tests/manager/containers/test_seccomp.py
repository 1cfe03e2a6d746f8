"""The default profile, and profiles of docker's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocirt.manager.containers import confinement, seccomp
from ocirt.manager.containers.flags import options
from ocirt.manager.errors import DocumentError, LimitError, ManagerError


def allowed(found: dict[str, Any]) -> set[str]:
    """What is allowed whatever the arguments."""
    return {
        name
        for rule in found["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
        for name in rule["names"]
    }


def default(*more: str, machine: str = "x86_64") -> dict[str, Any]:
    return seccomp.resolve(seccomp.default(), (*confinement.DEFAULT, *more), machine)


DANGEROUS = (
    "mount umount2 unshare setns clone3 bpf perf_event_open init_module finit_module delete_module kexec_load"
    " kexec_file_load reboot swapon swapoff pivot_root keyctl add_key request_key userfaultfd io_uring_setup"
    " io_uring_enter io_uring_register open_by_handle_at settimeofday clock_settime acct quotactl iopl ioperm"
    " nfsservctl uselib ustat sysfs kcmp move_pages fsopen fsmount move_mount open_tree mount_setattr lookup_dcookie"
    " syslog vm86 socket socketcall clone personality"
).split()


def test_what_is_not_allowed_without_more() -> None:
    found = default()
    assert found["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not allowed(found) & set(DANGEROUS)
    assert {"read", "execve", "ptrace", "futex", "clone", "chroot"} - allowed(found) == {"clone"}


@pytest.mark.parametrize(
    ("capability", "calls"),
    [
        ("CAP_SYS_ADMIN", "mount unshare setns clone clone3 bpf fsopen sethostname"),
        ("CAP_SYS_MODULE", "init_module finit_module delete_module"),
        ("CAP_SYS_TIME", "settimeofday clock_settime"),
        ("CAP_SYS_RAWIO", "iopl ioperm"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_NICE", "mbind move_pages"),
        ("CAP_SYSLOG", "syslog"),
    ],
)
def test_a_capability_brings_its_calls(capability: str, calls: str) -> None:
    wanted = set(calls.split())
    assert wanted <= allowed(default(capability)) - allowed(default())


def test_sockets() -> None:
    """All families but two: AF_ALG is 38, AF_VSOCK is 40."""
    rules = [rule["args"] for rule in default()["syscalls"] if rule["names"] == ["socket"]]
    compare = {"SCMP_CMP_LT": int.__lt__, "SCMP_CMP_EQ": int.__eq__, "SCMP_CMP_GT": int.__gt__}

    def may(family: int) -> bool:
        return any(all(compare[one["op"]](family, one["value"]) for one in args) for args in rules)

    assert [family for family in range(60) if not may(family)] == [38, 40]


def test_architectures() -> None:
    assert default()["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert default(machine="aarch64")["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert "modify_ldt" in allowed(default())
    assert "modify_ldt" not in allowed(default(machine="aarch64"))


def test_no_name_is_there_twice_for_no_reason() -> None:
    names = [
        name
        for rule in seccomp.default()["syscalls"]
        if "args" not in rule and "includes" not in rule and "excludes" not in rule
        for name in rule["names"]
    ]
    assert len(names) == len(set(names))


def test_a_profile_from_a_file(tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": None,
        "syscalls": [
            {"name": "chmod", "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": None, "comment": "x"},
            {"names": ["chown"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["fchown"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "4.8"}},
            {"names": ["lchown"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}},
            {"names": ["link"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["unlink"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["s390x"]}},
        ],
    }
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile))
    found = options({"security_opt": (f"seccomp={path}",)}, {})
    assert confinement.filter_of(found.host, confinement.DEFAULT) == {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"names": ["fchown"], "action": "SCMP_ACT_ERRNO"},
        ],
    }


RULE = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "x", "includes": %s}]}'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "defaultAction"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}', "listenerPath"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "more": 1}', "'more'"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}', "syscalls"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"]}]}', "action"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "x"}]}', "name"),
        (RULE % '{"minKernel": "x"}', "minKernel"),
        (RULE % '{"cpu": 1}', "'cpu'"),
    ],
)  # fmt: skip
def test_profiles_that_make_no_sense(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(DocumentError, match=word):
        options({"security_opt": (f"seccomp={tmp_path / 'p'}",)}, {})


def test_a_profile_that_is_too_large_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManagerError, match="--security-opt seccomp="):
        options({"security_opt": (f"seccomp={tmp_path / 'none'}",)}, {})
    (tmp_path / "p").write_bytes(b" " * (5 << 20))
    with pytest.raises((LimitError, DocumentError)):
        options({"security_opt": (f"seccomp={tmp_path / 'p'}",)}, {})


def test_who_is_confined() -> None:
    def of(**values: Any) -> dict[str, Any] | None:
        return confinement.filter_of(options(values, {}).host, confinement.DEFAULT)

    assert of() == default()
    assert of(security_opt=("seccomp=builtin",)) == default()
    assert of(security_opt=("seccomp=unconfined",)) is None
    assert of(privileged=True) is None
