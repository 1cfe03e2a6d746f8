"""Volumes, bind mounts and tmpfs of containers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from shop import Shop

from ocirt.errors import Error
from ocirt.manager.containers import create
from ocirt.manager.errors import ConflictError, GrammarError, MissingError
from ocirt.manager.volumes import ANONYMOUS, Volumes

pytestmark = pytest.mark.root


def entry(config: dict[str, Any], place: str) -> dict[str, Any]:
    found = [one for one in config["mounts"] if one["destination"] == place]
    assert len(found) == 1, found
    return dict(found[0])


def test_bind_mounts(shop: Shop, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("here\n")
    made = tmp_path / "made"
    record = shop.sh(
        "cat /a/f; echo new > /a/g; touch /b/x 2>&1 | grep -c Read-only; ls /c; cat /file",
        volume=(f"{source}:/a", f"{source}:/b:ro", f"{made}:/c", f"{source}/f:/file:ro"),
        mount=(f"type=bind,src={source},dst=/d,readonly,bind-propagation=rslave,bind-nonrecursive",),
    )
    assert made.is_dir()
    assert shop.ran(record).out == "here\n1\nhere\n"
    assert (source / "g").read_text() == "new\n"
    config = shop.config(record)
    assert entry(config, "/a")["options"] == ["rbind", "rprivate"]
    assert entry(config, "/b")["options"] == ["rbind", "rprivate", "ro"]
    assert entry(config, "/d")["options"] == ["bind", "rslave", "ro"]
    assert config["linux"]["rootfsPropagation"] == "slave"


def test_a_tmpfs_is_locked_down_unless_it_is_asked_not_to_be(shop: Shop) -> None:
    record = shop.sh("grep -E ' /(run|x) ' /proc/mounts | sort -k 2", tmpfs=("/run:size=64k,mode=1700", "/x:exec,suid"))
    lines = shop.ran(record).out.splitlines()
    assert set(lines[0].split()[3].split(",")) >= {"nosuid", "nodev", "noexec", "size=64k", "mode=1700"}
    words = set(lines[1].split()[3].split(","))
    assert "nodev" in words
    assert not words & {"noexec", "nosuid"}


def test_what_lies_above_is_mounted_first(shop: Shop, tmp_path: Path) -> None:
    record = shop.sh(
        "grep -c tmpfs /proc/self/mounts > /dev/null; echo x > /a/b/c/f; ls /a/b/c", tmpfs=("/a/b", "/a"),
        volume=("vol:/a/b/c",),
    )  # fmt: skip
    assert shop.ran(record).out == "f\n"
    assert (Volumes(shop).find("vol").path / "f").exists()


def test_a_place_of_the_kernels_can_be_taken(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("mine\n")
    record = shop.sh("cat /etc/hosts; echo /dev/shm/*", volume=(f"{tmp_path}/hosts:/etc/hosts", f"{tmp_path}:/dev/shm"))
    assert shop.ran(record).out == "mine\n/dev/shm/hosts /dev/shm/shop\n"


IMAGE: dict[str, bytes | str | None] = {
    "data": None,
    "data/file": b"from the image\n",
    "data/sub": None,
    "data/sub/deep": b"deep\n",
    "data/link": "-> /etc/passwd",
    "data/up": "-> ../../../../etc",
    "evil": "-> ../../../../../../..",
}


def test_a_volume_gets_what_the_image_has(shop: Shop) -> None:
    """At the first use: links stay links, and lead nowhere on the way (CVE-2022-23648)."""
    shop.image("data", {"Volumes": {"/data": {}}}, IMAGE)
    record = shop.sh("cat /data/file /data/sub/deep; echo more > /data/more", image="data", volume=("vol:/data",))
    assert shop.ran(record).out == "from the image\ndeep\n"
    path = Volumes(shop).find("vol").path
    assert sorted(os.listdir(path)) == ["file", "link", "more", "sub", "up"]
    assert (path / "link").readlink() == Path("/etc/passwd")
    assert path.stat().st_mode & 0o777 == 0o755
    second = shop.sh("cat /data/more; ls /data", image="data", volume=("vol:/data:nocopy",))
    assert shop.ran(second).out.startswith("more\n")
    (path / "file").unlink()
    third = shop.sh("ls /data | wc -l", image="data", volume=("vol:/data",))
    assert shop.ran(third).out == "4\n"


def test_a_volume_at_a_link_of_the_image_is_filled_from_inside(shop: Shop) -> None:
    shop.image("data", {}, IMAGE)
    record = shop.sh("ls /evil | head -n 1", image="data", volume=("vol:/evil/data",))
    assert shop.ran(record).code == 0
    assert sorted(os.listdir(Volumes(shop).find("vol").path)) == ["file", "link", "sub", "up"]


def test_nocopy_and_what_is_there_already(shop: Shop) -> None:
    shop.image("data", {}, IMAGE)
    volumes = Volumes(shop)
    assert shop.ran(shop.sh("ls /data", image="data", volume=("vol:/data:nocopy",))).out == ""
    (volumes.find("vol").path / "mine").touch()
    assert shop.ran(shop.sh("ls /data", image="data", volume=("vol:/data",))).out == "mine\n"


def test_a_copy_that_was_killed_is_made_again(shop: Shop) -> None:
    shop.image("data", {}, IMAGE)
    volume = Volumes(shop).create("vol")
    (volume.path / "file").write_text("ha")
    (volume.path.parent / "filling").touch()
    assert shop.ran(shop.sh("cat /data/file", image="data", volume=("vol:/data",))).out == "from the image\n"
    assert not (volume.path.parent / "filling").exists()


def test_volumes_of_another_container(shop: Shop, tmp_path: Path) -> None:
    first = shop.sh("echo x > /data/f", volume=("vol:/data", f"{tmp_path}:/host:ro"))
    shop.ran(first)
    second = shop.sh("cat /data/f; touch /data/g 2>/dev/null || echo ro", volumes_from=(f"{first.name}:ro",))
    assert shop.ran(second).out == "x\nro\n"
    assert [point["RW"] for point in second.document["mounts"]] == [False, False]


def test_volumes_are_made_listed_and_removed(shop: Shop) -> None:
    volumes = Volumes(shop)
    one = volumes.create("one", labels={"a": "b"})
    assert volumes.create("one") == one
    nameless = volumes.create()
    assert one.path.is_dir()
    assert ANONYMOUS in nameless.labels
    record = shop.sh("true", volume=("two:/two", "/three"))
    three = next(point["Name"] for point in record.document["mounts"] if point["Destination"] == "/three")

    def names(*filters: str) -> set[str]:
        return {volume.name for volume in volumes.listed(filters)}

    assert names() == {"one", "two", three, nameless.name}
    assert names("dangling=true") == {"one", nameless.name}
    assert names("dangling=false", "name=tw") == {"two"}
    assert names("label=a") == names("label=a=b") == {"one"}
    assert names("label=a=c") == set()
    for wrong in ("what=ever", "dangling=perhaps", "name"):
        with pytest.raises(GrammarError, match="--filter"):
            volumes.listed([wrong])
    with pytest.raises(ConflictError, match=record.id[:12]):
        volumes.remove("two")
    assert volumes.prune() == ([nameless.name], 0)
    assert volumes.prune(every=True)[0] == ["one"]
    create.remove(shop, record)
    volumes.remove("two")
    volumes.remove("two", force=True)
    with pytest.raises(MissingError):
        volumes.remove("two")
    with pytest.raises(MissingError):
        volumes.find("two")
    assert sorted(os.listdir(shop.root / "volumes")) == [three]


def test_the_shape_of_a_volume(shop: Shop) -> None:
    found = Volumes(shop).create("named", labels={"a": "b"}).inspect()
    assert set(found) == {"CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"}
    assert (found["Driver"], found["Scope"], found["Labels"]) == ("local", "local", {"a": "b"})
    assert found["Options"] is None


def test_a_volume_that_is_a_mount(shop: Shop, tmp_path: Path) -> None:
    volumes = Volumes(shop)
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=64k,mode=1700"}
    volumes.create("small", options=options)
    assert volumes.create("small", options=options).options == options
    with pytest.raises(ConflictError):
        volumes.create("small", options={**options, "o": "size=1m"})
    (tmp_path / "there").mkdir()
    (tmp_path / "there/f").write_text("bound\n")
    volumes.create("bound", options={"type": "none", "device": str(tmp_path / "there"), "o": "bind"})
    record = shop.sh("grep ' /small ' /proc/mounts; cat /bound/f", volume=("small:/small", "bound:/bound:ro"))
    out = shop.ran(record).out.splitlines()
    assert "size=64k" in out[0]
    assert out[1:] == ["bound"]
    shop.config(record)


@pytest.mark.parametrize(
    "options",
    [
        {"what": "ever"},
        {"type": "ext4"},
        {"device": "/dev/sda1"},
        {"type": "none", "device": "relative", "o": "bind"},
        {"type": "../x", "device": "/dev/sda"},
    ],
)
def test_volumes_that_make_no_sense(shop: Shop, options: dict[str, str]) -> None:
    with pytest.raises(GrammarError, match="--opt"):
        Volumes(shop).create("named", options=options)
    assert list(Volumes(shop)) == []


def test_a_volume_that_was_removed_by_hand(shop: Shop) -> None:
    record = shop.sh("true", volume=("vol:/data",))
    with shop.database.write() as transaction:
        transaction.execute("delete from volumes")
    with pytest.raises(MissingError, match="vol"):
        shop.ran(record)


def test_what_is_refused_makes_no_volume(shop: Shop) -> None:
    for mounts in (
        ("target=/anonymous", "type=tmpfs,target=/x", "type=tmpfs,target=/x"),
        ("target=/anonymous", "type=bind,src=/does/not/exist,target=/x"),
        ("target=/anonymous", "src=vol,target=/x,volume-opt=what=ever"),
    ):
        with pytest.raises(Error):
            shop.sh("true", mount=mounts)
        assert list(Volumes(shop)) == []


@pytest.mark.parametrize("place", ["/proc", "/proc/sys", "//proc/.", "/x/../proc/self"])
def test_an_image_has_no_volume_over_procfs(shop: Shop, place: str) -> None:
    """CVE-2019-16884, CVE-2019-19921."""
    shop.image("data", {"Volumes": {place: {}}})
    with pytest.raises(ConflictError, match="/proc"):
        shop.sh("true", image="data")
    assert list(Volumes(shop)) == []


def test_nothing_else_is_procfs(shop: Shop, tmp_path: Path) -> None:
    values: list[dict[str, Any]] = [
        {"volume": ("vol:/proc",)},
        {"volume": (f"{tmp_path}:/proc",)},
        {"tmpfs": ("/proc/sys",)},
        {"mount": (f"type=bind,src={tmp_path},dst=/proc",)},
        {"mount": ("src=vol,dst=/proc/self",)},
    ]
    for one in values:
        with pytest.raises(ConflictError, match="/proc"):
            shop.sh("true", **one)
    (tmp_path / "meminfo").write_text("little\n")
    assert shop.ran(shop.sh("cat /proc/meminfo", volume=(f"{tmp_path}/meminfo:/proc/meminfo:ro",))).out == "little\n"
