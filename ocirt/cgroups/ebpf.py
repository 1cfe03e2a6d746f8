"""Device rules for cgroup v2: one BPF_PROG_TYPE_CGROUP_DEVICE program (bpf(2), linux/bpf.h).

The program looks at the rules from the last to the first; the first that matches decides, and without one access is
denied. An allow rule matches if it has all of the requested access, a deny rule if it has any of it.
"""

from __future__ import annotations

from _struct import pack

from ocirt.cgroups.rules import ANY, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR
_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_ALL = 7

# Opcodes: class | size or operation | source
_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE = 0xBF  # BPF_ALU64 | BPF_MOV | BPF_X
_MOVE_IMMEDIATE = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_AND_IMMEDIATE = 0x54  # BPF_ALU | BPF_AND | BPF_K, 32 bits
_SHIFT_RIGHT = 0x74  # BPF_ALU | BPF_RSH | BPF_K, 32 bits
_JUMP_NOT_EQUAL = 0x56  # BPF_JMP32 | BPF_JNE | BPF_K: 64 bits would extend the sign of a large device number
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_NOT_EQUAL_REGISTER = 0x5D  # BPF_JMP | BPF_JNE | BPF_X
_EXIT = 0x95

_SCRATCH, _TYPE, _REQUEST, _MAJOR, _MINOR = 1, 2, 3, 4, 5


def _instruction(code: int, to: int = 0, source: int = 0, jump: int = 0, value: int = 0) -> bytes:
    if value >= 1 << 31:
        value -= 1 << 32
    return pack("<BBhi", code, source << 4 | to, jump, value)


def merged(rules: Sequence[Rule]) -> list[Rule]:
    """The same meaning with fewer rules: what comes before a rule for everything never counts, and allow rules for
    one device are one rule, unless a deny rule stands between them."""
    result: list[Rule] = []
    for rule in rules:
        if rule.everything:
            result = [rule] if rule.allow else []
            continue
        same = None
        for earlier in reversed(result):
            if not (rule.allow and earlier.allow):
                break
            if (earlier.type, earlier.major, earlier.minor) == (rule.type, rule.major, rule.minor):
                same = earlier
                break
        if same is None:
            result.append(rule)
        else:
            access = "".join(letter for letter in "rwm" if letter in same.access + rule.access)
            result[result.index(same)] = Rule(True, rule.type, rule.major, rule.minor, access)
    return result


def program(rules: Sequence[Rule]) -> bytes:
    """The program's instructions, 8 bytes each."""
    code = [
        _instruction(_LOAD_WORD, _TYPE, 1, 0),  # struct bpf_cgroup_dev_ctx: access_type, major, minor
        _instruction(_AND_IMMEDIATE, _TYPE, value=0xFFFF),
        _instruction(_LOAD_WORD, _REQUEST, 1, 0),
        _instruction(_SHIFT_RIGHT, _REQUEST, value=16),
        _instruction(_LOAD_WORD, _MAJOR, 1, 4),
        _instruction(_LOAD_WORD, _MINOR, 1, 8),
    ]
    kept = merged(rules)
    for rule in reversed(kept):
        code += _block(rule)
    if not kept or not kept[0].everything:  # after a rule for everything it would be out of reach: EINVAL
        code += [_instruction(_MOVE_IMMEDIATE, 0, value=0), _instruction(_EXIT)]
    return b"".join(code)


def _block(rule: Rule) -> list[bytes]:
    """The tests of one rule; each goes to the block's end when it does not match."""
    tests: list[tuple[int, int, int, int]] = []  # code, register, source, value
    if rule.type != "a":
        tests.append((_JUMP_NOT_EQUAL, _TYPE, 0, _TYPES[rule.type]))
    if rule.major != ANY:
        tests.append((_JUMP_NOT_EQUAL, _MAJOR, 0, rule.major))
    if rule.minor != ANY:
        tests.append((_JUMP_NOT_EQUAL, _MINOR, 0, rule.minor))
    access = sum(_ACCESS[letter] for letter in rule.access)
    if access != _ALL:
        tests.append((_MOVE, _SCRATCH, _REQUEST, 0))
        tests.append((_AND_IMMEDIATE, _SCRATCH, 0, access))
        if rule.allow:
            tests.append((_JUMP_NOT_EQUAL_REGISTER, _SCRATCH, _REQUEST, 0))
        else:
            tests.append((_JUMP_EQUAL, _SCRATCH, 0, 0))
    block = []
    for place, (code, register, source, value) in enumerate(tests):
        jumps = code in (_JUMP_NOT_EQUAL, _JUMP_EQUAL, _JUMP_NOT_EQUAL_REGISTER)
        block.append(_instruction(code, register, source, len(tests) - place + 1 if jumps else 0, value))
    return [*block, _instruction(_MOVE_IMMEDIATE, 0, value=int(rule.allow)), _instruction(_EXIT)]
