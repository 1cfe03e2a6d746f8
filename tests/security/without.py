"""Show that a test of this folder fails where the defence that it is about is missing.

usage: tests/isolate .venv/bin/python tests/security/without.py [WORD...]

For each removal of removals.py whose name has one of the words in it (default: all): the installed package is copied,
the removal's edits are made in the copy, and its tests run on that, without the launcher. Twice: with `verify`, which
refuses many such plans as a second layer, and without it. Prints one line for each run; fails if a test passes where nothing is
left of the defence.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from removals import REMOVALS, VERIFY, Edit, Removal

REPOSITORY = Path(__file__).resolve().parents[2]
OCIRT = Path(os.environ.get("OCIRT") or Path(sys.prefix) / "bin" / "ocirt")
START = """#!{python} -IS
import sys
sys.path[:0] = ["{package}", "{packages}"]
sys.argv = ["-c", "", "0", *sys.argv]
from ocirt.cli.main import entry
entry()
"""


def packages_of(executable: Path) -> Path:
    return next(executable.resolve().parents[1].glob("lib/python3*/site-packages"))


def copy_with(edits: tuple[Edit, ...], folder: Path) -> Path:
    """An executable in a prefix of its own, that runs the package with these edits."""
    packages = packages_of(OCIRT)
    package = folder / packages.relative_to(OCIRT.resolve().parents[1])
    shutil.copytree(packages / "ocirt", package / "ocirt", ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        file = package / edit.file
        text = file.read_text()
        assert text.count(edit.old) == 1, f"{edit.file} has this {text.count(edit.old)} times:\n{edit.old}"
        file.write_text(text.replace(edit.old, edit.new))
    executable = folder / "bin" / "ocirt"
    executable.parent.mkdir()
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    executable.write_text(START.format(python=python, package=package, packages=packages))
    executable.chmod(0o755)
    folder.chmod(0o755)
    return executable


def outcome(removal: Removal, edits: tuple[Edit, ...]) -> tuple[bool, str]:
    """(do all tests fail?, what pytest says of them in the end)."""
    with tempfile.TemporaryDirectory(prefix="ocirt-without-") as folder:
        executable = copy_with(edits, Path(folder))
        package = packages_of(executable)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=line", *removal.tests],
            cwd=REPOSITORY / "tests" / "security",
            env={**os.environ, "OCIRT": str(executable), "PYTHONPATH": str(package)},
            capture_output=True,
            text=True,
            check=False,
        )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    lines = [line for line in done.stdout.splitlines() if re.match(r"E  |.*(Error|assert|Failed)", line)]
    return bool(failed) and not counts.get("passed"), f"{counts} {lines[0].strip()[-300:] if lines else ''}"


def main(words: list[str]) -> int:
    code = 0
    for name, removal in REMOVALS.items():
        if words and not any(word in name for word in words):
            continue
        failed, told = outcome(removal, removal.edits)
        print(f"{name}: {'the tests fail' if failed else 'verify protects'}: {told}", flush=True)
        if not failed or "--both" in words:
            failed, told = outcome(removal, removal.edits + VERIFY)
            print(f"{name}, without verify: {'the tests fail' if failed else 'NOTHING IS SEEN'}: {told}", flush=True)
        code |= not failed
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
