"""How ocirt-init is built: small, static, from little C, and without a warning on every architecture."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import pytest
from init.running import BUILDS, SOURCE, build, build_flags, need
from support import OCIRT, REPOSITORY

import ocirt._sys
from ocirt.host.image import init_image
from ocirt.plan.syscalls import MACHINES

MOST_BYTES = 16 * 1024
MOST_LINES = 730
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 3, 0x6474E551, 0x6474E552
X, W = 1, 2
DT_FLAGS, DF_BIND_NOW = 30, 8
PROGRAM_HEADER = Struct("<IIQQQQQQ")


class Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    in_file: int
    in_memory: int
    align: int


def program_headers(image: bytes) -> list[Segment]:
    """elf(5), 64 bits."""
    at, size, count = (
        int.from_bytes(image[start : start + width], "little") for start, width in ((32, 8), (54, 2), (56, 2))
    )
    return [Segment(*PROGRAM_HEADER.unpack_from(image, at + size * index)) for index in range(count)]


def dynamic_flags(image: bytes) -> set[tuple[int, int]]:
    """(tag, value) of each dynamic entry."""
    found = set()
    for segment in program_headers(image):
        if segment.kind == PT_DYNAMIC:
            for at in range(segment.offset, segment.offset + segment.in_file, 16):
                found.add(
                    (int.from_bytes(image[at : at + 8], "little"), int.from_bytes(image[at + 8 : at + 16], "little"))
                )
    return found


def assert_nothing_is_writable_and_executable(image: bytes) -> None:
    segments = program_headers(image)
    assert not [one for one in segments if one.kind == PT_LOAD and one.flags & W and one.flags & X]
    stack = [one for one in segments if one.kind == PT_GNU_STACK]
    assert stack, "without this header the stack is executable"
    assert not stack[0].flags & X


def test_it_is_small(built: tuple[str, Path]) -> None:
    machine, path = built
    assert path.stat().st_size <= MOST_BYTES, machine


def test_it_is_of_its_machine_and_needs_no_loader(built: tuple[str, Path]) -> None:
    machine, path = built
    image = path.read_bytes()
    assert image[:4] == b"\x7fELF"
    assert int.from_bytes(image[18:20], "little") == MACHINES[machine][0]
    kinds = {segment.kind for segment in program_headers(image)}
    assert not kinds & {PT_INTERP, PT_DYNAMIC}


def test_nothing_of_it_can_be_written_to_and_executed(built: tuple[str, Path]) -> None:
    """Nor is anything of the file writable: no table of addresses, so there is nothing that RELRO could protect."""
    _, path = built
    image = path.read_bytes()
    assert_nothing_is_writable_and_executable(image)
    writable = [one for one in program_headers(image) if one.kind == PT_LOAD and one.flags & W]
    assert sum(one.in_file for one in writable) == 0


def test_it_has_no_branch_to_an_address_in_a_register(tmp_path: Path) -> None:
    """So -fcf-protection has nothing to protect, and whoever could write to its memory finds no address to change but
    those of returns."""
    need("objdump", packages="binutils")
    path = build("x86_64", tmp_path / "init")
    listing = subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True).stdout
    assert "syscall" in listing
    assert not re.search(r"\t(notrack )?(call|jmp) +\*", listing)


def test_no_function_of_it_needs_a_stack_protector(tmp_path: Path) -> None:
    """-fstack-protector-strong guards functions with arrays on the stack. There is one that comes back, `tell`, whose
    array is the kernel's header of a control message, and is written to member by member."""
    warnings, link = build_flags()
    flags = [flag for flag in link if not flag.startswith(("-Wl", "-static", "-nost", "-s", "-fno-stack-protector"))]
    listing = subprocess.run(
        ["gcc", *warnings, *flags, "-fstack-protector-strong", "-S", "-o", "-", SOURCE],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    function, guarded = "", set()
    for line in listing.splitlines():
        if re.match(r"[\w.]+:$", line) and not line.startswith("."):
            function = line[:-1].partition(".")[0]
        elif "__stack_chk_fail" in line:
            guarded.add(function)
    assert guarded <= {"tell", "send"}, "an array on the stack: bound it, and say so here"


def test_the_extension_is_readonly_once_it_is_loaded() -> None:
    image = Path(ocirt._sys.__file__).read_bytes()
    assert_nothing_is_writable_and_executable(image)
    assert PT_GNU_RELRO in {segment.kind for segment in program_headers(image)}
    assert any(tag == DT_FLAGS and value & DF_BIND_NOW for tag, value in dynamic_flags(image))


def test_nothing_of_the_executable_can_be_written_to_and_executed() -> None:
    """Not position independent, because the picture of memory in it has addresses; not BIND_NOW, because looking up all
    of libpython's 400 symbols would cost each call more than most need (docs/threat-model.md)."""
    image = Path(OCIRT).read_bytes()
    assert_nothing_is_writable_and_executable(image)
    kinds = {segment.kind for segment in program_headers(image)}
    assert PT_INTERP not in kinds or PT_GNU_RELRO in kinds


def test_it_is_stripped(built: tuple[str, Path]) -> None:
    _, path = built
    assert b".symtab" not in path.read_bytes()


def test_the_installed_one_is_as_small() -> None:
    image = init_image()
    assert len(image) <= MOST_BYTES
    assert b".symtab" not in image


def test_there_is_little_c() -> None:
    """All that one architecture compiles: the executor, the decoder, the wire, and the largest file of arch/."""
    folder = SOURCE.parent
    common = [folder / name for name in ("init.c", "decode.h", "wire.h", "freestanding.h")]
    largest = max(len(path.read_text().splitlines()) for path in (folder / "arch").glob("*.h"))
    generic = len((folder / "arch" / "generic.h").read_text().splitlines())
    assert sum(len(path.read_text().splitlines()) for path in common) + largest + generic <= MOST_LINES


def test_every_architecture_of_the_plan_has_a_build() -> None:
    assert set(BUILDS) == set(MACHINES)
    arch = {path.stem for path in (SOURCE.parent / "arch").glob("*.h")}
    assert arch == set(MACHINES) | {"generic"}


@pytest.mark.parametrize("machine", BUILDS)
def test_the_launcher_compiles_too(machine: str, tmp_path: Path) -> None:
    source = tmp_path / "launcher.c"
    original = REPOSITORY / "ocirt" / "launcher" / "launcher.c"
    source.write_text(
        '#define PYTHON "/usr/bin/python3"\n#define VERSION "python3.11"\n#define VERBS "create", "run"\n'
        f'#include "{original}"\n'
    )
    assert_nothing_is_writable_and_executable(build(machine, tmp_path / "launcher", source).read_bytes())
