"""cgroups.ebpf: the program decides as the rules say. It is run by an interpreter that is written here from bpf(2).

The rules' meaning is evaluated independently: of each letter of a request, the last rule for this device that names the
letter decides, and without one it is denied.
"""

from __future__ import annotations

from itertools import combinations, pairwise, product
from struct import iter_unpack

from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt.cgroups.ebpf import merged, program
from ocirt.cgroups.rules import ANY, DEFAULTS, Rule

M64, M32 = (1 << 64) - 1, (1 << 32) - 1
TYPES = {"b": 1, "c": 2}
LETTERS = {"m": 1, "r": 2, "w": 4}
REQUESTS = ["".join(letters) for size in (1, 2, 3) for letters in combinations("rwm", size)]
NUMBERS = [0, 1, 3, 5, 136, 255, 4095, (1 << 31) - 1, 1 << 31, M32]

numbers = st.sampled_from([ANY, *NUMBERS])
rules_of_one = st.builds(
    Rule, st.booleans(), st.sampled_from("bc"), numbers, numbers, st.sampled_from(REQUESTS)
) | st.builds(Rule, st.booleans(), st.just("a"), st.just(ANY), st.just(ANY), st.just("rwm"))
rule_lists = st.lists(rules_of_one, max_size=8)
accesses = st.tuples(st.sampled_from("bc"), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))


class Rejected(Exception):
    """The kernel's verifier would not load the program."""


def instructions(code: bytes) -> list[tuple[int, int, int, int, int]]:
    """(opcode, to, from, jump, immediate)"""
    return [
        (opcode, registers & 15, registers >> 4, jump, value)
        for opcode, registers, jump, value in iter_unpack("<BBhi", code)
    ]


def execute(code: bytes, context: bytes) -> int:
    """The value of r0 at exit; r1 points at the context (here: address 0)."""
    registers: dict[int, int] = {1: 0}
    steps = instructions(code)
    at = 0
    while True:
        opcode, to, source, jump, value = steps[at]
        at += 1
        if opcode == 0x95:
            return registers[0]
        if opcode == 0x61:
            place = registers[source] + jump
            assert registers[source] == 0, "only the context may be read"
            assert place % 4 == 0 and place + 4 <= len(context)
            registers[to] = int.from_bytes(context[place : place + 4], "little")
        elif opcode == 0xBF:
            registers[to] = registers[source]
        elif opcode == 0xB7:
            registers[to] = value & M64
        elif opcode == 0x54:
            registers[to] = registers[to] & value & M32
        elif opcode == 0x74:
            registers[to] = (registers[to] & M32) >> value
        elif opcode == 0x55:
            at += jump if registers[to] != value & M64 else 0
        elif opcode == 0x56:
            at += jump if registers[to] & M32 != value & M32 else 0
        elif opcode == 0x15:
            at += jump if registers[to] == value & M64 else 0
        elif opcode == 0x5D:
            at += jump if registers[to] != registers[source] else 0
        else:
            raise AssertionError(f"an instruction that bpf(2) does not have: {opcode:#x}")


def runs(code: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """The program's answer (struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor)."""
    wanted = sum(LETTERS[letter] for letter in access) << 16 | TYPES[kind]
    context = b"".join(number.to_bytes(4, "little") for number in (wanted, major, minor))
    result = execute(code, context)
    assert result in (0, 1)
    return bool(result)


def is_for(rule: Rule, kind: str, major: int, minor: int) -> bool:
    return rule.type in ("a", kind) and rule.major in (ANY, major) and rule.minor in (ANY, minor)


def letter_allowed(rules: list[Rule], kind: str, major: int, minor: int, letter: str) -> bool:
    for rule in reversed(rules):
        if is_for(rule, kind, major, minor) and letter in rule.access:
            return rule.allow
    return False


def one_rule_allows(rules: list[Rule], kind: str, major: int, minor: int, access: str) -> bool:
    """What the kernel's v1 does: one rule has to allow all of a request, and none after it may deny any of it."""
    for rule in reversed(rules):
        if is_for(rule, kind, major, minor):
            if rule.allow and set(access) <= set(rule.access):
                return True
            if not rule.allow and set(access) & set(rule.access):
                return False
    return False


@settings(max_examples=500)
@given(rule_lists, accesses)
def test_each_letter_is_decided_by_the_last_rule_that_names_it(rules: list[Rule], device: tuple[str, int, int]) -> None:
    code = program(rules)
    for letter in "rwm":
        assert runs(code, *device, letter) == letter_allowed(rules, *device, letter)


@settings(max_examples=500)
@given(rule_lists, accesses, st.sampled_from(REQUESTS))
def test_a_request_of_several_letters_gets_no_more_than_each_and_no_less_than_one_rule_gives(
    rules: list[Rule], device: tuple[str, int, int], access: str
) -> None:
    answer = runs(program(rules), *device, access)
    if answer:
        assert all(letter_allowed(rules, *device, letter) for letter in access)
    if one_rule_allows(rules, *device, access):
        assert answer


@settings(max_examples=500)
@given(rule_lists, accesses)
def test_merging_changes_no_answer(rules: list[Rule], device: tuple[str, int, int]) -> None:
    fewer = merged(rules)
    assert len(fewer) <= len(rules)
    for letter in "rwm":
        assert letter_allowed(fewer, *device, letter) == letter_allowed(rules, *device, letter)


@given(rule_lists)
def test_without_a_rule_everything_is_denied(rules: list[Rule]) -> None:
    code = program([Rule(False, rule.type, rule.major, rule.minor, rule.access) for rule in rules])
    for kind, number, access in product("bc", (0, 3, M32), REQUESTS):
        assert not runs(code, kind, number, number, access)


def test_the_defaults_allow_what_a_container_needs_and_no_disk() -> None:
    code = program(list(DEFAULTS))
    assert runs(code, "c", 1, 3, "rw")
    assert runs(code, "c", 136, 7, "rwm")
    assert runs(code, "b", 8, 0, "m")
    assert not runs(code, "b", 8, 0, "r")
    assert not runs(code, "c", 10, 229, "r")


@given(rule_lists)
def test_the_kernels_verifier_finds_nothing_wrong(rules: list[Rule]) -> None:
    """Every jump goes forward into the program, every instruction can be reached, no register is read before it is set,
    and every way ends in exit with a result."""
    steps = instructions(program(rules))
    set_at: dict[int, frozenset[int]] = {0: frozenset([1])}
    for at, (opcode, to, source, jump, _) in enumerate(steps):
        assert at in set_at, f"instruction {at} is out of reach"
        known = set_at[at]
        following = [at + 1]
        if opcode == 0x95:
            assert 0 in known
            following = []
        elif opcode in (0x55, 0x56, 0x15, 0x5D):
            assert to in known and (opcode != 0x5D or source in known)
            assert jump > 0
            following = [at + 1, at + 1 + jump]
        else:
            reads = {0x61: {source}, 0xBF: {source}, 0xB7: set(), 0x54: {to}, 0x74: {to}}[opcode]
            assert reads <= known
            known = known | {to}
        for after in following:
            assert after < len(steps), "the program's end has no exit"
            set_at[after] = set_at.get(after, known) & known


def test_a_program_grows_by_few_instructions_a_rule() -> None:
    """The kernel takes a million instructions, of which each start of a program may have 4096."""
    sizes = [len(program([Rule(True, "c", number, 1, "r") for number in range(count)])) // 8 for count in (0, 100, 200)]
    assert {later - earlier for earlier, later in pairwise(sizes)} == {800}
