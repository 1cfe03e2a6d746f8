"""How ocirt-init is built: small, static, from little C, and without a warning on every architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
from init.running import BUILDS, SOURCE, build
from support import REPOSITORY

from ocirt.host.image import init_image
from ocirt.plan.syscalls import MACHINES

MOST_BYTES = 16 * 1024
MOST_LINES = 700
PT_INTERP, PT_GNU_STACK = 3, 0x6474E551


def program_headers(image: bytes) -> list[tuple[int, int]]:
    """(type, flags) of each program header (elf(5), 64 bits)."""
    at, size, count = (
        int.from_bytes(image[start : start + width], "little") for start, width in ((32, 8), (54, 2), (56, 2))
    )
    headers = [image[at + size * index :] for index in range(count)]
    return [(int.from_bytes(header[:4], "little"), int.from_bytes(header[4:8], "little")) for header in headers]


def test_it_is_small(built: tuple[str, Path]) -> None:
    machine, path = built
    assert path.stat().st_size <= MOST_BYTES, machine


def test_it_is_of_its_machine_and_needs_no_loader(built: tuple[str, Path]) -> None:
    machine, path = built
    image = path.read_bytes()
    assert image[:4] == b"\x7fELF"
    assert int.from_bytes(image[18:20], "little") == MACHINES[machine][0]
    kinds = dict(program_headers(image))
    assert PT_INTERP not in kinds
    assert not kinds[PT_GNU_STACK] & 1, "its stack must not be executable"


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
    build(machine, tmp_path / "launcher", source)
