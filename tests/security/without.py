"""Show that a test of this folder fails where the defence that it is about is missing.

usage: tests/isolate .venv/bin/python tests/security/without.py [--both] [WORD...]

For each removal of removals.py whose name has one of the words in it (default: all): the installed package is copied,
the removal's edits are made in the copy, and its tests run on that, started by a script. If they pass, because `verify`
refuses such plans as a second layer, then once more without that (with --both always). Prints what fails how, and
fails itself if a test passes where nothing is left of the defence, or fails where all of it is there.
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


def outcome(removal: Removal, edits: tuple[Edit, ...]) -> list[str]:
    """The first words of each failure, and the tests that pass."""
    with tempfile.TemporaryDirectory(prefix="ocirt-without-") as folder:
        executable = copy_with(edits, Path(folder))
        package = packages_of(executable)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=line", "-rfE", *removal.tests],
            cwd=REPOSITORY / "tests" / "security",
            env={**os.environ, "OCIRT": str(executable), "PYTHONPATH": str(package), "COLUMNS": "500"},
            capture_output=True,
            text=True,
            check=False,
        )
    told = []
    ran = re.search("[0-9] (passed|failed|error)", done.stdout)
    for test in removal.tests:
        name = test.partition("::")[2]
        failures = [line for line in done.stdout.splitlines() if re.match(rf"(FAILED|ERROR) .*::{name}\b", line)]
        told += [f"{line[:6]} {name}{line.partition(name)[2][:500]}" for line in failures]
        if not failures:
            told.append(f"{'PASSES' if ran else 'SKIPPED'} {name}")
    return told


def fail(told: list[str]) -> bool:
    """Each of the tests, with one of its parameters at least; or they are for another kernel."""
    return not any(line.startswith("PASSES") for line in told)


ALONE = """
set -e
mount --make-rprivate /
mkdir -p "$1"
case $1 in /mnt/*) aside=/media ;; *) aside=/mnt ;; esac
mount -t tmpfs tmpfs $aside
mkdir $aside/repository
mount --bind "$1" $aside/repository
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p "$1"
mount --bind $aside/repository "$1"
umount $aside/repository $aside
while read -r _ _ _ _ place _ rest; do
    kind=${rest#*- } kind=${kind%% *}
    case $kind in proc | cgroup | cgroup2 | securityfs) continue ;; esac
    [ "$place" = /tmp ] || mount -o remount,bind,ro "$place"
done </proc/self/mountinfo
mount --make-rshared /
shift
exec "$@"
"""
"""Where a test may do to the host whatever it can: all is readonly but a new /tmp, in which the repository is too."""


def alone() -> None:
    """Become the same command there. What is missing here is what keeps tests away from the host's files."""
    if os.environ.get("OCIRT_ISOLATED") != "1":
        sys.exit("without.py: run it under tests/isolate")
    environment = os.environ | {"OCIRT_ALONE": "1", "TMPDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["HYPOTHESIS_STORAGE_DIRECTORY"] = "/tmp/hypothesis"
    command = [str(REPOSITORY), sys.executable, *sys.argv]
    os.chdir(REPOSITORY)
    os.execvpe("unshare", ["unshare", "--mount", "bash", "-c", ALONE, "bash", *command], environment)


def main(words: list[str]) -> int:
    code, both = 0, "--both" in words
    words = [word for word in words if word != "--both"]
    for name, removal in REMOVALS.items():
        if words and not any(word in name for word in words):
            continue
        told = outcome(removal, ())
        if any(line.startswith(("FAILED", "ERROR")) for line in told):
            print(name, "cannot be shown: the tests fail as it is", *told, sep="\n    ", flush=True)
            code = 1
            continue
        told = outcome(removal, removal.edits)
        print(name, *told, sep="\n    ", flush=True)
        failed = fail(told)
        if not failed or both:
            told = outcome(removal, removal.edits + VERIFY)
            print(f"{name}, without verify", *told, sep="\n    ", flush=True)
            failed = fail(told)
        if not failed:
            print(f"{name}: NOTHING IS SEEN", flush=True)
            code = 1
    return code


if __name__ == "__main__":
    if "OCIRT_ALONE" not in os.environ:
        alone()
    os.chdir(REPOSITORY)
    sys.exit(main(sys.argv[1:]))
