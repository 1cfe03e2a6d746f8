"""spec, features, explain and check, as an engine or a person calls the installed executable."""

from __future__ import annotations

import json
import os
import pty
import tempfile
from pathlib import Path

import pytest
from support import OCIRT, Bundle, Runtime, command, default_config, traces, tree_of


def test_spec_writes_a_configuration_and_never_over_one(tmp_path: Path) -> None:
    done = command(OCIRT, "spec", "--bundle", tmp_path)
    assert (done.code, done.out, done.err) == (0, "", "")
    written = (tmp_path / "config.json").read_text()
    assert json.loads(written)["process"]["args"] == ["sh"]
    again = command(OCIRT, "spec", cwd=tmp_path)
    assert again.code == 1
    assert "config.json exists already" in again.err
    assert (tmp_path / "config.json").read_text() == written


@pytest.mark.parametrize("flag", ["-f", "--file"])
def test_spec_writes_where_it_is_told(tmp_path: Path, flag: str) -> None:
    """A name counts from the bundle, as crun's does."""
    assert command(OCIRT, "spec", "-b", tmp_path, flag, "mine.json", cwd="/").code == 0
    assert command(OCIRT, "spec", "-b", "/nowhere", flag, tmp_path / "whole.json").code == 0
    assert json.loads((tmp_path / "mine.json").read_text()) == json.loads((tmp_path / "whole.json").read_text())
    assert not (tmp_path / "config.json").exists()


