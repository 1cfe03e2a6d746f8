"""init/wire.h and plan/wire.py are two drawings of one wire: they are compared name by name and byte by byte."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from struct import Struct

import pytest
from support import REPOSITORY

from ocirt.plan import wire

HEADER = REPOSITORY / "ocirt" / "init" / "wire.h"
STRUCTS = {
    "header": wire.HEADER,
    "step": wire.STEP,
    "slot": wire.SLOT,
    "message": wire.MESSAGE,
    "reply": wire.REPLY,
    "patch": wire.PATCH,
}
"""C's struct → Python's. Where C has `reserved`, Python has padding."""
PYTHON_NAMES = {"WIRE_MAGIC": "MAGIC", "WIRE_VERSION": "VERSION"}
SIZES = {"u8": 1, "u16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8}
LETTERS = {"u8": "B", "u16": "H", "u32": "I", "i32": "i", "u64": "Q", "i64": "q"}


def source() -> str:
    """The header without its comments."""
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)


def c_constants() -> dict[str, int]:
    found = {
        name: int(value.removesuffix("ULL"), 0)
        for name, value in re.findall(r"^#define (\w+) (0x[0-9a-f]+ULL|\d+)\s*$", source(), re.MULTILINE)
    }
    for body in re.findall(r"enum \{(.*?)\};", source(), re.DOTALL):
        for entry in body.split(","):
            if entry.strip():
                name, _, value = entry.partition("=")
                low, _, shift = value.strip().partition(" << ")
                found[name.strip()] = int(low, 0) << int(shift or 0)
    return found


def c_fields(struct: str) -> list[tuple[str, str, int]]:
    """(type, name, how many) of each field."""
    match = re.search(rf"struct {struct} \{{(.*?)\n\}};", source(), re.DOTALL)
    assert match, f"wire.h has no struct {struct}"
    found = []
    for kind, name, count in re.findall(r"(\w+) (\w+)(?:\[(\w+)\])?;", match[1]):
        number = c_constants()[count] if count and not count.isdigit() else int(count or 1)
        found.append((kind, name, number))
    return found


def c_format(struct: str) -> str:
    """The format of Python's struct module that C's fields come to, packed in the same way."""
    text = "<"
    at = 0
    for kind, name, count in c_fields(struct):
        assert at % SIZES[kind] == 0, f"{struct}.{name} is not at its natural place: C would pad before it"
        size = SIZES[kind] * count
        if name == "reserved":
            text += f"{size}x"
        elif kind == "u8" and count > 1:
            text += f"{count}s"
        else:
            text += LETTERS[kind] * count
        at += size
    return text


def normal(text: str) -> str:
    return re.sub(r"(?<![0-9])1x", "x", text)


def test_every_constant_of_c_has_the_same_value_in_python() -> None:
    constants = c_constants()
    assert len(constants) > 25
    machines = {name for name in constants if name.startswith("MACHINE_")}
    for name, value in constants.items():
        if name not in machines:
            assert getattr(wire, PYTHON_NAMES.get(name, name)) == value, name


def test_every_constant_of_python_is_one_of_c() -> None:
    constants = c_constants()
    ours = {name: value for name, value in vars(wire).items() if isinstance(value, int)}
    names = {python: c for c, python in PYTHON_NAMES.items()}
    for name, value in ours.items():
        assert constants[names.get(name, name)] == value, name


def test_the_machines_are_those_that_python_has_numbers_for() -> None:
    from ocirt.plan.syscalls import MACHINES

    constants = c_constants()
    ours = {f"MACHINE_{name.upper()}": number for name, (number, _) in MACHINES.items()}
    assert ours == {name: value for name, value in constants.items() if name.startswith("MACHINE_")}


@pytest.mark.parametrize("struct", STRUCTS)
def test_a_struct_has_the_same_fields_in_c_and_python(struct: str) -> None:
    assert normal(c_format(struct)) == STRUCTS[struct].format


def test_every_struct_of_c_is_compared() -> None:
    assert set(re.findall(r"^struct (\w+) \{", source(), re.MULTILINE)) == set(STRUCTS)


def python_offsets(layout: Struct) -> list[int]:
    """Where each field of a packed structure begins; padding is no field."""
    offsets = []
    at = 0
    for count, letter in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        if letter == "s":
            offsets.append(at)
            at += int(count)
        elif letter == "x":
            at += int(count or 1)
        else:
            for _ in range(int(count or 1)):
                offsets.append(at)
                at += Struct(f"<{letter}").size
    return offsets


def test_the_compiler_places_the_fields_where_python_does(tmp_path: Path) -> None:
    """sizeof and offsetof, printed by a C program: no padding that only one side knows of."""
    lines = []
    expected = []
    for struct, layout in STRUCTS.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        expected.append(f"{struct} {layout.size}")
        offsets = iter(python_offsets(layout))
        for kind, name, count in c_fields(struct):
            if name == "reserved":
                continue
            for element in range(1 if kind == "u8" else count):
                field = f"{name}[{element}]" if count > 1 else name
                lines.append(f'printf("{struct}.{field} %zu\\n", offsetof(struct {struct}, {field}));')
                expected.append(f"{struct}.{field} {next(offsets)}")
        assert next(offsets, None) is None, f"Python has more fields in {struct}"
    program = tmp_path / "offsets.c"
    program.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\nint main(void)\n{{\n'
        + "\n".join(lines)
        + "\nreturn 0;\n}\n"
    )
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Werror", "-o", tmp_path / "offsets", program], check=True)
    out = subprocess.run([tmp_path / "offsets"], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == expected


def test_system_call_numbers_are_those_of_the_headers(tmp_path: Path) -> None:
    """asm/unistd.h of the machine that the tests run on, and of the others where their headers are installed."""
    from ocirt.plan.syscalls import MACHINES

    compilers = {"x86_64": "gcc -m64", "aarch64": "aarch64-linux-gnu-gcc", "riscv64": "riscv64-linux-gnu-gcc"}
    compared = set()
    for machine, (_, numbers) in MACHINES.items():
        command = compilers[machine].split()
        if subprocess.run(["sh", "-c", f"command -v {command[0]}"], capture_output=True, check=False).returncode:
            continue
        probe = tmp_path / f"{machine}.c"
        probe.write_text(
            "#include <asm/unistd.h>\n" + "".join(f"ours_{name} = __NR_{name};\n" for name in sorted(numbers))
        )
        out = subprocess.run([*command, "-E", "-P", probe], capture_output=True, text=True, check=True).stdout
        theirs = dict(re.findall(r"ours_(\w+) = (.+);", out))
        for name, number in numbers.items():
            if "__NR_" not in theirs[name]:  # newer than the installed headers
                assert number == eval(theirs[name], {"__builtins__": {}}), f"{machine} {name}"
        compared.add(machine)
    assert compared, "no C compiler"
