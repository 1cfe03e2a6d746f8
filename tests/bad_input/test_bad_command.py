"""Ids, files and flags on the command line: what is wrong with them is said in one line, and nothing is left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from bad_checks import VERBS, one_line, refused, same
from support import OCIRT, Bundle, Runtime, command, traces

pytestmark = pytest.mark.root
all_verbs = pytest.mark.parametrize("verb", VERBS)

BAD_IDS = ["", "../x", "a/b", ".x", "..", ".", "x" * 256, "two words", "new\nline", "ümlaut", "a:b", "*", "a\x1b[0m"]
OVER = ("state", "start", "kill", "delete")
"""The verbs over a container that exists."""


@all_verbs
@pytest.mark.parametrize("container_id", BAD_IDS, ids=repr)
def test_an_invalid_id_is_refused(runtime: Runtime, light_bundle: Bundle, container_id: str, verb: str) -> None:
    words = ("is not a container id", "letters, digits and _ + - .", "at most 255")
    refused(runtime, light_bundle, verb, None, words, container_id=container_id)


@pytest.mark.parametrize("verb", OVER)
@pytest.mark.parametrize("container_id", ["unknown", "", "../state", "a/b", "x" * 300, "new\nline"], ids=repr)
def test_an_unknown_id_does_not_exist(runtime: Runtime, light_bundle: Bundle, container_id: str, verb: str) -> None:
    assert runtime("create", "--bundle", light_bundle.path, "other").code == 0
    before = traces(runtime.root)
    one_line(runtime(verb, container_id), ('container "', '" does not exist'))
    same(before, traces(runtime.root))


@pytest.mark.parametrize("container_id", ["unknown", "../state", "", "a/b"], ids=repr)
def test_an_unknown_id_is_no_error_for_delete_force(runtime: Runtime, container_id: str) -> None:
    done = runtime("delete", "--force", container_id)
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("verb", OVER)
def test_without_a_state_root_no_container_exists(tmp_path: Path, verb: str) -> None:
    runtime = Runtime(tmp_path / "never" / "made")
    one_line(runtime(verb, "x"), ('container "x" does not exist',))
    assert not (tmp_path / "never").exists()


@all_verbs
def test_an_existing_id_is_refused_and_its_container_left_alone(
    runtime: Runtime, light_bundle: Bundle, verb: str
) -> None:
    light_bundle.config["process"]["args"] = ["sleep", "100"]
    assert runtime("run", "--detach", "--bundle", light_bundle.write().path, "twice").code == 0
    was = runtime.state("twice")
    refused(runtime, light_bundle, verb, None, ('"twice" exists already', "ocirt delete twice"), container_id="twice")
    assert runtime.state("twice") == was
    assert was["status"] == "running"


@all_verbs
def test_a_bundle_without_a_config_is_refused(runtime: Runtime, light_bundle: Bundle, verb: str) -> None:
    (light_bundle.path / "config.json").unlink()
    words = (f"{light_bundle.path}/config.json: cannot open it: No such file or directory", "ocirt spec")
    refused(runtime, light_bundle, verb, None, words)


@all_verbs
def test_a_bundle_that_is_not_there_is_refused(runtime: Runtime, light_bundle: Bundle, verb: str) -> None:
    light_bundle.path.rename(light_bundle.path.with_name("gone"))
    before = traces(runtime.root)
    done = runtime(*VERBS[verb], "--bundle", light_bundle.path, "bad")
    one_line(done, (f"{light_bundle.path}: cannot open the bundle: No such file or directory",))
    same(before, traces(runtime.root))


@all_verbs
@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "large", "link"])
def test_a_config_that_is_no_file_of_a_sensible_size_is_refused(
    runtime: Runtime, light_bundle: Bundle, verb: str, kind: str
) -> None:
    path = light_bundle.path / "config.json"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, 0o20666, os.makedev(1, 5))
    elif kind == "link":
        path.symlink_to(path)
    else:
        with path.open("wb") as file:
            file.truncate((16 << 20) + 1)
    words = {"large": "16777217 bytes are more than 16777216", "link": "Too many levels of symbolic links"}
    refused(runtime, light_bundle, verb, None, (f"{path}: ", words.get(kind, "expected a regular file")))


@pytest.mark.parametrize("verb", ["create", "run --detach"])
def test_a_terminal_needs_a_console_socket(runtime: Runtime, light_bundle: Bundle, verb: str) -> None:
    light_bundle.config["process"]["terminal"] = True
    words = ("--console-socket", "`run` in the foreground")
    refused(runtime, light_bundle.write(), verb, "/process/terminal", words)


@all_verbs
def test_a_console_socket_needs_a_terminal(runtime: Runtime, light_bundle: Bundle, tmp_path: Path, verb: str) -> None:
    flags = ("--console-socket", tmp_path / "console")
    words = ("--console-socket makes no sense here", "process.terminal true")
    refused(runtime, light_bundle, verb, "/process/terminal", words, flags=flags)


@pytest.mark.parametrize("verb", ["create", "run --detach"])
@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("absent", "No such file or directory"),
        ("deaf", "Connection refused"),
        ("file", "Connection refused"),
        ("long" * 50, "too long"),
    ],
)
def test_a_console_socket_without_a_listener_is_refused(
    runtime: Runtime, light_bundle: Bundle, tmp_path: Path, verb: str, path: str, word: str
) -> None:
    light_bundle.config["process"]["terminal"] = True
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
    flags = ("--console-socket", tmp_path / path)
    refused(runtime, light_bundle.write(), verb, None, (f"--console-socket {tmp_path / path}: ", word), flags=flags)


@all_verbs
@pytest.mark.parametrize("where", ["absent/pid", "folder", "file/pid"])
def test_a_pid_file_that_cannot_be_written_leaves_no_container(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, verb: str, where: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    flags = ("--pid-file", tmp_path / where)
    refused(runtime, bundle, verb, None, (f"write the pid file {tmp_path / where}: ",), flags=flags)
    assert [path for path in sorted(tmp_path.iterdir()) if path != runtime.root] == before
    assert not list((tmp_path / "folder").iterdir())


def test_a_program_that_cannot_be_executed_leaves_no_pid_file(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    script = bundle.rootfs / "bin" / "script"
    script.write_text("#!/no/such/sh\n")
    script.chmod(0o755)
    bundle.config["process"]["args"] = ["script"]
    flags = ("--pid-file", tmp_path / "pid")
    refused(runtime, bundle.write(), "run", "/process/args", ("interpreter",), flags=flags)
    assert not (tmp_path / "pid").exists()


def test_a_log_that_cannot_be_written_stops_nothing(runtime: Runtime, light_bundle: Bundle, tmp_path: Path) -> None:
    log = ("--log", tmp_path / "absent" / "log", "--log-format", "json")
    assert runtime(*log, "run", "--bundle", light_bundle.path, "good").code == 0
    done = runtime(*log, "state", "unknown")
    assert done.code == 1
    lines = done.err.splitlines()
    assert lines[0] == 'ocirt: container "unknown" does not exist'
    assert lines[1] == f"ocirt: cannot write the log {tmp_path}/absent/log: No such file or directory"
    assert len(lines) == 2


USAGE = {
    "an unknown verb": (["frobnicate"], "frobnicate"),
    "an unknown flag": (["create", "--frob", "x"], "--frob"),
    "an unknown letter": (["delete", "-x", "x"], "-x"),
    "an unknown global flag": (["--frob", "state", "x"], "--frob"),
    "a flag without value": (["create", "x", "--bundle"], "--bundle"),
    "a global flag without value": (["--root"], "--root"),
    "a switch with a value": (["delete", "--force=yes", "x"], "--force"),
    "a log format that is none": (["--log-format", "xml", "state", "x"], "xml"),
    "too many arguments": (["state", "x", "y"], "y"),
    "too many for run": (["run", "a/", "b", "c"], "c"),
    "no id": (["create"], "ID"),
    "a run of nothing": (["run"], "BUNDLE"),
}


@pytest.mark.parametrize(("words", "named"), USAGE.values(), ids=USAGE)
def test_a_command_line_that_makes_no_sense_is_explained(runtime: Runtime, words: list[str], named: str) -> None:
    before = traces(runtime.root)
    done = runtime(*words)
    assert done.code != 0
    assert done.out == ""
    assert named in done.err, done.err
    assert done.err.startswith(("ocirt: ", "Usage: ")), done.err
    assert "Traceback" not in done.err
    same(before, traces(runtime.root))
    assert not runtime.root.exists()


def test_no_command_at_all_shows_the_help() -> None:
    done = command(OCIRT)
    assert "create" in done.out + done.err and "Traceback" not in done.err


@pytest.mark.parametrize("signal", ["NOSUCH", "SIGNOSUCH", "0", "65", "-1", "", "RTMIN+99", "TERM TERM", "9.0"])
def test_an_unknown_signal_is_refused(runtime: Runtime, light_bundle: Bundle, signal: str) -> None:
    assert runtime("create", "--bundle", light_bundle.path, "x").code == 0
    one_line(runtime("kill", "--", "x", signal), (f'unknown signal "{signal}"', "from 1 to 64"))
    assert runtime.state("x")["status"] == "created"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--bundle", "{}", "a", "b"], "with --bundle there is one argument, the id"),
        (["run", "word", "id"], '"word" is no bundle'),
        (["run", "./absent/"], "cannot open the bundle ./absent/: No such file or directory"),
    ],
)
def test_a_run_that_names_its_bundle_wrongly_is_refused(
    runtime: Runtime, light_bundle: Bundle, tmp_path: Path, words: list[str], message: str
) -> None:
    before = traces(runtime.root)
    one_line(runtime(*(word.format(light_bundle.path) for word in words), cwd=tmp_path), (message,))
    same(before, traces(runtime.root))


def test_a_working_directory_that_is_gone_is_no_crash(light_bundle: Bundle, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone}; rmdir {gone}; exec {OCIRT} --root state state x"
    one_line(command("/bin/sh", "-c", script), ("does not exist",))
