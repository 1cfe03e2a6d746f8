"""Mounts as the container sees them: options, bind mounts, changes of what is mounted, what mount(2) alone can say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import Bundle, Done, Runtime, needs_kernel

pytestmark = pytest.mark.root


def add(bundle: Bundle, destination: str, *options: str, **mount: Any) -> None:
    bundle.config["mounts"].append({"destination": destination, "options": list(options), **mount})


def tmpfs(bundle: Bundle, destination: str, *options: str) -> None:
    add(bundle, destination, *options, type="tmpfs", source="tmpfs")


def bind(bundle: Bundle, source: str | Path, destination: str, *options: str) -> None:
    add(bundle, destination, *(options or ("bind",)), source=str(source))


def privileged(bundle: Bundle) -> None:
    for kind in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][kind] = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]


class Mount:
    """A line of /proc/self/mountinfo (proc(5))."""

    def __init__(self, line: str) -> None:
        before, _, after = line.partition(" - ")
        fields = before.split()
        self.root, self.place = fields[3], fields[4]
        self.options = set(fields[5].split(","))
        self.tags = {tag.partition(":")[0] for tag in fields[6:]}
        self.kind, self.source, rest = after.split(" ", 2)
        self.superblock = set(rest.split(","))


def mounts(runtime: Runtime, bundle: Bundle) -> dict[str, Mount]:
    """place → the topmost mount there, as the container's first process sees it."""
    done = runtime.sh(bundle, "cat /proc/self/mountinfo")
    assert done.code == 0, done.err
    return {mount.place: mount for mount in map(Mount, done.out.splitlines())}


def refused(done: Done, *words: str) -> None:
    assert done.code == 1, done.out
    for word in words:
        assert word in done.err


# Options


@pytest.mark.parametrize(
    ("option", "seen"),
    [
        ("nosuid", "nosuid"), ("nodev", "nodev"), ("noexec", "noexec"), ("ro", "ro"), ("rro", "ro"),
        ("nodiratime", "nodiratime"), ("noatime", "noatime"), ("rnoatime", "noatime"), ("relatime", "relatime"),
        ("nosymfollow", "nosymfollow"), ("rnosymfollow", "nosymfollow"), ("rnodev", "nodev"),
    ],
)  # fmt: skip
def test_a_flag_of_the_mount(runtime: Runtime, bundle: Bundle, option: str, seen: str) -> None:
    tmpfs(bundle, "/m", "mode=755", option)
    assert seen in mounts(runtime, bundle)["/m"].options


@pytest.mark.parametrize("option", ["sync", "dirsync", "lazytime", "mand"])
def test_a_flag_of_the_file_system(runtime: Runtime, bundle: Bundle, option: str) -> None:
    tmpfs(bundle, "/m", "mode=755", option)
    assert option in mounts(runtime, bundle)["/m"].superblock


def test_the_last_of_two_opposite_options_counts(runtime: Runtime, bundle: Bundle) -> None:
    tmpfs(bundle, "/m", "sync", "async", "ro", "rw", "noexec", "rexec", "lazytime", "nolazytime", "size=1m")
    mount = mounts(runtime, bundle)["/m"]
    assert {"rw"} <= mount.options
    assert not {"ro", "noexec"} & mount.options
    assert not {"sync", "lazytime"} & mount.superblock


@pytest.mark.parametrize("option", ["iversion", "silent"])
def test_what_only_mount2_takes(runtime: Runtime, bundle: Bundle, option: str) -> None:
    tmpfs(bundle, "/m", option, "nosuid", "noatime", "ro", "size=64k", "mode=710", "sync")
    mount = mounts(runtime, bundle)["/m"]
    assert {"nosuid", "noatime", "ro"} <= mount.options
    assert {"size=64k", "mode=710", "sync"} <= mount.superblock
    assert mount.kind == "tmpfs"


def test_mount2_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    from runtime.test_copyup import user_namespace

    user_namespace(bundle)
    tmpfs(bundle, "/m", "silent", "size=64k", "mode=710")
    add(bundle, "/m", "remount", "size=128k", "nosuid", "ro", type="tmpfs")
    bundle.config["linux"]["rootfsPropagation"] = "shared"
    found = mounts(runtime, bundle)
    assert {"size=128k", "mode=710"} <= found["/m"].superblock
    assert {"nosuid", "ro"} <= found["/m"].options
    assert found["/"].tags == {"shared"}


