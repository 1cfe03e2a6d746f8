"""The Python side of init/wire.h: the plan's layout and the messages about it.

The drawing is in the header; tests/plan/test_wire.py compares the two.
"""

from _struct import Struct

MAGIC = 0x4E414C5054524943
VERSION = 1

OP_CALL = 1
OP_CLONE = 2
OP_SYNC = 3
OP_SENDFD = 4
OP_LOAD = 5
OP_EXPECT = 6
OP_CHANNEL = 7
OP_WAIT = 8

KIND_IMM = 0
KIND_DATA = 1
KIND_REG = 2

ARGS = 6
ERRNOS = 4
REGISTERS = 240
NO_REGISTER = 255
MAX_STEPS = 16384
MAX_PLAN = 16 << 20
MAX_MESSAGE = 8192
MAX_LOG = 512

FLAG_FSLOG = 1

HEADER = Struct("<QIIIIIIIIIII12x")
STEP = Struct("<BBHHH4sHBxQQQQQQ")
SLOT = Struct("<II")

MSG_PID = 1
MSG_SYNC = 2
MSG_FD = 3
MSG_ERROR = 4
MSG_GO = 5

MESSAGE = Struct("<IIiI")  # kind, step, value, length
REPLY = Struct("<II")  # kind, patches
PATCH = Struct("<II")  # at, length
