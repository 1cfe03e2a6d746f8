"""Write the files beside this one: every package that a build or a test installs, with its version and its hashes.

usage: lock.py [--upgrade]

Run it when pyproject.toml's requirements change, or to take newer versions; then look at the difference. It needs
pip-tools, which `python3 -m venv X && X/bin/pip install pip-tools` brings, in the Python that runs it: 3.11, the oldest
that ocirt knows. What is written names no package index.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def extra(name: str) -> list[str]:
    """What an extra asks for; where it asks for another of ours, what that does."""
    own = f"{PROJECT['project']['name']}["
    found: list[str] = []
    for line in EXTRAS[name]:
        found += extra(line.removeprefix(own).rstrip("]")) if line.startswith(own) else [line]
    return found


FILES: dict[str, list[str]] = {
    "build": PROJECT["build-system"]["requires"],
    "run": PROJECT["project"]["dependencies"],
    "manager": PROJECT["project"]["dependencies"] + extra("manager"),
    "test": PROJECT["project"]["dependencies"] + extra("test"),
    "test-engines": PROJECT["project"]["dependencies"] + extra("test") + extra("engines"),
}
"""Name of a file → what is asked for. What is in several of them has one version."""
OPTIONS = """
--quiet --generate-hashes --allow-unsafe --strip-extras --resolver=backtracking --annotation-style=line
--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --no-header
""".split()
HEADER = "# Written by requirements/lock.py from pyproject.toml: change that, and run it.\n"


def lock(name: str, wanted: list[str], *, upgrade: bool) -> None:
    output = HERE / f"{name}.txt"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "asked.in"
        shared = HERE / "test-engines.txt"
        constraint = [f"-c {shared}\n"] if shared.exists() and name in ("run", "manager", "test") else []
        source.write_text("".join(f"{line}\n" for line in wanted) + "".join(constraint))
        more = ["--upgrade"] if upgrade else []
        words = [sys.executable, "-m", "piptools", "compile", *OPTIONS, *more, "--output-file", output, source]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    lines = [without_reason(line) for line in output.read_text().splitlines() if not line.startswith(("#", "-"))]
    output.write_text(HEADER + "".join(f"{line}\n" for line in lines if line))


def without_reason(line: str) -> str:
    """Without the comment that names the temporary file; what else asked for a package is worth keeping."""
    code, _, reason = line.partition("  # via ")
    asked = [one for one in reason.split(", ") if one and not one.startswith("-")]
    return f"{code}  # via {', '.join(asked)}" if asked else code.rstrip()


def main() -> None:
    for name in ("test-engines", "build", "test", "manager", "run"):
        lock(name, FILES[name], upgrade="--upgrade" in sys.argv[1:])


main()