@needs_kernel(6, 15, "mounts on detached trees")
def test_mount2_needs_a_mount_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"] = [
        one for one in bundle.config["linux"]["namespaces"] if one["type"] != "mount"
    ]
    tmpfs(bundle, "/m", "silent", "mode=755")
    refused(runtime.sh(bundle, "true"), "/mounts/7", "need a mount namespace of the container's own")
    bundle.config["mounts"][-1]["options"] = ["tmpcopyup", "nosymfollow", "ro"]
    bundle.config["linux"]["rootfsPropagation"] = "rslave"
    bind(bundle, bundle.rootfs, "/n", "rbind", "rro", "rprivate")
    done = runtime.sh(bundle, "ls /n/bin/sh && touch /m/x")
    assert done.out == "/n/bin/sh\n"
    assert "Read-only file system" in done.err


@pytest.mark.parametrize("option", ["noiversion", "loud", "nomand", "defaults", "async", "symfollow", "rsymfollow"])
def test_an_option_that_is_the_default_changes_nothing(runtime: Runtime, bundle: Bundle, option: str) -> None:
    tmpfs(bundle, "/m", "mode=755", option)
    assert mounts(runtime, bundle)["/m"].options == {"rw", "relatime"}


def test_several_options_in_one_string(runtime: Runtime, bundle: Bundle) -> None:
    tmpfs(bundle, "/m", "size=64k,mode=710")
    assert {"size=64k", "mode=710"} <= mounts(runtime, bundle)["/m"].superblock


def test_an_unknown_option_is_refused_in_the_kernels_words(runtime: Runtime, bundle: Bundle) -> None:
    tmpfs(bundle, "/m", "nosuid", "sise=1m")
    refused(runtime.sh(bundle, "true"), "/mounts/7", "tmpfs", "/m", "nosuid,sise=1m", "Unknown parameter 'sise'")


def test_a_failure_of_mount2_names_the_mount(runtime: Runtime, bundle: Bundle) -> None:
    add(bundle, "/m", "silent", "sise=1m", type="tmpfs", source="here")
    refused(runtime.sh(bundle, "true"), "/mounts/7: mount tmpfs here on /m (silent,sise=1m): Invalid argument")


# File systems


def test_an_overlay_with_a_lowerdir_too_long_for_fsconfig(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    layers = [tmp_path / f"{number}-{'x' * 90}" for number in range(8)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"file{number}").touch()
    lower = ":".join(map(str, layers))
    assert 255 < len(lower) < 4000
    add(bundle, "/m", f"lowerdir={lower}", "nosuid", type="overlay", source="overlay")
    done = runtime.sh(bundle, "ls /m")
    assert done.out.split() == [f"file{number}" for number in range(8)], done.err
    mount = mounts(runtime, bundle)["/m"]
    assert mount.kind == "overlay"
    assert "nosuid" in mount.options


def test_a_failure_with_long_options_stays_readable(runtime: Runtime, bundle: Bundle) -> None:
    add(bundle, "/m", "lowerdir=" + "/nothing" * 100, type="overlay", source="overlay")
    done = runtime.sh(bundle, "true")
    refused(done, "/mounts/7: mount overlay on /m (lowerdir=/nothing", "…)")
    assert len(done.err) < 500


def test_options_longer_than_a_page_are_refused(runtime: Runtime, bundle: Bundle) -> None:
    add(bundle, "/m", "lowerdir=" + "/x" * 2100, type="overlay", source="overlay")
    refused(runtime.sh(bundle, "true"), "/mounts/7/options", "at most 4095 bytes", "got 4209")


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "mqueue", "devpts", "proc", "sysfs", "cgroup2"])
def test_a_type_of_file_system(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    add(bundle, "/m", "nosuid", "noexec", type=kind, source="anything")
    mount = mounts(runtime, bundle)["/m"]
    assert (mount.kind, mount.source) == (kind, "anything")
    assert {"nosuid", "noexec"} <= mount.options


def test_a_type_that_the_kernel_does_not_know(runtime: Runtime, bundle: Bundle) -> None:
    add(bundle, "/m", type="nofs")
    refused(runtime.sh(bundle, "true"), "/mounts/7: mount nofs on /m", "does not know this file system")


def test_a_tmpfs_has_the_mode_of_the_directory_under_it(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "m").mkdir()
    (bundle.rootfs / "m").chmod(0o2750)
    tmpfs(bundle, "/m")
    tmpfs(bundle, "/new")
    tmpfs(bundle, "/bin/../m/sub", "mode=700")
    done = runtime.sh(bundle, "stat -c %a /m /new /m/sub")
    assert done.out.split() == ["2750", "1777", "700"], done.err


def test_the_hosts_proc_and_sys_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """Without a pid and a network namespace of its own there is nothing else to show."""
    from runtime.test_copyup import user_namespace

    user_namespace(bundle)
    bundle.config["linux"]["namespaces"] = [
        one for one in bundle.config["linux"]["namespaces"] if one["type"] not in ("pid", "network")
    ]
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    done = runtime.sh(bundle, "readlink /proc/self/ns/net; ls /sys/class; touch /sys/x; cat /proc/self/mountinfo")
    lines = done.out.splitlines()
    assert lines[0] == os.readlink("/proc/self/ns/net"), done.err
    assert "net" in lines
    assert "Read-only file system" in done.err
    found = {mount.place: mount for mount in map(Mount, (line for line in lines if " - " in line))}
    assert found["/proc"].kind == "proc"
    assert "ro" in found["/sys"].options
    assert {"nosuid", "noexec", "nodev"} <= found["/sys"].options


def test_terminals_in_a_small_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    from runtime.test_copyup import user_namespace

    user_namespace(bundle)
    for name in ("uidMappings", "gidMappings"):
        bundle.config["linux"][name][0]["size"] = 3
    assert mounts(runtime, bundle)["/dev/pts"].kind == "devpts"


# Bind mounts


def test_flags_of_all_that_is_mounted_below(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "below"], check=True)
    try:
        bind(bundle, source, "/one", "rbind", "ro", "nosuid")
        bind(bundle, source, "/all", "rbind", "rro", "rnosymfollow", "rnoatime", "noexec")
        found = mounts(runtime, bundle)
    finally:
        subprocess.run(["umount", source / "below"], check=True)
    assert {"ro", "nosuid"} <= found["/one"].options
    assert not {"ro", "nosuid"} & found["/one/below"].options
    for place in ("/all", "/all/below"):
        assert {"ro", "nosymfollow", "noatime"} <= found[place].options
    assert "noexec" in found["/all"].options
    assert "noexec" not in found["/all/below"].options