@pytest.mark.root
def test_a_rootless_spec_is_for_whoever_calls() -> None:
    """What runc's has: the caller is root inside, the network and /sys are the host's, there are no limits."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        done = command(OCIRT, "spec", "--rootless", "-b", folder, user=1234, group=4321)
        assert done.code == 0, done.err
        linux = json.loads((Path(folder) / "config.json").read_text())["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 1234, "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 4321, "size": 1}]
    kinds = [one["type"] for one in linux["namespaces"]]
    assert "user" in kinds and "network" not in kinds and "resources" not in linux


@pytest.mark.root
def test_a_rootless_spec_runs(bundle: Bundle, runtime: Runtime) -> None:
    (bundle.path / "config.json").unlink()
    assert runtime("spec", "--rootless", "-b", bundle.path).code == 0
    bundle.config = json.loads((bundle.path / "config.json").read_text())
    bundle.config["process"]["terminal"] = False
    done = runtime.sh(
        bundle, "id -u; cat /proc/self/uid_map; test -e /sys/kernel && ! mkdir /x 2>/dev/null && echo all"
    )
    assert (done.code, done.err) == (0, "")
    assert done.out.split() == ["0", "0", "0", "1", "all"]


def test_spec_says_which_folder_is_missing(tmp_path: Path) -> None:
    done = command(OCIRT, "spec", "-b", tmp_path / "no")
    assert done.code == 1
    assert f"{tmp_path}/no/config.json: No such file or directory" in done.err


@pytest.mark.parametrize("verb", ["list", "spec", "explain", "features", "check"])
def test_each_cold_verb_runs_through_a_symlink_with_an_empty_environment(tmp_path: Path, verb: str) -> None:
    """As an engine calls it: from another working directory, by a relative link, with nothing in the environment."""
    bundle, elsewhere = tmp_path / "bundle", tmp_path / "elsewhere"
    (bundle / "rootfs" / "bin").mkdir(parents=True)
    (bundle / "rootfs" / "bin" / "true").touch()
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to(os.path.relpath(OCIRT, elsewhere))
    words = {"list": ["--root", "../state", "list"], "spec": ["spec", "-b", "../bundle"]}
    if verb in ("explain", "check"):
        (bundle / "config.json").write_text(json.dumps(default_config()))
    done = command(
        "./link", *words.get(verb, [verb] if verb == "features" else [verb, "../bundle"]), cwd=elsewhere, env={}
    )
    assert done.code == 0, done.err
    expected = {"list": "ID ", "spec": "", "explain": f"bundle  {bundle}\n", "check": f"{bundle}/config.json: ok"}
    expected["features"] = '{\n    "ociVersionMin": "1.0.0",\n'
    assert done.out.startswith(expected[verb])
    if verb == "spec":
        assert (bundle / "config.json").exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "words", [["B"], ["-b", "B"], ["--bundle=B"], ["-b=B"], ["--all", "B"], ["B", "--json"]], ids=" ".join
)
def test_explain_leaves_nothing_behind(bundle: Bundle, runtime: Runtime, words: list[str]) -> None:
    before, files = traces(runtime.root), tree_of(bundle.path)
    done = runtime("explain", *(word.replace("B", str(bundle.path)) for word in words))
    assert done.code == 0, done.err
    assert f"{bundle.path}/rootfs" in done.out
    after = traces(runtime.root)
    assert (before.cgroups, before.mounts, before.state) == (after.cgroups, after.mounts, after.state)
    assert tree_of(bundle.path) == files
    assert not runtime.root.exists()


def test_explain_without_a_bundle_takes_this_folder(bundle: Bundle) -> None:
    done = command(OCIRT, "explain", cwd=bundle.path)
    assert done.out == command(OCIRT, "explain", bundle.path).out


def test_explain_of_a_broken_bundle_says_what_create_would(bundle: Bundle, runtime: Runtime) -> None:
    bundle.config["process"]["cwd"] = "relative"
    bundle.write()
    explained, created = runtime("explain", bundle.path), runtime("create", "-b", bundle.path, "one")
    assert explained.code == created.code == 1
    assert explained.err == created.err
    assert "/process/cwd: expected an absolute path" in explained.err


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("", True), ("1", False)])
def test_colour_is_for_terminals_whose_user_has_nothing_against_it(
    bundle: Bundle, no_color: str | None, coloured: bool
) -> None:
    assert "\033" not in command(OCIRT, "explain", bundle.path).out
    master, slave = pty.openpty()
    pid = os.fork()
    if pid == 0:
        os.dup2(slave, 1)
        os.execve(OCIRT, ["ocirt", "explain", str(bundle.path)], {} if no_color is None else {"NO_COLOR": no_color})
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:  # EIO: the other side is closed
        pass
    os.close(master)
    assert os.waitpid(pid, 0)[1] == 0
    assert (b"\033[1m" in shown) is coloured


def test_check_exits_with_0_for_warnings_and_1_for_errors(bundle: Bundle) -> None:
    assert command(OCIRT, "check", bundle.path).code == 0
    bundle.config["hooks"] = None
    bundle.write()
    done = command(OCIRT, "check", bundle.path)
    assert done.code == 0
    assert "warning: /hooks: null" in done.out
    bundle.config["process"]["cwd"] = "x"
    bundle.write()
    done = command(OCIRT, "check", bundle.path)
    assert (done.code, done.err) == (1, "")
    assert 'error: /process/cwd: expected an absolute path, got "x"' in done.out
    assert done.out.splitlines()[-1].endswith("not usable: 1 error, 1 warning")


def test_check_prints_json_for_tools(bundle: Bundle) -> None:
    path = f"{bundle.path}/config.json"
    good = {"path": path, "ok": True, "problems": []}
    assert json.loads(command(OCIRT, "check", "--json", bundle.path).out) == good
    bundle.config["root"]["readonly"] = "yes"
    bundle.write()
    done = command(OCIRT, "check", "--json", bundle.path)
    assert done.code == 1
    report = json.loads(done.out)
    assert report["ok"] is False
    (problem,) = report["problems"]
    text = Path(path).read_text().splitlines()[problem["line"] - 1]
    assert text[problem["column"] - 1 :].startswith('"readonly": "yes"')
    del problem["line"], problem["column"]
    assert problem == {
        "level": "error",
        "code": "schema",
        "pointer": "/root/readonly",
        "message": 'expected true or false, got "yes"',
        "expected": "true or false",
        "got": '"yes"',
        "hint": "",
    }


@pytest.mark.parametrize("words", [["--nonsense"], ["a", "b"], ["-b", "a", "b"], ["--json=x"]], ids=" ".join)
def test_what_could_not_be_checked_is_no_bad_bundle(words: list[str]) -> None:
    done = command(OCIRT, "check", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ocirt: ")


def test_check_of_no_bundle_is_one_problem(tmp_path: Path) -> None:
    done = command(OCIRT, "check", tmp_path / "no")
    assert done.code == 1
    assert "cannot open the bundle: No such file or directory" in done.out
    assert "cannot open it: No such file or directory" in command(OCIRT, "check", tmp_path).out
