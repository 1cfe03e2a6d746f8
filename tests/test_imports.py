"""What the hot verbs import: little, because each module costs start-up time, and each verb only its own layers.

The launcher is built anew with a recorder in Python's place: a script that runs the launcher's arguments as Python
would, and writes down the modules that are there at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from init.running import build
from support import REPOSITORY, Bundle, command

import ocirt

sys.path.insert(0, str(REPOSITORY / "ocirt" / "packaging"))
from hot import ROOTS

RECORDER = """#!{python} -IS
import sys, posix
leave = posix._exit
def record(code):
    posix.write(posix.open("{record}", posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND), " ".join(
        [",".join(sys.argv), *sys.modules]).encode() + b"\\n")
    leave(code)
posix._exit = record
assert sys.argv[1:3] == ["-IS", "-c"], sys.argv
code = sys.argv[3]
sys.argv = ["-c", *sys.argv[4:]]
exec(code)
"""

ALWAYS = {"_imp", "_json", "_signal", "_struct", "errno", "gc", "marshal", "posix", "sys", "time", "fcntl"}
"""Built into Python or, for _json, a small file: a verb may have any of them."""
STATE = {"ocirt.state"} | {f"ocirt.state.{name}" for name in ("document", "place", "process", "store", "status")}
CHANGES = STATE | {"ocirt.state.entry"}
CGROUPS = {f"ocirt.cgroups{name}" for name in ("", ".calls", ".files", ".layout", ".manager", ".rules", ".v1", ".v2")}
CLI = {"ocirt", "ocirt.errors", "ocirt.cli"} | {
    f"ocirt.cli.{name}" for name in ("main", "argv", "verbs", "output", "actions")
}
PLAN = {"ocirt.plan"} | {
    f"ocirt.plan.{name}"
    for name in (
        "asked compile credentials devices encode facts inherited kernel masks mounts namespaces options paths process"
        " procfs rootfs scope step syscalls tags terminal verify verify_asked verify_asked_mounts verify_credentials"
        " verify_filter verify_mounts verify_order verify_walk wire"
    ).split()
}
CONFIG = {f"ocirt.config{name}" for name in ("", ".check", ".load", ".names", ".read", ".shape")}
LIMITS = {f"ocirt.cgroups.{name}" for name in ("resources", "setting", "cpu", "memory")}
LIMITS |= {"ocirt.config.check_resources"}
CREATION = {
    *(f"ocirt.host{name}" for name in ("", ".console", ".facts", ".image", ".launch", ".memfd", ".passwd")),
    "ocirt.runtime.creation",
    "ocirt.runtime.handing",
    "ocirt.runtime.preparation",
    *("ocirt.host.filters", "ocirt.plan.seccomp", "_blake2", *LIMITS),  # what hardly any engine does without
    "_socket",
    "select",  # where init's child has spoken before its parent, now and then
    *("ocirt.cgroups.ebpf", "ocirt._sys"),  # on cgroup v2
}
EXPLAINS = {"ocirt.host", "ocirt.host.launch", "ocirt.host.memfd"}
EXPLAINS |= {"ocirt.plan", "ocirt.plan.inherited", "ocirt.plan.wire"}
"""What turns a failure that init reports into words."""
MAKES = CHANGES | CGROUPS | PLAN | CONFIG | CREATION
ENTERS = (
    STATE | CGROUPS | PLAN | CONFIG | CREATION | {"ocirt.host.enter", "ocirt.runtime.copied", "ocirt.runtime.process"}
)
ENTERS |= {f"ocirt.plan.{name}" for name in ("enter", "enter_exec", "verify_enter")} | {"ocirt.config.lists"}
ENTERS -= {f"ocirt.plan.{name}" for name in ("compile", "mounts", "devices", "verify_namespaces")}
ENTERS -= {"ocirt.runtime.creation", "ocirt.runtime.preparation"}
STATISTICS = {f"ocirt.cgroups{name}" for name in ("", ".folder", ".stats", ".stats_both", ".stats_v1", ".stats_v2")}
SIGNALS = {"ocirt.config", "ocirt.config.names"}
FREEZES = {"ocirt.cgroups.freezer", "ocirt.cgroups.signals"}
ALLOWED = {
    "create": MAKES | {"ocirt.runtime.create"},
    "start": CHANGES | EXPLAINS | {"ocirt.runtime.start", "_socket", "select"},
    "state": STATE | {"ocirt.runtime.state", "pwd"},
    "exec": ENTERS | {"ocirt.runtime.exec", "ocirt.cli.process", "ocirt.host.foreground"},
    "list": STATE | {"ocirt.runtime.state", "ocirt.runtime.list", "ocirt.cli.listing", "pwd"},
    "kill": CHANGES | SIGNALS | {"ocirt.runtime.kill"},
    "delete": CHANGES | CGROUPS | SIGNALS | FREEZES | {"ocirt.runtime.delete", "ocirt.runtime.kill", "select"},
    "pause": CHANGES | CGROUPS | FREEZES | {"ocirt.runtime.pause"},
    "resume": CHANGES | CGROUPS | FREEZES | {"ocirt.runtime.pause"},
    "ps": STATE | CGROUPS | FREEZES | {"ocirt.runtime.ps"},
    "update": CHANGES
    | CGROUPS
    | CONFIG
    | LIMITS
    | {"ocirt.cgroups.merge", "ocirt.runtime.update", "ocirt.cli.amounts"},
    "events": STATE | STATISTICS | {"ocirt.runtime.events"},
    "run": MAKES | {"ocirt.runtime.run", "ocirt.host.foreground", "ocirt.host.relay", "termios", "select"},
}
NEVER = set("re json typing dataclasses enum pathlib os collections functools subprocess socket ctypes logging".split())
NEVER |= {"argparse", "click", "jsonschema", "shutil", "signal", "struct", "importlib.util", "traceback", "contextlib"}


@dataclass
class Recorder:
    """The recording executable, and what Python has loaded before any code of ours."""

    executable: Path
    record: Path
    before: set[str]

    def __call__(self, *args: str | Path, code: int = 0) -> set[str]:
        """The modules that this call imported, besides Python's own first ones."""
        self.record.write_text("")
        done = command(self.executable, *args)
        assert done.code == code, done.err
        (line,) = self.record.read_text().splitlines()
        return set(line.split(" ")[1:]) - self.before


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    folder = tmp_path_factory.mktemp("recorder")
    python = os.path.realpath(sys.executable)
    script, record = folder / "python", folder / "record"
    script.write_text(RECORDER.format(python=python, record=record))
    script.chmod(0o755)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    source = folder / "launcher.c"
    launcher = REPOSITORY / "ocirt" / "launcher" / "launcher.c"
    verbs = "#define VERBS " + ", ".join(f'"{verb}"' for verb in ROOTS) + "\n"
    source.write_text(f'#define PYTHON "{script}"\n#define VERSION "{version}"\n{verbs}#include "{launcher}"\n')
    (folder / "bin").mkdir()
    (folder / "lib" / version).mkdir(parents=True)
    (folder / "lib" / version / "site-packages").symlink_to(Path(ocirt.__file__).parents[1])
    build(os.uname().machine, folder / "bin" / "ocirt", source)
    modules = subprocess.run(
        [python, "-IS", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True, env={}
    ).stdout
    return Recorder(folder / "bin" / "ocirt", record, set(modules.split()))


def check(verb: str, modules: set[str]) -> None:
    assert not modules & NEVER, f"{verb} imports what costs milliseconds: {sorted(modules & NEVER)}"
    more = modules - ALWAYS - CLI - {"ocirt.runtime"} - ALLOWED[verb]
    assert not more, f"{verb} imports more than it needs: {sorted(more)}"


@pytest.fixture
def root(tmp_path: Path, recorder: Recorder) -> Iterator[tuple[str | Path, ...]]:
    """The flag for a state root, in which the container "one" is gone afterwards."""
    flag = ("--root", tmp_path / "state")
    yield flag
    command(recorder.executable, *flag, "delete", "--force", "one")


@pytest.mark.root
def test_each_verb_of_a_containers_life_imports_little(
    recorder: Recorder, bundle: Bundle, root: tuple[str | Path, ...]
) -> None:
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    check("create", recorder(*root, "create", "--bundle", bundle.path, "one"))
    check("state", recorder(*root, "state", "one"))
    check("list", recorder(*root, "list"))
    check("list", recorder(*root, "list", "--format", "json"))
    check("start", recorder(*root, "start", "one"))
    check("ps", recorder(*root, "ps", "--format", "json", "one"))
    check("update", recorder(*root, "update", "--memory", "64m", "--cpu-quota", "50000", "one"))
    check("pause", recorder(*root, "pause", "one"))
    check("resume", recorder(*root, "resume", "one"))
    check("exec", recorder(*root, "exec", "one", "/bin/true"))
    check("events", recorder(*root, "events", "--stats", "one"))
    check("kill", recorder(*root, "kill", "one", "KILL"))
    until = time.monotonic() + 10
    while '"stopped"' not in command(recorder.executable, *root, "state", "one").out:
        assert time.monotonic() < until
    check("delete", recorder(*root, "delete", "one"))


@pytest.mark.root
def test_run_imports_little(recorder: Recorder, bundle: Bundle, root: tuple[str | Path, ...]) -> None:
    check("run", recorder(*root, "run", "--bundle", bundle.path, "one"))


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "pause", "resume", "events"])
def test_an_unknown_container_costs_no_more(recorder: Recorder, tmp_path: Path, verb: str) -> None:
    check(verb, recorder("--root", tmp_path / "state", verb, "unknown", code=1))