def test_a_flag_or_a_value_of_a_file_system_is_ignored_with_a_warning(
    runtime: Runtime, bundle: Bundle, tmp_path: Path
) -> None:
    bind(bundle, tmp_path, "/m", "nosuid", "bind", "async", "sync", "silent", "mode=755")
    assert runtime.sh(bundle, "true").code == 0
    done = runtime("check", bundle.path)
    assert done.code == 0
    assert '/mounts/7/options/3: "sync"' in done.out + done.err
    assert '/mounts/7/options/5: "mode=755"' in done.out + done.err
    assert (done.out + done.err).count("ignored") == 2


@pytest.mark.parametrize("option", ["RO", "readonly", "ro,nosuid", "size=1k,ro", "idmapped"])
def test_an_option_that_is_none_of_a_bind_mount_is_refused(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, option: str
) -> None:
    """Or else a slip in "ro" would leave it writable."""
    bind(bundle, tmp_path, "/m", "nosuid", "bind", option)
    refused(runtime.sh(bundle, "true"), f'/mounts/7/options/2: a bind mount has no option "{option}"')


def test_a_symlink_is_made_anew(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/no where/" + "x" * 37)
    bind(bundle, link, "/a/b/link", "bind", "copy-symlink")
    bind(bundle, tmp_path, "/dir", "bind", "copy-symlink")
    for _ in range(2):  # the second time it is there
        done = runtime.sh(bundle, "readlink /a/b/link; ls /dir/link -d")
        assert done.out.split("\n")[0] == os.readlink(link), done.err
    (bundle.rootfs / "a/b/link").unlink()
    (bundle.rootfs / "a/b/link").symlink_to(os.readlink(link) + "y")
    refused(runtime.sh(bundle, "true"), "/mounts/7", "File exists")


def test_a_symlink_is_mounted_itself(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/bin/busybox")
    (bundle.rootfs / "old").symlink_to("/etc/passwd")
    bind(bundle, link, "/new", "bind", "src-nofollow")
    bind(bundle, link, "/old", "bind", "src-nofollow", "dest-nofollow")
    done = runtime.sh(bundle, "readlink /new; readlink /old; head -1 /etc/passwd")
    assert done.out.split("\n")[:3] == ["/bin/busybox", "/bin/busybox", "root:x:0:0:root:/root:/bin/sh"], done.err


@pytest.mark.parametrize("user", [False, True], ids=["", "in a user namespace"])
@pytest.mark.parametrize("destination", ["/etc/hidden", "/dev/null", "/dev/more/null"])
def test_the_hosts_null_device_is_a_source_as_any(
    runtime: Runtime, bundle: Bundle, destination: str, user: bool
) -> None:
    """Engines hide files so (docker run -v /dev/null:/etc/hidden)."""
    if user:
        from runtime.test_copyup import user_namespace

        user_namespace(bundle)
    bundle.config["mounts"].append({"destination": destination, "source": "/dev/null", "options": ["bind"]})
    bundle.config["root"]["readonly"] = False
    done = runtime.sh(bundle, f"stat -c '%t %T' {destination}; cat {destination}")
    assert done.out == "1 3\n", done.err


def test_a_new_file_in_procfs_is_explained(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["mounts"].append({"destination": "/proc/new", "type": "tmpfs"})
    done = runtime.sh(bundle, "true")
    assert "/mounts/7: mount tmpfs on /proc/new: No such file or directory (the kernel's own file systems" in done.err


def test_a_file_is_mounted_on_a_symlink(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine\n")
    (bundle.rootfs / "etc/link").symlink_to("/etc/passwd")
    bind(bundle, tmp_path / "file", "/etc/link", "bind", "dest-nofollow")
    done = runtime.sh(bundle, "cat /etc/link; head -1 /etc/passwd")
    assert done.out == "mine\nroot:x:0:0:root:/root:/bin/sh\n", done.err


def test_a_destination_that_is_not_followed_has_to_exist(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    bind(bundle, tmp_path, "/not/there", "bind", "dest-nofollow")
    refused(runtime.sh(bundle, "true"), "/mounts/7", "No such file", "has to exist")


@pytest.mark.parametrize("option", ["copy-symlink", "src-nofollow", "dest-nofollow"])
def test_options_of_bind_mounts_alone(runtime: Runtime, bundle: Bundle, option: str) -> None:
    tmpfs(bundle, "/m", option)
    refused(runtime.sh(bundle, "true"), "/mounts/7/options/0", f'"{option}" is for bind mounts')


@pytest.mark.parametrize(
    ("link", "made"),
    [
        ("../run/systemd/resolve/stub.conf", "run/systemd/resolve/stub.conf"),
        ("/run/stub.conf", "run/stub.conf"),
        ("../../../../../../run/stub.conf", "run/stub.conf"),
        ("other", "var/stub.conf"),
    ],
)
def test_a_destination_that_is_a_symlink_to_nothing(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, link: str, made: str
) -> None:
    (tmp_path / "file").write_text("mine\n")
    (bundle.rootfs / "etc/resolv.conf").symlink_to(link)
    (bundle.rootfs / "etc/other").symlink_to("../nowhere/../var/stub.conf" if link == "other" else "x")
    bind(bundle, tmp_path / "file", "/etc/resolv.conf", "bind", "ro")
    done = runtime.sh(bundle, f"cat /etc/resolv.conf /{made}")
    assert done.out == "mine\nmine\n", done.err
    assert (bundle.rootfs / made).is_file()


def test_a_folder_on_the_way_that_is_a_symlink_to_nothing(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    (bundle.rootfs / "var").symlink_to("/data/var")
    bind(bundle, tmp_path, "/var/lib/x", "rbind")
    assert runtime.sh(bundle, "ls -d /data/var/lib/x/bundle").code == 0


def test_symlinks_to_nothing_that_never_end(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    (bundle.rootfs / "loop").symlink_to("loop")
    bind(bundle, tmp_path, "/loop/x", "rbind")
    refused(runtime.sh(bundle, "true"), "/mounts/7", "Too many levels of symbolic links")


def test_in_a_user_namespace_the_destination_is_the_containers(
    runtime: Runtime, bundle: Bundle, tmp_path: Path
) -> None:
    from runtime.test_copyup import user_namespace

    (tmp_path / "file").write_text("mine\n")
    (bundle.rootfs / "etc/resolv.conf").symlink_to("../run/a/stub.conf")
    user_namespace(bundle)
    bind(bundle, tmp_path / "file", "/etc/resolv.conf", "bind", "ro")
    done = runtime.sh(bundle, "cat /etc/resolv.conf; stat -c %u /run /run/a")
    assert done.out == "mine\n0\n0\n", done.err


# Changes of what is mounted


def test_a_mounts_flags_are_changed(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    bind(bundle, tmp_path, "/m", "bind", "nosuid")
    add(bundle, "/m", "bind", "remount", "ro", "noexec")
    assert {"ro", "nosuid", "noexec"} <= mounts(runtime, bundle)["/m"].options


def test_a_file_system_is_changed(runtime: Runtime, bundle: Bundle) -> None:
    tmpfs(bundle, "/m", "size=64k", "nosuid")
    add(bundle, "/m", "remount", "size=128k", "noexec", "sync", type="tmpfs")
    add(bundle, "/dev", "remount", "ro")
    found = mounts(runtime, bundle)
    assert {"size=128k", "sync"} <= found["/m"].superblock
    assert {"rw", "nosuid", "noexec"} <= found["/m"].options
    assert "ro" in found["/dev"].options


def test_only_what_is_mounted_can_be_changed(runtime: Runtime, bundle: Bundle) -> None:
    add(bundle, "/etc", "remount", "ro")
    refused(runtime.sh(bundle, "true"), "/mounts/7: remount /etc (remount,ro): Invalid argument", "nothing is mounted")
    bundle.config["mounts"].pop()
    tmpfs(bundle, "/m")
    add(bundle, "/m", "remount", "size=x")
    refused(runtime.sh(bundle, "true"), "/mounts/8: remount /m", "Bad value for 'size'")
