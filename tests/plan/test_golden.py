"""Golden plans: what a dozen configurations become, a line for each step.

A change of the compiler shows here as a change of system calls. `OCIRT_GOLDEN=write pytest tests/plan/test_golden.py`
writes the files anew; the diff is then what to read.
"""

from __future__ import annotations

import os
from errno import errorcode
from pathlib import Path

import pytest
from plan.cases import CASES, compile_case

from ocirt.plan.step import Buffer, Field, Own, Plan, Program, Reg, Slot, Step, Vector

GOLDEN = Path(__file__).parent / "golden"
_OCTAL = {("mkdirat", 2), ("mknodat", 2), ("umask", 0)}


def shown_words(content: bytes) -> str:
    """A structure: as numbers of 8 bytes where it consists of such, else in hexadecimal."""
    if len(content) > 256 and len(set(content)) == 1:
        return f"<{len(content)} × {content[0]:#x}>"
    if len(content) % 8:
        return f"<{content.hex()}>"
    words = [int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content), 8)]
    return f"<{', '.join(f'{word:#x}' if word > 9 else str(word) for word in words)}>"


def shown_argument(arg: object, step: Step, place: int, buffers: list[Buffer]) -> str:
    """As it is read best: numbers above 4095 are flags, so they are hexadecimal."""
    match arg:
        case int() if (step.call, place) in _OCTAL:
            return f"{arg:#o}"
        case int():
            return str(arg) if abs(arg) < 4096 else f"{arg:#x}"
        case str():
            return f'"{arg}"'
        case Own():
            return f'"{arg.content}"'
        case bytes():
            return shown_words(arg)
        case Reg():
            return f"${arg.name}"
        case Slot():
            return f"{arg.prefix}[{arg.size}]"
        case Vector():
            return f"[{', '.join(shown_argument(item, step, place, buffers) for item in arg.items)}]"
        case Buffer():
            if arg not in buffers:
                buffers.append(arg)
            return f"buffer{buffers.index(arg)}[{arg.size}]"
        case Program():
            return f"program[{len(arg.instructions) // 8}]"
        case Field():
            return f"{shown_argument(arg.buffer, step, place, buffers)}+{arg.at}"
    raise TypeError(type(arg))


def shown(plan: Plan) -> str:
    """Each step on a line, below what it is due to and what it does.

    Jumps are relative and registers have their names, so that a new step shows as one new line.
    """
    lines = []
    heading = ""
    for index, step in enumerate(plan.steps):
        if heading != (heading := f"{step.pointer or '-'}: {step.doing}"):
            lines.append(heading)
            buffers: list[Buffer] = []
        args = ", ".join(shown_argument(arg, step, place, buffers) for place, arg in enumerate(step.args))
        line = f"    {step.call}({args})"
        if step.result:
            line += f" → ${step.result.name}"
        if step.errnos:
            line += f" | ignore {' '.join(errorcode[number] for number in step.errnos)}"
        if step.fail:
            line += f" | fail: +{step.fail.index - index}"
        if step.ok:
            line += f" | ok: +{step.ok.index - index}"
        lines.append(line + " | log" if step.log else line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_the_plan_is_the_golden_one(name: str) -> None:
    compiled = compile_case(name)
    text = "".join(f"# {warning}\n" for warning in compiled.warnings) + shown(compiled.plan)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("OCIRT_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text, f"{name}: OCIRT_GOLDEN=write writes it anew; read the diff"


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


def test_compiling_is_pure() -> None:
    """The same configuration and facts give the same plan, and the configuration is not changed."""
    assert shown(compile_case("default").plan) == shown(compile_case("default").plan)


def test_an_architecture_changes_no_step() -> None:
    def without_machine(name: str) -> str:
        return shown(compile_case(name).plan)

    assert without_machine("aarch64") == without_machine("v2")
