"""tmpcopyup: a tmpfs begins with what the directory under it has; and nothing of the host gets into it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from runtime.test_mounts import mounts, refused, tmpfs
from support import Bundle, Runtime

pytestmark = pytest.mark.root

LIST = "cd /m && find . | sort"


@pytest.fixture
def folder(bundle: Bundle) -> Path:
    """The directory in the image, /m."""
    folder = bundle.rootfs / "m"
    folder.mkdir()
    tmpfs(bundle, "/m", "tmpcopyup", "size=4m")
    return folder


def seen(runtime: Runtime, bundle: Bundle, script: str) -> list[str]:
    done = runtime.sh(bundle, script)
    assert done.code == 0, done.err
    return done.out.splitlines()


def user_namespace(bundle: Bundle, first: int = 100000) -> None:
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        bundle.config["linux"][name] = [{"containerID": 0, "hostID": first, "size": 65536}]
    for path in [bundle.rootfs, *bundle.rootfs.rglob("*")]:
        os.chown(path, first, first, follow_symlinks=False)
    # Every folder above it has to be open to whom the container's root is on the host.
    for parent in bundle.rootfs.parents:
        if stat.S_IMODE(parent.stat().st_mode) & 0o001 == 0:
            parent.chmod(0o711)


def test_folders_and_files_with_modes_owners_and_times(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/file").write_text("content\n")
    os.chown(folder / "a/b/file", 7, 8)
    (folder / "a/b/file").chmod(0o4754)
    (folder / "a").chmod(0o1730)
    for path in ("a/b/file", "a/b", "a", "."):
        os.utime(folder / path, ns=(10**18 + 1, 10**18 + 2))
    os.chown(folder, 1, 2)
    folder.chmod(0o2755)
    lines = seen(runtime, bundle, "cd /m && stat -c '%n %a %u %g %Y' . a a/b a/b/file; cat a/b/file")
    when = 10**9
    assert lines == [
        f". 2755 1 2 {lines[0].split()[-1]}",
        f"a 1730 0 0 {when}",
        f"a/b 755 0 0 {when}",
        f"a/b/file 4754 7 8 {when}",
        "content",
    ]


def test_symlinks_are_copied_and_not_followed(runtime: Runtime, bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("secret")
    (folder / "out").symlink_to(tmp_path / "host")
    (folder / "up").symlink_to("../../../../../../etc/passwd")
    (folder / "loop").symlink_to("loop")
    os.lchown(folder / "loop", 5, 6)
    script = "cd /m && for l in *; do echo $l $(readlink $l) $(stat -c '%u %g' $l); done; find /m -name secret"
    assert seen(runtime, bundle, script) == [
        "loop loop 5 6",
        f"out {tmp_path / 'host'} 0 0",
        "up ../../../../../../etc/passwd 0 0",
    ]


def test_hard_links_stay_one_file(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "d/e").mkdir(parents=True)
    (folder / "d/one").write_text("x")
    os.link(folder / "d/one", folder / "d/e/two")
    os.link(folder / "d/one", bundle.rootfs / "outside")
    lines = seen(runtime, bundle, "cd /m/d && stat -c '%i %h' one e/two")
    assert lines[0] == lines[1]
    assert lines[0].split()[1] == "2"


def test_nodes_and_holes(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    os.mkfifo(folder / "fifo", 0o640)
    os.mknod(folder / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(folder / "socket", 0o600 | stat.S_IFSOCK)
    with open(folder / "sparse", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"middle")
    lines = seen(runtime, bundle, "cd /m && stat -c '%n %F %a' fifo null socket; stat -c '%s %b' sparse;"
                                  " dd if=sparse bs=1M skip=512 count=1 2>/dev/null | head -c 6")  # fmt: skip
    assert lines[0].startswith("fifo fifo 640")
    assert lines[1].startswith("null character special file")
    assert lines[2].startswith("socket socket 600")
    size, blocks = lines[3].split()
    assert (int(size), int(blocks) * 512 <= 1 << 20) == (1 << 30, True)
    assert lines[4] == "middle"


def test_extended_attributes(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep
    (folder / "program").write_bytes((bundle.rootfs / "bin/busybox").read_bytes())
    (folder / "program").chmod(0o755)
    os.setxattr(folder / "program", "security.capability", capability)
    os.setxattr(folder / "program", "trusted.x", b"\0y")
    os.symlink("x", folder / "link")
    os.setxattr(folder / "link", "trusted.link", b"z", follow_symlinks=False)
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    done = runtime("create", "-b", bundle.path, "x")
    assert done.code == 0, done.err
    try:
        inside = f"/proc/{runtime.state('x')['pid']}/root/m"
        assert os.getxattr(f"{inside}/program", "security.capability") == capability
        assert os.getxattr(f"{inside}/program", "trusted.x") == b"\0y"
        assert os.getxattr(f"{inside}/link", "trusted.link", follow_symlinks=False) == b"z"
    finally:
        runtime("delete", "--force", "x")


def test_the_options_come_before_the_directorys_attributes(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    folder.chmod(0o700)
    os.chown(folder, 3, 4)
    bundle.config["mounts"].pop()
    tmpfs(bundle, "/m", "tmpcopyup", "mode=751", "uid=9", "ro")
    assert seen(runtime, bundle, "stat -c '%a %u %g' /m") == ["751 9 4"]
    assert "ro" in mounts(runtime, bundle)["/m"].options


def test_what_is_written_stays_in_the_tmpfs(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "file").write_text("old\n")
    assert seen(runtime, bundle, "echo new >/m/file; rm /m/file; ls /m | wc -l") == ["0"]
    assert (folder / "file").read_text() == "old\n"


def test_a_missing_directory_is_made_and_empty(runtime: Runtime, bundle: Bundle) -> None:
    tmpfs(bundle, "/not/there", "tmpcopyup")
    assert seen(runtime, bundle, "ls -A /not/there | wc -l") == ["0"]


def test_a_symlink_on_the_way_stays_inside(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "file").touch()
    (bundle.rootfs / "link").symlink_to("../../../m")
    bundle.config["mounts"].pop()
    tmpfs(bundle, "/link", "tmpcopyup")
    assert seen(runtime, bundle, LIST) == [".", "./file"]
    assert "/m" in mounts(runtime, bundle)


def test_a_tmpfs_that_is_too_small(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "file").write_bytes(b"x" * (5 << 20))
    refused(runtime.sh(bundle, "true"), "/mounts/7: copy file into the tmpfs: No space left", "size and nr_inodes")
    assert runtime("list", "-q").out == ""


def test_too_many_folders_in_one_another(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "/".join(["d"] * 200)).mkdir(parents=True)
    refused(runtime.sh(bundle, "true"), "/mounts/7: copy d/d/d", "more than 128 folders")


def test_in_a_user_namespace_the_owners_are_the_containers(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "d").mkdir()
    for name in ("root", "user", "stranger"):
        (folder / "d" / name).write_text("x")
    user_namespace(bundle)
    os.chown(folder / "d/user", 101000, 101001)
    os.chown(folder / "d/stranger", 0, 5)
    (folder / "d/stranger").chmod(0o604)
    lines = seen(runtime, bundle, "cd /m && stat -c '%n %u %g %a' . d d/*; id -u")
    assert lines == [
        ". 0 0 755", "d 0 0 755", "d/root 0 0 644", "d/stranger 65534 65534 604", "d/user 1000 1001 644", "0",
    ]  # fmt: skip
