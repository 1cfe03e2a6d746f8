"""The model kernel is no fiction: mutants run for real, without `verify`, and what their program finds agrees with it.

Each runs in mount, uts and ipc namespaces of its own below tests/isolate; every second one is chosen to be dangerous. A
mutant that would harm the host is not run. OCIRT_REAL_MUTANTS=400 runs as many.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import Bundle, Runtime, default_config, make_rootfs

pytestmark = pytest.mark.root

SEEDS = range(int(os.environ.get("OCIRT_REAL_MUTANTS", "40")))
TIMEOUT = 120
RUNNER = Path(__file__).parent / "mutant_runner.py"
SCRIPT = """
me=$$
echo @begin
echo @status; cat /proc/$me/status
echo @fds; for fd in /proc/$me/fd/*; do fd=${fd##*/}; [ $fd -lt 10 ] && echo $fd; done
echo @mounts; cat /proc/$me/mountinfo
echo @namespaces; for kind in mnt pid net ipc uts cgroup; do stat -L -c "$kind %i" /proc/$me/ns/$kind; done
echo @limits; cat /proc/$me/limits
echo @session; cat /proc/$me/stat
echo @devices; for node in /dev/*; do [ -c $node ] && stat -c '%n %t:%T' $node; done
echo @end
"""
GROUPS = ("setpriv", "--groups", "0,4,27")
"""The caller's, as the model kernel has them."""
UNSEEN = (
    "not keyring",
    "not ready",
    "not attached",
    "not cgroup_root_known",
    "other options of the mount on /sys/fs/cgroup",
)
"""What a program cannot know of itself; and which cgroup its namespace begins with, if init does not wait, is luck."""
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
FLAGS = ("ro", "nosuid", "nodev", "noexec")


@pytest.fixture
def mutable(tmp_path: Path) -> Bundle:
    bundle = tmp_path / "bundle"
    make_rootfs(bundle / "rootfs")
    (bundle / "rootfs" / "var" / "lib").mkdir(parents=True)
    config = default_config(
        user={"uid": 1000, "gid": 1001, "additionalGids": [5, 44]}, args=["/bin/sh", "-c", SCRIPT], env=["PATH=/bin"]
    )
    return Bundle(bundle, config).write()


class Report:
    """What the program has said of itself."""

    def __init__(self, text: str) -> None:
        self.parts: dict[str, list[str]] = {}
        for line in text.split("@begin", 1)[-1].splitlines():
            if line.startswith("@"):
                lines = self.parts[line[1:]] = []
            elif self.parts:
                lines.append(line)
        self.status = dict(line.split(":\t", 1) for line in self.parts["status"] if ":\t" in line)
        self.fds = set(self.parts["fds"])
        self.namespaces = dict(line.split() for line in self.parts["namespaces"])
        self.limits = {line[:26].strip(): line[26:].split()[:2] for line in self.parts["limits"][1:]}
        self.devices = set(self.parts["devices"])
        self.session = self.parts["session"][0].rpartition(")")[2].split()[3] if self.parts["session"] else ""

    @property
    def mounts(self) -> dict[str, tuple[str, set[str], str, set[str]]]:
        """mount point → (file system and its folder, flags, options and propagation); the topmost of several."""
        found = {}
        for line in self.parts["mounts"]:
            fields = line.split()
            dash = fields.index("-")
            kind = fields[dash + 1]
            folder = fields[3] if kind not in ("tmpfs", "cgroup", "cgroup2") else ""
            shares = " ".join(sorted(re.sub(r":\d+", "", one) for one in fields[6:dash]))
            # The options of the file system; of a cgroup they are the hierarchy.
            options = set(fields[dash + 3].split(",")) - {"rw", "ro"} if kind in ("tmpfs", "devpts") else set()
            found[fields[4]] = (f"{kind} {folder}", set(fields[5].split(",")), shares, options)
        return found

    @property
    def roots(self) -> int:
        """How many mounts there are at "/", one over the other."""
        return sum(line.split()[4] == "/" for line in self.parts["mounts"])


def differs(good: Report, mine: Report) -> list[str]:
    """Where the program has more than the unchanged plan's."""
    found = [f"more capabilities: {name}" for name in SETS if int(mine.status[name], 16) & ~int(good.status[name], 16)]
    found += [f"other {name}" for name in ("Uid", "Gid") if mine.status[name] != good.status[name]]
    if not set(mine.status["Groups"].split()) <= set(good.status["Groups"].split()):
        found.append("more groups")
    found += [f"no {name}" for name in ("NoNewPrivs", "Seccomp") if int(mine.status[name]) < int(good.status[name])]
    if mine.fds - good.fds:
        found.append("descriptors are left")
    if mine.session != good.session:
        found.append("another session")
    found += _of_namespaces(mine)
    found += [f"a limit that is missing: {name}" for name in good.limits if mine.limits.get(name) != good.limits[name]]
    if mine.roots > good.roots:
        found.append("the old root is still there")
    if mine.devices - good.devices:
        found.append("another device")
    return found + _of_mounts(good.mounts, mine.mounts)


def _of_namespaces(mine: Report) -> list[str]:
    """Those of this process are the host's for the container."""
    return [
        f"the namespace {kind} is the host's"
        for kind, number in mine.namespaces.items()
        if int(number) == os.stat(f"/proc/self/ns/{kind}").st_ino
    ]


def _of_mounts(good: dict[str, Any], mine: dict[str, Any]) -> list[str]:
    found = []
    for point, (name, flags, shares, options) in mine.items():
        was = good.get(point)
        if was is None or was[0] != name:
            if not name.startswith("tmpfs") and not name.endswith("/null"):
                found.append(f"another mount on {point}")
            continue
        found += [f"no {flag} on {point}" for flag in FLAGS if flag in was[1] and flag not in flags]
        if options != was[3]:
            found.append(f"other options of the mount on {point}")
        if shares and not was[2]:
            found.append(f"events reach {point}")
    found += [
        f"hides nothing at {point}"
        for point, was in good.items()
        if point not in mine and point.startswith(("/proc/", "/sys/")) and not point.startswith("/sys/fs")
        if point.rpartition("/")[0] in ("/proc", "/sys") and point.rpartition("/")[0] in mine
    ]
    return found


def run_one(bundle: Bundle, tmp_path: Path, seed: str, number: int) -> tuple[dict[str, Any], str, str]:
    """(what was said of the plan, stdout, stderr). One that hangs is ended, and counts as one that was not run."""
    said, name = tmp_path / f"said-{number}", f"mutant-{number}"
    command = ["unshare", "--mount", "--uts", "--ipc", "--propagation", "private", *GROUPS, sys.executable, RUNNER]
    wanted = "dangerous" if number % 2 else "any"
    with open(tmp_path / "out", "w+") as out, open(tmp_path / "err", "w+") as err:
        try:
            subprocess.run(
                [str(one) for one in (*command, tmp_path / "state", name, bundle.path, seed, wanted, said)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=TIMEOUT,
                env={"PATH": os.environ["PATH"]},
                check=False,
            )
        except subprocess.TimeoutExpired:
            Runtime(tmp_path / "state")("delete", "--force", name)
            return {"harmed": ["it hangs"]}, "", ""
        out.seek(0)
        err.seek(0)
        texts = out.read(), err.read()
    assert said.exists(), texts[1]
    return json.loads(said.read_text()), *texts


def test_the_model_kernel_says_what_the_kernel_does(
    mutable: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, out, err = run_one(mutable, tmp_path, "", 0)
    assert said["refused"] == "" and said["reached"] and not said["why"], said
    good = Report(out)
    assert good.status["Uid"].split() == ["1000"] * 4, err
    assert good.mounts["/"][1] >= {"ro"}
    wrong, ran, dangerous = [], 0, 0
    for number in SEEDS:
        said, out, err = run_one(mutable, tmp_path, f"real {number}", number + 1)
        if said["harmed"]:
            continue
        reached = "@end" in out
        mine = Report(out) if reached else None
        if mine and not mine.status:
            continue  # without /proc it has nothing to say
        found = differs(good, mine) if mine else []
        ran += 1
        dangerous += bool(found)
        line = f"real {number}: {said['done']}: model {said['why'] or '-'} kernel {found or '-'}"
        silent = "another standard input or output" in said["why"]
        visible = [one for one in said["why"] if not one.startswith(UNSEEN)]
        if silent or (said["why"] and not visible):
            continue
        if bool(found) != bool(visible) or reached != said["reached"]:
            wrong.append(f"{line} reached {said['reached']}/{reached} {err[-200:]}")
        if found:
            assert said["refused"], f"verify lets through what is dangerous for real: {line}"
    with capsys.disabled():
        print(f"\n{ran} mutants run for real, {dangerous} of them dangerous; the model says otherwise of {len(wrong)}")
        for line in wrong:
            print(f"  {line}")
    assert ran >= len(SEEDS) * 3 // 4
    assert dangerous >= len(SEEDS) // 4, "the sample shows too little"
    assert len(wrong) <= ran // 20, "\n".join(wrong)
