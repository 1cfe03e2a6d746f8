"""Which of the security modules that a configuration can name are enabled on this host."""

from __future__ import annotations

import posix


def security_modules() -> tuple[str, ...]:
    """AppArmor's own parameter says so; selinuxfs has a status only while SELinux runs."""
    found = []
    if _begins("/sys/module/apparmor/parameters/enabled", b"Y"):
        found.append("apparmor")
    if _begins("/sys/fs/selinux/enforce", b""):
        found.append("selinux")
    return tuple(found)


def _begins(path: str, content: bytes) -> bool:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False  # the kernel has no such module
    try:
        return posix.read(fd, 16).startswith(content)
    finally:
        posix.close(fd)
