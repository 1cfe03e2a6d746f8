"""What an image or a configuration could try: paths that lead out, masks, and rights that were not given. What has a
number (CVE) is in tests/security."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import Bundle, Done, Runtime, command, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

CAPS = "grep ^Cap /proc/self/status"
ALL = ("bounding", "effective", "inheritable", "permitted", "ambient")


def mounts_without(bundle: Bundle, *destinations: str) -> None:
    bundle.config["mounts"] = [one for one in bundle.config["mounts"] if one["destination"] not in destinations]


def add_mount(bundle: Bundle, **mount: Any) -> None:
    bundle.config["mounts"].append(mount)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that nothing may touch."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "ptmx").write_text("host's")
    before = tree_of(folder)
    yield folder
    assert tree_of(folder) == before
    null = os.stat("/dev/null")
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev, null.st_mode & 0o777) == (True, os.makedev(1, 3), 0o666)


# Its root


def test_the_root_of_the_host_cannot_be_reached_by_pivoting_back(runtime: Runtime, bundle: Bundle) -> None:
    done = runtime.sh(
        bundle, "cd / && cd .. && cd ../.. && ls -d /etc/passwd && cat /proc/self/mountinfo | grep -c ' / / '"
    )
    assert done.out.split()[0] == "/etc/passwd"
    roots = runtime.sh(bundle, "cat /proc/self/mountinfo").out.splitlines()
    assert [line for line in roots if line.split()[4].startswith("/..")] == []
    assert sum(line.split()[4] == "/" for line in roots) == 1


# The working directory


def test_a_missing_working_directory_is_created(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["cwd"] = "/new/folder"
    assert runtime.sh(bundle, "pwd").out == "/new/folder\n"


def test_a_working_directory_through_a_symlink_stays_inside(runtime: Runtime, bundle: Bundle, host: Path) -> None:
    (bundle.rootfs / "out").symlink_to(host)
    bundle.config["process"]["cwd"] = "/out"
    done = runtime.sh(bundle, "ls ptmx")
    assert done.code != 0


# passwd


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "absent", "sparse", "symlink loop", "no entry", "binary"])
def test_a_strange_passwd_costs_no_time_and_home_is_the_root(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    passwd = bundle.rootfs / "etc/passwd"
    passwd.unlink()
    if kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "device":
        os.mknod(passwd, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "folder":
        passwd.mkdir()
    elif kind == "sparse":
        with passwd.open("wb") as file:
            file.truncate(1 << 30)
    elif kind == "symlink loop":
        passwd.symlink_to("passwd")
    elif kind == "no entry":
        passwd.write_text("other:x:77:77::/other:/bin/sh\n::::\n\nroot:x:0\n")
    elif kind == "binary":
        passwd.write_bytes(b"root:x:0:0:\xff\xfe:relative/home:/bin/sh\n" + bytes(range(256)))
    done = runtime.sh(bundle, "echo $HOME", timeout=20)
    assert (done.code, done.out) == (0, "/\n"), done.err


def test_home_is_that_of_the_user_in_the_containers_passwd(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert runtime.sh(bundle, "echo $HOME").out == "/home/user\n"


def test_a_passwd_symlink_leads_to_a_file_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    shutil.move(bundle.rootfs / "etc/passwd", bundle.rootfs / "etc/mine")
    (bundle.rootfs / "etc/passwd").symlink_to("/etc/mine")
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert runtime.sh(bundle, "echo $HOME").out == "/home/user\n"


# Masked and readonly paths


def test_masked_files_read_as_empty_and_masked_folders_are_empty_and_neither_can_be_written(
    runtime: Runtime, bundle: Bundle
) -> None:
    (bundle.rootfs / "secret").mkdir()
    (bundle.rootfs / "secret/key").write_text("key")
    (bundle.rootfs / "file").write_text("text")
    bundle.config["root"]["readonly"] = False
    bundle.config["linux"]["maskedPaths"] = ["/secret", "/file", "/nowhere", "/file/below", "/proc/kcore"]
    done = runtime.sh(
        bundle,
        "cat /file /proc/kcore; ls -A /secret; touch /secret/x || echo refused; echo more > /file; cat /file;"
        " stat -c %F /file",
    )
    assert done.out.splitlines() == ["refused", "character special file"], done.err
    assert (bundle.rootfs / "file").read_text() == "text"
    assert [path.name for path in (bundle.rootfs / "secret").iterdir()] == ["key"]


def test_a_masked_path_through_a_symlink_masks_what_it_leads_to_inside(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "real/key").write_text("key")
    (bundle.rootfs / "link").symlink_to("/real")
    bundle.config["linux"]["maskedPaths"] = ["/link"]
    assert runtime.sh(bundle, "ls -A /real").out == ""


def test_readonly_paths_can_be_read_and_not_written(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "data/file").write_text("text\n")
    bundle.config["root"]["readonly"] = False
    bundle.config["linux"]["readonlyPaths"] = ["/data", "/nowhere", "/proc/sys"]
    done = runtime.sh(
        bundle,
        "cat /data/file; touch /data/x || echo refused; echo x > /proc/sys/kernel/hostname || echo refused;"
        " touch /tmp/x",
    )
    assert (done.out.split(), done.code) == (["text", "refused", "refused"], 0)


def test_a_readonly_path_covers_the_mounts_below_it_and_a_mask_below_it_stays(runtime: Runtime, bundle: Bundle) -> None:
    add_mount(bundle, destination="/top/inner", type="tmpfs", source="tmpfs")
    bundle.config["linux"]["readonlyPaths"] = ["/proc"]
    bundle.config["linux"]["maskedPaths"] = ["/proc/cpuinfo"]
    done = runtime.sh(bundle, "cat /proc/cpuinfo; echo 1 > /proc/self/oom_score_adj || echo refused")
    assert done.out == "refused\n"


# Rights


def caps(done: Done) -> dict[str, int]:
    assert done.code == 0, done.err
    return {line.split(":")[0]: int(line.split()[1], 16) for line in done.out.splitlines()}


def test_without_capabilities_in_the_configuration_there_are_none(runtime: Runtime, bundle: Bundle) -> None:
    del bundle.config["process"]["capabilities"]
    assert set(caps(runtime.sh(bundle, CAPS)).values()) == {0}


def test_each_capability_set_is_exactly_the_configurations(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "ambient": ["CAP_CHOWN"],
    }
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    found = caps(runtime.sh(bundle, CAPS))
    chown, kill, raw = 1 << 0, 1 << 5, 1 << 13
    assert (found["CapBnd"], found["CapInh"], found["CapAmb"]) == (chown | kill | raw, chown, chown)
    # execve of a program without file capabilities by another user: what is ambient (capabilities(7))
    assert (found["CapPrm"], found["CapEff"]) == (chown, chown)


def test_a_user_that_is_not_root_has_no_capabilities_without_ambient_ones(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    found = caps(runtime.sh(bundle, CAPS))
    assert found["CapEff"] == found["CapPrm"] == found["CapAmb"] == found["CapInh"] == 0


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges_is_as_configured(runtime: Runtime, bundle: Bundle, value: bool) -> None:
    bundle.config["process"]["noNewPrivileges"] = value
    assert runtime.sh(bundle, "grep NoNewPrivs /proc/self/status").out.split()[1] == str(int(value))


def test_a_setuid_program_gives_nothing_with_no_new_privileges(runtime: Runtime, bundle: Bundle) -> None:
    setuid = bundle.rootfs / "bin/setuid"
    shutil.copy("/bin/busybox", setuid)
    setuid.chmod(0o4755)
    (bundle.rootfs / "bin/id").unlink()
    (bundle.rootfs / "bin/id").symlink_to("setuid")
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert runtime.sh(bundle, "grep ^Uid /proc/self/status; exec id -u").out.split()[-1] == "1000"


def test_uid_gid_and_groups_are_the_configurations_and_no_others(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["user"] = {"uid": 12345, "gid": 23456, "additionalGids": [7, 9]}
    done = runtime.sh(bundle, "grep -E '^(Uid|Gid|Groups)' /proc/self/status")
    fields = {line.split(":")[0]: line.split()[1:] for line in done.out.splitlines()}
    assert fields == {"Uid": ["12345"] * 4, "Gid": ["23456"] * 4, "Groups": ["7", "9"]}


def test_the_callers_groups_are_dropped(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = ["/bin/grep", "^Groups", "/proc/self/status"]
    bundle.write()
    done = runtime("run", "-b", bundle.path, "g", preexec_fn=lambda: os.setgroups([5, 6]))
    assert done.out.split() == ["Groups:"]


def test_the_umask_is_the_configurations(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["user"]["umask"] = 0o027
    assert runtime.sh(bundle, "umask").out == "0027\n"


def test_resource_limits_are_the_configurations(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 17, "hard": 64},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 22},
    ]
    lines = runtime.sh(bundle, "cat /proc/self/limits").out.splitlines()
    found = {line[:25].strip(): line[25:].split()[:2] for line in lines}
    assert found["Max open files"] == ["17", "64"]
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max stack size"] == [str(1 << 20), str(1 << 22)]


# The program is looked up with the user's rights


def test_a_program_in_a_folder_that_the_user_cannot_enter_is_not_found_there(runtime: Runtime, bundle: Bundle) -> None:
    private = bundle.rootfs / "private"
    private.mkdir(mode=0o700)
    shutil.copy("/bin/busybox", private / "id")
    bundle.config["process"].update(args=["id", "-u"], env=["PATH=/private:/bin"], user={"uid": 1000, "gid": 1000})
    bundle.write()
    done = runtime("run", "-b", bundle.path, "p")
    assert (done.code, done.out) == (0, "1000\n")


def test_a_program_that_only_root_may_execute_is_refused_to_the_user(runtime: Runtime, bundle: Bundle) -> None:
    shutil.copy("/bin/busybox", bundle.rootfs / "bin/mine")
    (bundle.rootfs / "bin/mine").chmod(0o700)
    bundle.config["process"].update(args=["mine"], user={"uid": 1000, "gid": 1000})
    bundle.write()
    done = runtime("run", "-b", bundle.path, "p")
    assert done.code == 1
    assert "permission denied" in done.err


def test_the_path_of_the_host_finds_nothing(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    shutil.copy("/bin/busybox", tmp_path / "onhost")
    bundle.config["process"]["args"] = ["onhost"]
    bundle.write()
    done = runtime("run", "-b", bundle.path, "p", env={"PATH": f"{tmp_path}:/usr/bin"})
    assert done.code == 1
    assert "executable file not found" in done.err


# The network and the names


def test_the_hostname_of_the_host_stays_as_it_is(runtime: Runtime, bundle: Bundle) -> None:
    before = os.uname().nodename
    bundle.config["hostname"] = "inside"
    assert runtime.sh(bundle, "hostname").out == "inside\n"
    assert os.uname().nodename == before


def test_a_container_sees_only_its_own_processes_and_interfaces(runtime: Runtime, bundle: Bundle) -> None:
    done = runtime.sh(bundle, "ls /sys/class/net; ls /proc | grep -E '^[0-9]+$' | head -1; cat /proc/1/comm; true")
    assert done.out.split() == ["lo", "1", "sh"]


def test_nothing_that_is_mounted_inside_shows_on_the_host(runtime: Runtime, bundle: Bundle) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    add_mount(bundle, destination="/m", type="tmpfs", source="tmpfs", options=["rshared"])
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    done = command("/bin/sh", "-c", "true")
    assert done.code == 0
    assert runtime("create", "-b", bundle.path, "m").code == 0
    try:
        assert Path("/proc/self/mountinfo").read_text() == before
    finally:
        runtime("delete", "--force", "m")
