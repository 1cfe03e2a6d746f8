"""What runtimes say of a program that cannot be started, and docker's exit codes for it."""

from __future__ import annotations

import pytest

from ocirt.manager.monitor.monitor import failure_code, with_reason


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('exec: "nothing": executable file not found in $PATH', 127),
        ('exec: "/nothing": stat /nothing: no such file or directory', 127),
        ('exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory', 127),
        ('exec: "/etc/passwd": permission denied', 126),
        ('exec: "/etc": is a directory', 126),
        ('exec: "/etc": is a directory: permission denied', 126),
        ("mount tmpfs on /x: Invalid argument", 128),
    ],
)
def test_exit_codes(said: str, code: int) -> None:
    assert failure_code(with_reason(said)) == code


def test_only_what_says_no_reason_is_added_to() -> None:
    assert with_reason('exec: "/etc": is a directory') == 'exec: "/etc": is a directory: permission denied'
    for said in ('"/etc": is a directory: permission denied', '"/x": not a directory', "no such file or directory"):
        assert with_reason(said) == said
