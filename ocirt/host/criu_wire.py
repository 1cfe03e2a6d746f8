"""The messages of CRIU's RPC (its images/rpc.proto; protobuf's wire format): as much of them as is needed here.

A message is a dict by the names that rpc.proto gives its fields; what is repeated is a list. Fields that no table names
are skipped when they are read, as protobuf has it, so a newer CRIU may say more.
"""

from __future__ import annotations

from ocirt.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeAlias

    Fields: TypeAlias = Mapping[str, tuple[int, Any]]

NUMBER, BOOL, TEXT = "number", "bool", "text"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types (protobuf's "Encoding"): what follows a field's key."""

DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION, SINGLE_PRE_DUMP = 1, 2, 4, 6, 9, 10, 13
"""criu_req_type: what is asked for, and what an answer is about."""
CGROUP_MODES = {"ignore": 0, "none": 1, "props": 2, "soft": 3, "full": 4, "strict": 5}
"""criu_cg_mode: what a user calls it → its number."""
NETWORK_LOCKS = {"iptables": 1, "nftables": 2, "skip": 3}
"""criu_network_lock_method."""

_PAGE_SERVER: Fields = {"address": (1, TEXT), "port": (2, NUMBER)}
_JOIN: Fields = {"ns": (1, TEXT), "ns_file": (2, TEXT)}
_INHERIT: Fields = {"key": (1, TEXT), "fd": (2, NUMBER)}
_CGROUP_ROOT: Fields = {"ctrl": (1, TEXT), "path": (2, TEXT)}
OPTIONS: Fields = {
    "images_dir_fd": (1, NUMBER),
    "pid": (2, NUMBER),
    "leave_running": (3, BOOL),
    "ext_unix_sk": (4, BOOL),
    "tcp_established": (5, BOOL),
    "evasive_devices": (6, BOOL),
    "shell_job": (7, BOOL),
    "file_locks": (8, BOOL),
    "log_level": (9, NUMBER),
    "log_file": (10, TEXT),
    "ps": (11, _PAGE_SERVER),
    "notify_scripts": (12, BOOL),
    "root": (13, TEXT),
    "parent_img": (14, TEXT),
    "track_mem": (15, BOOL),
    "auto_dedup": (16, BOOL),
    "work_dir_fd": (17, NUMBER),
    "link_remap": (18, BOOL),
    "cg_root": (25, _CGROUP_ROOT),
    "rst_sibling": (26, BOOL),
    "inherit_fd": (27, _INHERIT),
    "manage_cgroups_mode": (34, NUMBER),
    "external": (37, TEXT),
    "empty_ns": (38, NUMBER),
    "join_ns": (39, _JOIN),
    "cgroup_dump_controller": (43, TEXT),
    "freeze_cgroup": (44, TEXT),
    "tcp_skip_in_flight": (46, BOOL),
    "lazy_pages": (48, BOOL),
    "orphan_pts_master": (50, BOOL),
    "config_file": (51, TEXT),
    "tcp_close": (52, BOOL),
    "lsm_profile": (53, TEXT),
    "lsm_mount_context": (63, TEXT),
    "network_lock": (64, NUMBER),
}
"""criu_opts."""
FEATURES: Fields = {"mem_track": (1, BOOL), "lazy_pages": (2, BOOL)}
REQUEST: Fields = {
    "type": (1, NUMBER),
    "opts": (2, OPTIONS),
    "notify_success": (3, BOOL),
    "features": (5, FEATURES),
}
RESPONSE: Fields = {
    "type": (1, NUMBER),
    "success": (2, BOOL),
    "restore": (4, {"pid": (1, NUMBER)}),
    "notify": (5, {"script": (1, TEXT), "pid": (2, NUMBER)}),
    "cr_errno": (7, NUMBER),
    "features": (8, FEATURES),
    "cr_errmsg": (9, TEXT),
    "version": (10, {"major_number": (1, NUMBER), "minor_number": (2, NUMBER), "sublevel": (4, NUMBER)}),
}


def encode(message: Mapping[str, Any], fields: Fields = REQUEST) -> bytes:
    """A field whose value is None is left out."""
    parts = []
    for name, value in message.items():
        number, kind = fields[name]
        for one in value if isinstance(value, list) else [value]:
            if one is None:
                continue
            if kind in (NUMBER, BOOL):
                parts.append(varint(number << 3 | _VARINT) + varint(int(one)))
            else:
                # A path may hold any bytes but 0.
                content = one.encode("utf-8", "surrogateescape") if kind == TEXT else encode(one, kind)
                parts.append(varint(number << 3 | _BYTES) + varint(len(content)) + content)
    return b"".join(parts)


def varint(value: int) -> bytes:
    """A negative int32 is sent as 64 bits (protobuf's "Encoding")."""
    value &= 2**64 - 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def decode(content: bytes, fields: Fields = RESPONSE) -> dict[str, Any]:
    """Raises Error for what is no message."""
    names = {number: (name, kind) for name, (number, kind) in fields.items()}
    message: dict[str, Any] = {}
    at = 0
    try:
        while at < len(content):
            key, at = read_varint(content, at)
            wire = key & 7
            value: int | bytes
            if wire == _VARINT:
                value, at = read_varint(content, at)
            elif wire == _BYTES:
                size, at = read_varint(content, at)
                value, at = content[at : at + size], at + size
            elif wire in (_FIXED32, _FIXED64):
                size = 4 if wire == _FIXED32 else 8
                value, at = content[at : at + size], at + size
            else:
                raise IndexError
            if at > len(content):
                raise IndexError
            if key >> 3 in names:
                name, kind = names[key >> 3]
                message[name] = _meant(value, kind)
    except (IndexError, TypeError):
        raise Error("criu has sent something unknown", hint="is it CRIU?") from None
    return message


def read_varint(content: bytes, at: int) -> tuple[int, int]:
    """(the number at `at`, where it ends). Raises IndexError if there is no end."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _meant(value: int | bytes, kind: Any) -> Any:
    """Raises TypeError if it is of another wire type."""
    if kind in (NUMBER, BOOL):
        if not isinstance(value, int):
            raise TypeError
        number = value & 0xFFFFFFFF
        return bool(value) if kind == BOOL else number - 2**32 if number >= 2**31 else number
    if not isinstance(value, bytes):
        raise TypeError
    return value.decode("utf-8", "replace") if kind == TEXT else decode(value, kind)
