"""Hooks that fail, hang or are interrupted: what the error says, what becomes of the container, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_input.bad_checks import same
from runtime.hooks import KINDS, Notes, create, note_order
from support import OCIRT, Bundle, Done, Runtime, traces

pytestmark = pytest.mark.root

BEFORE = ("prestart", "createRuntime", "createContainer")
AT_START = ("startContainer", "poststart")


@pytest.fixture
def notes(bundle: Bundle, runtime: Runtime) -> Iterator[Notes]:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "echo program >> /notes/order; exec sleep 100"]
    yield Notes(bundle)
    runtime("delete", "--force", "h")


def until(condition: object) -> None:
    end = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def make(runtime: Runtime, bundle: Bundle, verb: str) -> Done:
    """create and start, or run."""
    if verb == "run":
        return runtime("run", "--bundle", bundle.write().path, "h")
    if verb == "run --detach":
        return runtime("run", "--detach", "--bundle", bundle.write().path, "h")
    done = create(runtime, bundle)
    return runtime("start", "h") if done.code == 0 else done


VERBS = pytest.mark.parametrize("verb", ["create, start", "run", "run --detach"])


@VERBS
@pytest.mark.parametrize("kind", KINDS[:5])
def test_a_failing_hook_ends_the_container_and_poststop_still_runs(
    runtime: Runtime, bundle: Bundle, notes: Notes, kind: str, verb: str
) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root)
    bundle.config["ociVersion"] = "1.3.0"
    note_order(notes, *KINDS[: KINDS.index(kind)], "poststop")
    notes.add(kind, "echo nothing; echo 'the reason' >&2; exit 7")
    notes.add(kind, "echo second >> {notes}/order")
    bundle.write()
    config = bundle.path / "config.json"
    done = make(runtime, bundle, verb)
    assert done.code == 1
    path = bundle.config["hooks"][kind][0]["path"]
    assert done.err.startswith(f"ocirt: {config}:")
    words = f'/hooks/{kind}/0: the {kind} hook {path} failed: exit status 7, its output ends: "nothing; the reason"'
    assert done.err.endswith(f": {words}\n"), done.err
    order = [line for line in notes.lines() if line != "program"]
    assert order == [*KINDS[: KINDS.index(kind)], "poststop"]
    assert ("program" in notes.lines()) <= (kind == "poststart")
    same(before, traces(runtime.root))


@VERBS
@pytest.mark.parametrize("version", ["1.0.2-dev", "1.2.1"])
def test_up_to_spec_1_2_poststart_is_only_warned_of(
    runtime: Runtime, bundle: Bundle, notes: Notes, verb: str, version: str
) -> None:
    bundle.config["process"]["args"] = ["/bin/sh", "-c", "sleep 0.3"]
    bundle.config["ociVersion"] = version
    notes.add("poststart", "exit 1")
    notes.add("poststart", "echo second >> {notes}/order")
    done = make(runtime, bundle, verb)
    assert (done.code, done.err) == (0, "")
    assert notes.lines() == ["second"]


def test_a_warning_is_shown_with_debug(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["ociVersion"] = "1.2.0"
    notes.add("poststart", "exit 3")
    notes.add("poststop", "exit 4")
    assert create(runtime, bundle).code == 0
    done = runtime("--debug", "start", "h")
    assert (done.code, done.err) == (
        0,
        "ocirt: warning: /hooks/poststart/0: the poststart hook /bin/busybox failed: exit status 3\n",
    )
    done = runtime("--debug", "delete", "--force", "h")
    assert "warning: /hooks/poststop/0: the poststop hook /bin/busybox failed: exit status 4" in done.err
    assert done.code == 0


@pytest.mark.parametrize("flags", [(), ("--force",)])
def test_poststop_goes_on_after_a_failure_and_delete_succeeds(
    runtime: Runtime, bundle: Bundle, notes: Notes, flags: tuple[str, ...]
) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root)
    notes.add("poststop", "exit 1")
    bundle.config["hooks"]["poststop"].append({"path": "/no/such/file"})
    notes.add("poststop", "kill -9 $$")
    notes.add("poststop", "echo last >> {notes}/order")
    assert create(runtime, bundle).code == 0
    done = runtime("delete", *flags, "h")
    assert (done.code, done.err) == (0, "")
    assert notes.lines() == ["last"]
    same(before, traces(runtime.root))


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ({"path": "/no/such/file"}, "failed: exec /no/such/file: no such file or directory (it, its script's"),
        ({"path": "/etc/passwd"}, "failed: exec /etc/passwd: permission denied"),
        ({"path": "/bin/busybox", "args": ["sh", "-c", "kill -11 $$"]}, "failed: killed by signal 11"),
        ({"path": "/bin/busybox", "args": ["false"]}, "failed: exit status 1"),
    ],
)
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_what_the_error_says(
    runtime: Runtime, bundle: Bundle, notes: Notes, kind: str, hook: dict[str, object], words: str
) -> None:
    bundle.config["hooks"][kind] = [hook]
    done = make(runtime, bundle, "run")
    assert done.code == 1
    assert f": /hooks/{kind}/0: the {kind} hook {hook['path']} {words}" in done.err, done.err
    assert done.err.count("\n") == 1


def test_a_second_hook_s_pointer(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    notes.add("createRuntime", "true")
    notes.add("createRuntime", "exit 9")
    assert ": /hooks/createRuntime/1: " in create(runtime, bundle).err


def test_only_the_end_of_much_output_is_shown_on_one_line(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    notes.add("createRuntime", "yes filling | head -c 3000000; printf '\\033[2J\\n\\n the end \\n'; exit 1")
    done = create(runtime, bundle)
    assert done.err.endswith('filling; \\x1b[2J; the end"\n'), done.err
    assert len(done.err) < 1200


@pytest.mark.parametrize("kind", KINDS[:5])
def test_a_timeout_kills_the_whole_group(runtime: Runtime, bundle: Bundle, notes: Notes, kind: str) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root)
    bundle.config["ociVersion"] = "1.3.0"
    pids = f"cat /proc/self/status | grep NSpid >> {notes.where(kind)}/pids"
    notes.add(kind, f"({pids}; exec sleep 100) & ({pids}; exec sleep 100) & echo waiting; sleep 100", timeout=1)
    start = time.monotonic()
    done = make(runtime, bundle, "create, start")
    assert 1 <= time.monotonic() - start < 8
    path = bundle.config["hooks"][kind][0]["path"]
    words = f"/hooks/{kind}/0: the {kind} hook {path} failed: it has not ended after 1 s, and was killed, its output"
    assert done.code == 1 and words in done.err and "waiting" in done.err, done.err
    until(lambda: not [one for one in sleepers() if "100" in one])
    same(before, traces(runtime.root))


def test_a_timeout_of_poststop_is_only_warned_of(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    notes.add("poststop", "sleep 100 & sleep 100", timeout=1)
    notes.add("poststop", "echo last >> {notes}/order")
    assert create(runtime, bundle).code == 0
    start = time.monotonic()
    done = runtime("--debug", "delete", "h")
    assert (done.code, notes.lines()) == (0, ["last"])
    assert "poststop hook /bin/busybox failed: it has not ended after 1 s, and was killed" in done.err
    assert 1 <= time.monotonic() - start < 8
    until(lambda: not sleepers())


def sleepers() -> list[str]:
    """The command lines of what sleeps inside our isolation."""
    from support import within

    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if entry.name.isdigit() and "sleep" in words and within(entry):
            found.append(" ".join(words))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("kind", KINDS[:5])
@pytest.mark.parametrize("verb", ["create, start", "run"])
def test_a_signal_to_us_ends_the_hook_and_undoes_all(
    runtime: Runtime, bundle: Bundle, notes: Notes, kind: str, number: signal.Signals, verb: str
) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root)
    note_order(notes, "poststop")
    notes.add(kind, "sleep 100 & echo here > {notes}/here; sleep 100; true")
    words = ["run" if verb == "run" else "create", "-b", bundle.write().path, "h"]
    if verb != "run" and kind in AT_START:
        assert runtime(*words).code == 0
        words = ["start", "h"]
    with subprocess.Popen(
        [OCIRT, "--root", runtime.root, *words], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as ours:
        until(lambda: (notes.path / "here").exists())
        ours.send_signal(number)
        assert ours.wait(10) == 128 + number
    assert notes.lines()[-1:] == ["poststop"]
    until(lambda: not sleepers())
    same(before, traces(runtime.root))


def test_a_second_signal_ends_a_poststop_hook_that_hangs(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root)
    notes.add("createRuntime", "echo > {notes}/first; sleep 100")
    notes.add("poststop", "echo > {notes}/second; sleep 100")
    bundle.write()
    with subprocess.Popen(
        [OCIRT, "--root", runtime.root, "create", "-b", bundle.path, "h"],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as ours:
        for name in ("first", "second"):
            until(lambda name=name: (notes.path / name).exists())
            ours.send_signal(signal.SIGTERM)
        assert ours.wait(10) == 128 + signal.SIGTERM
    until(lambda: not sleepers())
    same(before, traces(runtime.root))


def test_poststop_that_is_interrupted_runs_again_at_the_next_delete(
    runtime: Runtime, bundle: Bundle, notes: Notes
) -> None:
    notes.add("poststop", "echo >> {notes}/order; [ $(wc -l < {notes}/order) = 2 ] || sleep 100")
    assert create(runtime, bundle).code == 0
    with subprocess.Popen([OCIRT, "--root", runtime.root, "delete", "h"], env={}) as ours:
        until(lambda: len(notes.lines()) == 1)
        ours.send_signal(signal.SIGTERM)
        assert ours.wait(10) == 128 + signal.SIGTERM
    assert runtime.state("h")["status"] == "stopped"
    assert runtime("delete", "h").code == 0
    assert len(notes.lines()) == 2


def test_a_creation_that_was_killed_in_a_hook_is_undone_by_delete_force(
    runtime: Runtime, bundle: Bundle, notes: Notes
) -> None:
    runtime.root.mkdir()
    before = traces(runtime.root)
    note_order(notes, "poststop")
    notes.add("createRuntime", "echo > {notes}/here; sleep 2")
    bundle.write()
    with subprocess.Popen(
        [OCIRT, "--root", runtime.root, "create", "-b", bundle.path, "h"],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as ours:
        until(lambda: (notes.path / "here").exists())
        ours.kill()
        ours.wait()
    assert runtime("delete", "--force", "h").err == ""
    assert notes.lines() == ["poststop"]
    until(lambda: not sleepers())
    same(before, traces(runtime.root))


def test_without_any_hook_before_it_a_failed_create_runs_no_poststop(
    runtime: Runtime, bundle: Bundle, notes: Notes
) -> None:
    """There was no container."""
    note_order(notes, "poststop")
    bundle.config["process"]["args"] = ["/no/such/program"]
    assert create(runtime, bundle).code == 1
    assert notes.lines() == []


def test_a_create_that_fails_after_its_hooks_runs_poststop(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    note_order(notes, "createRuntime", "poststop")
    bundle.config["process"]["args"] = ["/no/such/program"]
    done = create(runtime, bundle)
    assert "no such file or directory" in done.err.lower() or "not found" in done.err
    assert notes.lines() == ["createRuntime", "poststop"]


def test_what_poststop_says_while_all_is_undone_is_in_the_error(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    notes.add("createRuntime", "exit 1")
    notes.add("poststop", "echo teardown; exit 2")
    done = create(runtime, bundle)
    assert "/hooks/createRuntime/0: the createRuntime hook" in done.err
    assert "(and then: /hooks/poststop/0: the poststop hook /bin/busybox failed: exit status 2" in done.err
    assert done.err.count("\n") == 1


def test_poststop_runs_for_each_of_two_deletes_at_once_only_once(
    runtime: Runtime, bundle: Bundle, notes: Notes
) -> None:
    notes.add("poststop", "sleep 0.2; echo one >> {notes}/order")
    assert create(runtime, bundle).code == 0
    both = [
        subprocess.Popen([OCIRT, "--root", runtime.root, "delete", "--force", "h"], env={}, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [one.wait(20) for one in both] == [0, 0]
    assert notes.lines() == ["one"]


def test_an_output_file_that_cannot_be_opened(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    bundle.config["annotations"] = {"run.oci.hooks.stdout": "/no/such/folder/file"}
    notes.add("createRuntime", "true")
    done = create(runtime, bundle)
    assert done.code == 1
    assert "/annotations/run.oci.hooks.stdout: open /no/such/folder/file: No such file or directory" in done.err


def test_a_background_process_of_a_failing_hook_goes_with_it(runtime: Runtime, bundle: Bundle, notes: Notes) -> None:
    notes.add("createRuntime", "sleep 100 & echo $! > {notes}/pid; exit 1")
    assert create(runtime, bundle).code == 1
    until(lambda: not alive(int(notes.read("pid"))))
    assert os.path.exists(notes.path)
