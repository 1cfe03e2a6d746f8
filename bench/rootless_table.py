"""What an ordinary user can have of ocirt, crun and runc: the tables of docs/rootless.md, each cell tried.

usage: tests/isolate python bench/rootless_table.py --ocirt PATH [--why] [--only TEXT] [--delegated]

Started by root it makes an ordinary user, who is gone with tests/isolate, and becomes them for each command; started by
an ordinary user it tries what that one can have. --delegated: only what it takes a cgroup for, in one that is the
user's. --systemd: the same through the user's own systemd. --why: also what a runtime said that could not do it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rootless_case import Case, Person
from rootless_rows import DELEGATED, ROWS

sys.path.remove(str(Path(__file__).resolve().parent))  # where "engines" is engines.py

RUNTIMES = {"crun": "crun", "runc": "runc"}


def made_by_root(ocirt: str) -> tuple[Person, str]:
    """An ordinary user with a range, and where they find ocirt."""
    from engines import rootless
    from engines.engine import PLACES, cover_fixed_places

    if os.environ.get("OCIRT_ISOLATED") != "1":
        sys.exit("rootless_table: root runs it under tests/isolate")
    work = cover_fixed_places()
    rootless.make_user(work, ocirt)
    person = Person(rootless.USER, *rootless.RANGE, work / "rootless", become())
    rootless.own_folder(person.folder)
    person.locked = rootless.own_folder(work / "locked")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "tmpfs", person.locked], check=True)
    return person, PLACES["ocirt"]


def become() -> list[str]:
    from engines.rootless import USER

    return ["/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={USER}", "--"]


def delegate(person: Person) -> None:
    """A cgroup of the user's in each hierarchy, and in it another in which they start what they start."""
    files = []
    for hierarchy in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]:
        if not (hierarchy / "cgroup.procs").exists() or (hierarchy.parent / "cgroup.procs").exists():
            continue
        subtree = hierarchy / "user"
        (subtree / "session").mkdir(parents=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (subtree / name).exists() and not (hierarchy / "cgroup.controllers").exists():
                for folder in (subtree, subtree / "session"):
                    (folder / name).write_text((folder.parent / name).read_text())
        if (hierarchy / "cgroup.controllers").exists():
            for name in (hierarchy / "cgroup.controllers").read_text().split():
                (hierarchy / "cgroup.subtree_control").write_text(f"+{name}")
        for path in (subtree, subtree / "session"):
            for file in (path, *path.iterdir()):
                if file.name in (
                    "user",
                    "session",
                    "cgroup.procs",
                    "cgroup.threads",
                    "cgroup.subtree_control",
                    "tasks",
                ):
                    os.chown(file, person.uid, person.uid)
        files.append(subtree / "session" / "cgroup.procs")
    person.cgroup = "/user"
    enter = "; ".join(f"echo $$ >{file}" for file in files)
    person.become = ["/bin/sh", "-c", f'{enter}; exec "$@"', "sh", *person.become]


def of_this_user() -> Person:
    name = os.environ.get("USER") or str(os.getuid())
    found = re.search(rf"^(?:{name}|{os.getuid()}):(\d+):(\d+)$", Path("/etc/subuid").read_text(), re.MULTILINE)
    first, size = map(int, found.groups()) if found else (0, 0)
    return Person(os.getuid(), first, size, Path(tempfile.mkdtemp()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ocirt", required=True)
    parser.add_argument("--why", action="store_true")
    parser.add_argument("--only", default="", help="rows whose title has this in it")
    parser.add_argument("--delegated", action="store_true")
    parser.add_argument("--systemd", action="store_true")
    options = parser.parse_args()
    ocirt = str(Path(options.ocirt).resolve())
    person, ocirt = made_by_root(ocirt) if os.getuid() == 0 else (of_this_user(), ocirt)
    if options.delegated and os.getuid() == 0:
        delegate(person)
    person.systemd = options.systemd
    places = {"ocirt": ocirt}
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    places |= {name: found for name, word in RUNTIMES.items() if (found := shutil.which(word, path=path))}
    rows = {"cgroups": DELEGATED} if options.delegated or options.systemd else ROWS
    print(f"| | {' | '.join(places)} |\n|---|{'---|' * len(places)}")
    notes = []
    for section, cells in rows.items():
        print(f"| **{section}** |{' |' * len(places)}")
        for title, cell in cells.items():
            if options.only not in title:
                continue
            answers = []
            for name, where in places.items():
                case = Case(name, where, person)
                try:
                    answers.append(cell(case) or "yes")
                except Exception as error:
                    answers.append("no")
                    notes.append(f"{title}: {name}: {type(error).__name__}: {error}")
                finally:
                    case.clear()
            print(f"| {title} | {' | '.join(answers)} |", flush=True)
    if options.why:
        print(*notes, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
