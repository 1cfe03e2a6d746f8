"""Every other command as a user calls it: what it prints, and what is so afterwards."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Ocim

pytestmark = pytest.mark.root
PATIENCE = 120.0


@pytest.fixture(scope="module")
def web(ocim: Ocim) -> str:
    script = "echo one; echo two >&2; mkdir /made; echo x >/made/file; rm /etc/group; exec sleep 1000"
    ocim("run", "-d", "--name", "web", "--label", "k=v", "-v", "vol:/data", "box:1", "sh", "-c", script)
    deadline = time.monotonic() + PATIENCE
    while "/made/file" not in ocim("diff", "web") or "/etc/group" not in ocim("diff", "web"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return "web"


def test_ps(ocim: Ocim, web: str) -> None:
    lines = ocim("ps").splitlines()
    assert lines[0].split("  ")[0] == "CONTAINER ID" and lines[0].split()[-1] == "NAMES"
    row = json.loads(ocim("container", "ls", "--format", "json", "--filter", "name=web"))
    assert (row["Names"], row["State"], row["Image"], row["Networks"]) == ("web", "running", "box:1", "none")
    assert row["Status"].startswith("Up ") and row["Labels"] == "a=b,k=v" and row["Mounts"] == "vol"
    assert ocim("ps", "-q", "--no-trunc") == ocim("inspect", "-f", "{{.Id}}", web)
    assert ocim("ps", "--filter", "label=k=w", "-q") == ""
    assert ocim("ps", "--format", 'table {{.Names}}\t{{.Label "k"}}').splitlines() == ["NAMES     k", "web       v"]
    assert "not known" in ocim.error("ps", "--filter", "nope=1")


def test_logs(ocim: Ocim, web: str) -> None:
    done = ocim.run("logs", web)
    assert (done.stdout, done.stderr) == (b"one\n", b"two\n")
    stamped = ocim.run("logs", "-t", "--tail", "1", web)
    line = (stamped.stdout + stamped.stderr).decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (one|two)\n", line)
    assert ocim.run("logs", "--until", "24h", web).stdout == b""
    assert ocim.run("logs", "--since", "24h", web).stdout == b"one\n"


def test_follow_ends_with_the_container(ocim: Ocim) -> None:
    ocim("run", "-di", "--name", "talks", "box:1", "sh", "-c", "read line; echo $line")
    process = ocim.popen("logs", "-f", "talks", stdout=subprocess.PIPE)
    ocim("attach", "talks", input="words\n")
    output, _ = process.communicate(timeout=PATIENCE)
    assert output == b"words\n" and process.returncode == 0
    ocim("rm", "talks")


def test_what_looks_at_it(ocim: Ocim, web: str) -> None:
    assert "sleep 1000" in ocim("top", web)
    rows = ocim("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", web)
    assert rows == "web 1"
    assert ocim("port", web) == ""
    assert json.loads(ocim("inspect", web))[0]["Name"] == "/web"
    assert ocim("inspect", "--type", "volume", "-f", "{{.Driver}}", "vol") == "local"
    done = ocim.run("inspect", web, "nothing", code=1)
    assert b"nothing" in done.stderr and len(json.loads(done.stdout)) == 1


def test_diff(ocim: Ocim, web: str) -> None:
    assert {"A /made", "A /made/file", "D /etc/group"} <= set(ocim("diff", web).splitlines())


def test_cp_out(ocim: Ocim, web: str) -> None:
    ocim("cp", f"{web}:/made/file", "copied")
    assert (ocim.folder / "copied").read_text() == "x\n"
    ocim("cp", f"{web}:/made", "new")
    ocim("cp", f"{web}:/made", "new")
    ocim("cp", f"{web}:/made/.", "new")
    found = sorted(str(path.relative_to(ocim.folder / "new")) for path in (ocim.folder / "new").rglob("*"))
    assert found == ["file", "made", "made/file"]
    archive = ocim.run("cp", f"{web}:/made", "-").stdout
    (ocim.folder / "made.tar").write_bytes(archive)
    with tarfile.open(ocim.folder / "made.tar") as tar:
        assert [name.rstrip("/") for name in tar.getnames()] == ["made", "made/file"]
    assert "there is no /nope" in ocim.error("cp", f"{web}:/nope", ".")
    assert "CONTAINER:PATH" in ocim.error("cp", "copied", "new")


def test_cp_in(ocim: Ocim, web: str) -> None:
    (ocim.folder / "tree").mkdir()
    (ocim.folder / "tree" / "leaf").write_text("leaf\n")
    ocim("cp", "tree", f"{web}:/tmp")
    ocim("cp", "tree/.", f"{web}:/tmp/other")
    ocim("cp", "tree/leaf", f"{web}:/tmp/named")
    ocim("cp", "tree/leaf", f"{web}:/data/")
    assert ocim("exec", web, "cat", "/tmp/tree/leaf", "/tmp/other/leaf", "/tmp/named", "/data/leaf") == "\n".join(
        ["leaf"] * 4
    )
    ocim("cp", "-", f"{web}:/tmp", input=(ocim.folder / "made.tar").read_bytes())
    assert ocim("exec", web, "cat", "/tmp/made/file") == "x"


def test_cp_follows_no_link_of_the_container_s_to_the_host(ocim: Ocim, web: str) -> None:
    ocim("exec", web, "sh", "-c", "mkdir -p /tmp/l && echo in >/tmp/l/passwd; rm -rf /tmp/out; echo >/tmp/out")
    (ocim.folder / "safe").mkdir()
    ocim("exec", web, "sh", "-c", f"rm /tmp/out; /bin/busybox ln -s {ocim.folder}/safe /tmp/out")
    (ocim.folder / "thing").write_text("thing")
    ocim.run("cp", "thing", f"{web}:/tmp/out/thing", code=None)
    assert list((ocim.folder / "safe").iterdir()) == []


def test_commit_and_history(ocim: Ocim, web: str) -> None:
    image = ocim(
        "commit", "-m", "words", "-a", "me", "-c", "ENV NEW=1", "-c", 'CMD ["cat", "/made/file"]', web, "box:2"
    )
    assert ocim("inspect", "-f", "{{.Id}} {{.Author}}", "box:2") == f"{image} me"
    assert ocim("run", "--rm", "box:2") == "x"
    steps = ocim("history", "--format", "{{.Comment}}", "box:2").splitlines()
    assert steps[0] == "words" and len(steps) == 2
    ocim("rmi", "box:2")


def test_export_and_import(ocim: Ocim, web: str) -> None:
    ocim("export", "-o", "files.tar", web)
    ocim("import", "files.tar", "again:1")
    assert ocim("run", "--rm", "again:1", "cat", "/made/file") == "x"
    ocim("rmi", "again:1")


def test_pause_rename_restart(ocim: Ocim, web: str) -> None:
    assert ocim("pause", web) == web
    assert "(Paused)" in ocim("ps", "--format", "{{.Status}}")
    assert "is paused" in ocim.error("exec", web, "true")
    ocim("unpause", web)
    ocim("rename", web, "other")
    assert "there is no container web" in ocim.error("pause", web)
    ocim("rename", "other", web)
    assert ocim("restart", "-t", "0", web) == web
    assert ocim("inspect", "-f", "{{.State.Running}}", web) == "true"


def test_the_end_of_one(ocim: Ocim) -> None:
    ocim("run", "-d", "--name", "brief", "box:1", "sh", "-c", "trap 'exit 3' TERM; echo; while :; do sleep 0.05; done")
    process = ocim.popen("wait", "brief", stdout=subprocess.PIPE)
    assert ocim("kill", "-s", "USR1", "brief", code=None) in ("brief", "")
    assert ocim("stop", "-t", "60", "brief") == "brief"
    output, _ = process.communicate(timeout=PATIENCE)
    assert output.strip() == ocim("wait", "brief").encode()
    assert "is not running" in ocim.error("kill", "brief")
    assert ocim("start", "brief") == "brief"
    assert "running" in ocim.error("rm", "brief")
    assert ocim("rm", "-f", "brief", "no-such") == "brief\nno-such"
    assert "there is no container brief" in ocim.error("rm", "brief")


def test_several_names_one_of_which_is_wrong(ocim: Ocim) -> None:
    ocim("create", "--name", "first", "box:1")
    ocim("create", "--name", "last", "box:1")
    done = ocim.run("rm", "first", "wrong", "last", code=1)
    assert done.stdout == b"first\nlast\n" and b"wrong" in done.stderr


def test_volumes(ocim: Ocim, web: str) -> None:
    assert ocim("volume", "create", "--label", "a=b", "mine") == "mine"
    unnamed = ocim("volume", "create")
    assert len(unnamed) == 64
    assert ocim("volume", "ls", "-q", "-f", "label=a=b") == "mine"
    assert ocim("volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Labels}}", "-f", "name=mine") == "mine local a=b"
    assert "in use" in ocim.error("volume", "rm", "vol")
    assert ocim("volume", "rm", "mine") == "mine"
    assert unnamed in ocim("volume", "prune", "-f")
    assert b"there is no volume mine" in ocim.run("volume", "inspect", "mine", code=1).stderr
    assert ocim("volume", "rm", "-f", "mine") == "mine"


def test_images_and_archives(ocim: Ocim) -> None:
    ocim("tag", "box:1", "localhost/team/box:x")
    assert ocim("images", "--format", "{{.Repository}}:{{.Tag}}", "localhost/team/box") == "localhost/team/box:x"
    for kind in ("oci", "docker"):
        ocim("save", "--format", kind, "-o", f"{kind}.tar", "localhost/team/box:x")
        assert "Untagged: localhost/team/box:x" in ocim("rmi", "localhost/team/box:x")
        assert ocim("load", "-i", f"{kind}.tar") == "Loaded image: localhost/team/box:x"
    assert ocim("image", "inspect", "-f", "{{index .Config.Labels `a`}}", "localhost/team/box:x") == "b"
    assert ocim("images", "-q", "box:1").count("\n") == 0
    ocim("rmi", "localhost/team/box:x")
    assert "there is no image" in ocim.error("rmi", "localhost/team/box:x")


def test_the_system(ocim: Ocim) -> None:
    assert ocim("system", "df").splitlines()[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert "Everything" in ocim("system", "check")
    assert ocim("info", "--format", "{{.Driver}} {{.Images}}").split()[0] in ("overlay", "vfs", "btrfs")
    ocim("create", "--name", "stale", "box:1")
    assert "Total reclaimed space" in ocim("system", "prune", "-f")
    assert "stale" not in ocim("ps", "-a", "--format", "{{.Names}}").splitlines()
    assert re.fullmatch(r"ocim \S+", ocim("version"))


@contextmanager
def registry(ocim: Ocim, *words: str) -> Iterator[str]:
    """Its address."""
    environment = ocim.environment | {
        "OCIM_ROOT": str(ocim.folder / "served"),
        "OCIM_RUN": str(ocim.folder / "served-run"),
    }
    command = [ocim.path, "registry", "serve", "--address", "127.0.0.1:0", *words]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        assert process.stdout is not None
        seen = b""
        try:
            while not (found := re.search(rb"http://(127\.0\.0\.1:\d+)", seen)):
                assert select.select([process.stdout], [], [], PATIENCE)[0], seen
                data = os.read(process.stdout.fileno(), 4096)
                assert data, seen
                seen += data
            yield found[1].decode()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)


def test_push_and_pull(ocim: Ocim) -> None:
    with registry(ocim) as address:
        name = f"{address}/team/box:1"
        ocim("tag", "box:1", name)
        pushed = ocim("push", name)
        digest = re.search(r"digest: (sha256:\w{64})", pushed)
        assert digest
        ocim("rmi", name)
        assert "there is no image" in ocim.error("run", "--rm", "--pull", "never", name, "true", code=125)
        pulled = ocim("pull", name)
        assert f"Digest: {digest[1]}" in pulled and pulled.splitlines()[-1] == name
        assert ocim("pull", "-q", name) == name
        ocim("rmi", name)
        done = ocim.run("run", "--rm", name, "echo", "from a registry")
        assert done.stdout == b"from a registry\n" and b"it is pulled" in done.stderr
        assert ocim("pull", "-aq", f"{address}/team/box") == name
        ocim("rmi", name)
        assert "nope" in ocim.error("pull", f"{address}/team/nope:1")


def test_login(ocim: Ocim) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (ocim.folder / "htpasswd").write_text(f"me:{hashed}\n")
    with registry(ocim, "--htpasswd", str(ocim.folder / "htpasswd")) as address:
        name = f"{address}/private:1"
        ocim("tag", "box:1", name)
        assert ocim.run("push", name, code=1).stderr.startswith(b"ocim: ")
        assert ocim.run("login", "-u", "me", "--password-stdin", address, input="wrong\n", code=1).stderr
        assert not (ocim.folder / ".docker" / "config.json").exists()
        assert ocim("login", "-u", "me", "--password-stdin", address, input="secret\n") == "Login Succeeded"
        kept = json.loads((ocim.folder / ".docker" / "config.json").read_text())
        assert address in kept["auths"]
        ocim("push", "-q", name)
        assert "Removing" in ocim("logout", address)
        assert "Not logged in" in ocim("logout", address)
        assert ocim.run("pull", name, code=1).stderr
    ocim("rmi", name)


def test_without_its_packages_ocim_says_what_to_install(ocim: Ocim) -> None:
    """By a Python that has ocirt alone on its path."""
    import ocirt

    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['urllib3'] = None\n"
        "from ocirt.manager.cli.main import main; main(['pull', 'localhost:1/x'])"
    )
    package = os.path.dirname(os.path.dirname(ocirt.__file__))
    done = subprocess.run(["python3", "-c", program, package], env=ocim.environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == b"ocim: the package urllib3 is not installed (pip install 'ocirt[manager]')\n"


def test_boot_starts_what_its_policy_says(ocim: Ocim) -> None:
    """As after a boot: their processes are gone, and nobody stopped them."""
    policies = {"b-always": "always", "b-stopped": "unless-stopped", "b-running": "unless-stopped", "b-no": "no"}
    for name, policy in policies.items():
        ocim("run", "-d", "--name", name, "--restart", policy, "box:1", "sleep", "1000")
    ocim("stop", "-t", "0", "b-stopped")
    for name in policies:
        if name != "b-stopped":
            pid = int(ocim("inspect", "--format", "{{.State.Pid}}", name))
            parent = re.search(r"PPid:\t(\d+)", Path(f"/proc/{pid}/status").read_text())
            assert parent is not None
            os.kill(int(parent[1]), signal.SIGKILL)  # its monitor
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while ocim("ps", "-q", "--filter", "name=b-"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sorted(ocim("system", "boot").split()) == ["b-always", "b-running"]
    assert ocim("system", "boot") == ""
    assert sorted(ocim("ps", "--filter", "name=b-", "--format", "{{.Names}}").split()) == ["b-always", "b-running"]
    ocim("rm", "-f", *policies)