def test_create_without_a_bundle_costs_no_more(recorder: Recorder, tmp_path: Path) -> None:
    check("create", recorder("--root", tmp_path / "state", "create", "--bundle", tmp_path, "one", code=1))


def test_the_recorder_sees_what_a_cold_verb_imports(recorder: Recorder) -> None:
    """That is: this test can fail."""
    assert {"click", "re"} <= recorder("--help")


def test_every_hot_verb_has_its_list() -> None:
    from ocirt.cli.verbs import VERBS

    assert {name for name, verb in VERBS.items() if verb.hot} == set(ALLOWED)


@pytest.mark.parametrize("module", ["ocirt.runtime.create", "ocirt.runtime.run", "ocirt.runtime.state"])
def test_the_library_imports_as_little_under_a_bare_python(module: str) -> None:
    """`python -IS` with nothing but the package: what the runtime needs is in the standard library."""
    code = (
        f"import sys; before = set(sys.modules); sys.path.append({str(Path(ocirt.__file__).parents[1])!r}); "
        f"import {module}; print(*set(sys.modules) - before)"
    )
    out = subprocess.run(
        [os.path.realpath(sys.executable), "-IS", "-c", code], capture_output=True, text=True, check=True, env={}
    ).stdout
    assert not set(out.split()) & NEVER
