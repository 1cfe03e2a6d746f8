"""What a seccomp filter's listener says: calls that wait for an answer (seccomp_unotify(2))."""

from __future__ import annotations

import ctypes
import struct
from fcntl import ioctl

from ocirt.host.seccomp import library

NOTIF_RECV, NOTIF_SEND, NOTIF_ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_NOTIF = struct.Struct("<QIi64s")  # id, pid (here: of the thread), flags, then struct seccomp_data
_DATA = struct.Struct("<iIQ6Q")  # number, architecture, instruction pointer, arguments
_ANSWER = struct.Struct("<QqiI")  # id, value, error, flags


class Notice:
    """One call that waits. thread: its number in our pid namespace; data: struct seccomp_data as it is."""

    __slots__ = ("architecture", "args", "cookie", "data", "number", "thread")

    def __init__(self, content: bytes) -> None:
        self.cookie, _, _, self.data = _NOTIF.unpack(content)
        self.thread: int = struct.unpack_from("<I", content, 8)[0]
        number, self.architecture, _, *self.args = _DATA.unpack(self.data)
        self.number: int = number


def next_notice(listener: int) -> Notice | None:
    """Waits for one. None: who asked has been killed meanwhile."""
    content = bytearray(_NOTIF.size)
    try:
        ioctl(listener, NOTIF_RECV, content)
    except FileNotFoundError:
        return None
    return Notice(bytes(content))


def answer(listener: int, notice: Notice, errno: int) -> bool:
    """The call fails with errno; 0: it returns 0 without having happened. False: who asked is gone."""
    try:
        ioctl(listener, NOTIF_SEND, _ANSWER.pack(notice.cookie, 0, -errno, 0))
    except FileNotFoundError:
        return False
    return True


def is_waiting(listener: int, notice: Notice) -> bool:
    """Is it still that very thread that waits?"""
    try:
        ioctl(listener, NOTIF_ID_VALID, struct.pack("<Q", notice.cookie))
    except FileNotFoundError:
        return False
    return True


def name_of(architecture: int, number: int) -> str:
    """The call's name on an architecture (libseccomp's token); "" if libseccomp knows none."""
    resolve = library().seccomp_syscall_resolve_num_arch
    resolve.restype = ctypes.c_void_p
    resolve.argtypes = (ctypes.c_uint32, ctypes.c_int)
    free = ctypes.CDLL(None).free
    free.argtypes = (ctypes.c_void_p,)
    text = resolve(architecture, number)
    name = ctypes.string_at(text).decode() if text else ""
    free(text)
    return name
