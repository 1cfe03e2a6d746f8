"""Builds the floor program (floor.c) for a bundle: the plan that `ocirt run` would carry out, as a C table."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "floor"
"""Of the container: it is in the plan, in paths of cgroups."""


def _strings(name: str, values: Iterable[str]) -> str:
    joined = "".join(f'"{value}", ' for value in values)
    return f"static const char *const {name}[] = {{ {joined}0 }};\n"


def build(bundle: Path, work: Path) -> Path:
    """The program, below `work`. Needs cgroup v1: there the cgroups are made and joined by the host's side."""
    from ocirt.cgroups.rules import container_rules
    from ocirt.runtime.preparation import Preparation

    prepared = Preparation(str(work / "state"), NAME, str(bundle), wait_for_start=False, terminal_is_ours=True)
    try:
        places = prepared.cgroups.places
        own = {name: path for _, controllers, _, _, path in places for name in controllers}
        rules = container_rules(prepared.config.spec["linux"]["resources"]["devices"])
        lines = [
            f"{rule.type} {'*' if rule.major < 0 else rule.major}:{'*' if rule.minor < 0 else rule.minor} {rule.access}"
            for rule in rules
            if rule.allow
        ]
        content = prepared.encoded.content
    finally:
        prepared.init.close()
        prepared.close_descriptors()
    folder = work / "floor"
    folder.mkdir()
    (folder / "calls.h").write_text(
        f"static unsigned char plan_bytes[{len(content)}] __attribute__((aligned(8))) = {{\n"
        + ",".join(map(str, content))
        + "\n};\n"
        + _strings("folders", (path for *_, path in places))
        + f'static const char cpuset[] = "{own.get("cpuset", "")}", devices[] = "{own.get("devices", "")}";\n'
        + _strings("rules", lines)
    )
    source = __file__.replace(".py", ".c")
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", f"-I{folder}"]
    subprocess.run(["gcc", *flags, "-o", str(folder / "floor"), source], check=True)
    return folder / "floor"
