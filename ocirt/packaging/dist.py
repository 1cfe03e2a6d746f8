"""`make dist`: ocirt as one file that needs nothing of the host but the C library.

usage: dist.py OUTPUT, by the Python of a virtual environment that has the packages that ocirt needs.

Two builds on the same system have the same bytes: what differs between them, the time, the folder, the addresses of
shared libraries, the seed of string hashes, is not in it or always the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import embed
import ocirt_build as build
from ocirt_build import SOURCE

HERE = Path(__file__).parent
HASH_SEED = 20111
"""Of string hashes. Who writes a config.json can run programs as root; that it may be slow to read is no new power."""


def run_steadily(*command: str | Path) -> None:
    """Run a Python program in which sets have the same order each time, and that keeps no column numbers."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    subprocess.run([sys.executable, "-X", "no_debug_ranges", *command], env=environment, check=True)


def archive(work: Path) -> bytes:
    """What is carried (carry.py). Writes to the folder `work`."""
    given = work / "given"  # what the build adds to the package
    schemas = given / "ocirt" / "schemas"
    schemas.mkdir(parents=True)
    (given / "ocirt" / "_build.py").write_text(f'COMMIT = "{build.commit()}"\n')
    for schema in (SOURCE.parent / "spec").glob("*.json"):
        (schemas / schema.name).write_bytes(schema.read_bytes())
    run_steadily(HERE / "carry.py", SOURCE, sysconfig.get_path("purelib"), given, work / "archive")
    return (work / "archive").read_bytes()


def write_modules(target: Path) -> None:
    """What is executed for the picture (hot.py), with ocirt-init beside it."""
    build.compile_freestanding(SOURCE / "init" / "init.c", target.parent / "ocirt-init")
    program = f"import sys; sys.path.insert(0, {str(HERE)!r}); import hot; from pathlib import Path; "
    run_steadily("-c", f"{program}hot.write_picture_alone(Path({str(SOURCE)!r}), Path({str(target)!r}))")


def main(output: Path) -> None:
    defines = [*build.defines(), f"-DHASH_SEED={HASH_SEED}"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            embed.library()
            embed.build(build.compiler(), output, defines, write_modules, archive(Path(folder)))
        except embed.CannotError as error:
            raise SystemExit(f"ocirt: cannot build one file: {error}") from error
    sys.stdout.write(f"{output}: {output.stat().st_size / 1e6:.1f} MB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
