"""Archives between ocim and others: skopeo, umoci, podman and docker read what ocim saves, and ocim what they save."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from engines.engine import Engine, require

pytest.importorskip("isal", reason="the extra manager is not installed")
pytest.importorskip("backports.zstd", reason="the extra manager is not installed")

from manager import made_images as made

from ocirt.manager import archives, documents
from ocirt.manager.images import operations
from ocirt.manager.images.changes import applied

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engines.engine import DockerLike

    from ocirt.manager.site import Site

pytestmark = pytest.mark.root

LAYERS = (made.tar({"etc/motd": b"hello\n", "bin/x": b"x" * 70_000}), made.tar({"data": b"d" * 5000}))
KINDS = {
    "gzip": {"layer_type": made.GZIP},
    "plain": {"layer_type": documents.OCI_LAYER},
    "docker": {"family": "docker"},
}
BOX = "localhost/ocim-box:1"


class Tools(Engine):
    """skopeo and umoci, which have no daemon and no store."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__([require("skopeo", "skopeo"), "--insecure-policy"], folder, "", {"TMPDIR": str(folder)})

    def copy(self, source: str, target: str) -> None:
        self.ok("copy", "--quiet", source, target)


@pytest.fixture(scope="module")
def skopeo(workplace: Path) -> Tools:
    return Tools(workplace / "skopeo")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return made.site(tmp_path / "site")


@pytest.fixture
def docker(engines: Callable[[str], DockerLike]) -> DockerLike:
    return engines("docker-ocirt")


@pytest.fixture
def podman(engines: Callable[[str], DockerLike]) -> DockerLike:
    return engines("podman-ocirt")


def saved(site: Site, path: Path, kind: str, *names: str) -> Path:
    with path.open("wb") as out:
        archives.save(site, names or [BOX], out, kind)
    return path


def loaded(tmp_path: Path, path: Path) -> tuple[Site, tuple[made.Loaded, ...]]:
    """In a store of its own."""
    where = made.site(tmp_path / f"loaded-{path.name}")
    if path.is_dir():
        return where, made.load_folder(where, path)
    with path.open("rb") as stream:
        return where, made.load(where, stream)


def identity(site: Site, name: str = BOX) -> str:
    return next(one.id for one in operations.listed(site) if name in (one.name, one.digest))


def copied(folder: Path) -> tuple[str, set[str]]:
    """What skopeo has in a `dir:`: the manifest's digest and those of the blobs."""
    blobs = {
        "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name not in ("version", "manifest.json")
    }
    return "sha256:" + hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(), blobs


@pytest.mark.parametrize("kind", KINDS)
def test_skopeo_reads_ours(site: Site, skopeo: Tools, tmp_path: Path, kind: str) -> None:
    """As a layout byte for byte; as docker's archive the same configuration and contents."""
    target = made.image(site, BOX, LAYERS, **KINDS[kind])
    archives.save_folder(site, [BOX], tmp_path / "layout")
    oci = saved(site, tmp_path / "oci.tar", "oci")
    docker = saved(site, tmp_path / "docker.tar", "docker")
    sources = [f"oci-archive:{oci}", f"oci:{tmp_path}/layout"]
    if kind != "docker":  # in a layout skopeo looks for names of OCI's manifests only
        sources += [f"{source}:{BOX}" for source in sources]
    for source in sources:
        where = tmp_path / str(abs(hash(source)))
        skopeo.copy(source, f"dir:{where}")
        assert copied(where) == (target.digest, made.blobs(site) - {target.digest}), source
    for path in (oci, docker):
        where = tmp_path / f"of-{path.name}"
        skopeo.copy(f"docker-archive:{path}:{BOX}", f"dir:{where}")
        _, blobs = copied(where)
        assert blobs == {identity(site), *(made.sha(layer) for layer in LAYERS)}


@pytest.mark.parametrize("kind", KINDS)
def test_ours_reads_skopeos(site: Site, skopeo: Tools, tmp_path: Path, kind: str) -> None:
    target = made.image(site, BOX, LAYERS, **KINDS[kind])
    oci = saved(site, tmp_path / "oci.tar", "oci")
    skopeo.copy(f"oci-archive:{oci}", f"docker-archive:{tmp_path}/d.tar:a/b:2")
    where, (found,) = loaded(tmp_path, tmp_path / "d.tar")
    assert found.name == "docker.io/a/b:2"
    if kind != "plain":
        skopeo.copy(f"oci-archive:{oci}", f"oci-archive:{tmp_path}/o.tar:a/b:2")
        skopeo.copy(f"oci-archive:{oci}", f"oci:{tmp_path}/o:a/b:2")
        for path in (tmp_path / "o.tar", tmp_path / "o"):
            _, (again,) = loaded(tmp_path, path)
            assert again.name == "docker.io/a/b:2"
            # skopeo makes OCI's of Docker's; what is OCI's stays.
            assert (again.target.digest == target.digest) == (kind == "gzip")
    manifest, _ = where.images.manifest(found.target, documents.host_platform())
    assert [layer.digest for layer in manifest.layers] == [made.sha(layer) for layer in LAYERS]


def test_umoci_reads_ours_and_ours_umocis(site: Site, skopeo: Tools, tmp_path: Path) -> None:
    umoci = require("umoci", "umoci")
    made.image(site, BOX, LAYERS)
    archives.save_folder(site, [BOX], tmp_path / "layout")
    bundle = tmp_path / "bundle"
    skopeo.output(umoci, "unpack", "--image", f"{tmp_path}/layout:{BOX}", bundle)
    assert (bundle / "rootfs/etc/motd").read_bytes() == b"hello\n"
    (bundle / "rootfs/new").write_bytes(b"of umoci")
    skopeo.output(umoci, "repack", "--image", f"{tmp_path}/layout:umoci", bundle)
    where, found = loaded(tmp_path, tmp_path / "layout")
    # umoci's tag alone is taken for a name, as podman takes it.
    assert [one.name for one in found] == [BOX, "docker.io/library/umoci:latest"]
    steps = operations.history(where, "umoci")
    assert len(steps) == 4
    manifest, _ = where.images.manifest(found[1].target, documents.host_platform())
    assert len(manifest.layers) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["oci", "docker"])
def test_podman_reads_ours_and_ours_podmans(
    site: Site, podman: DockerLike, tmp_path: Path, kind: str, format: str
) -> None:
    made.image(site, BOX, LAYERS, **KINDS[kind])
    path = saved(site, tmp_path / "saved.tar", format)
    policy = podman.folder / "policy.json"
    assert BOX in podman.ok("load", "--signature-policy", policy, "--input", path)
    own = identity(site)
    try:
        got = json.loads(podman.ok("image", "inspect", BOX))[0]
        assert f"sha256:{got['Id'].removeprefix('sha256:')}" == own
        assert got["RootFS"]["Layers"] == [made.sha(layer) for layer in LAYERS]
        for what in ("docker-archive", "oci-archive"):
            podman.ok("save", "--format", what, "--output", tmp_path / what, BOX)
            where, (found,) = loaded(tmp_path, tmp_path / what)
            assert found.name == BOX
            diff_ids = operations.inspect(where, BOX)["RootFS"]["Layers"]
            assert diff_ids == [made.sha(layer) for layer in LAYERS]
            if what == "docker-archive":
                assert identity(where) == own
    finally:
        podman.ok("rmi", "--force", BOX)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["oci", "docker"])
def test_docker_reads_ours_and_ours_dockers(
    site: Site, docker: DockerLike, tmp_path: Path, kind: str, format: str
) -> None:
    made.image(site, BOX, LAYERS, **KINDS[kind])
    path = saved(site, tmp_path / "saved.tar", format)
    assert BOX in docker.ok("load", "--input", path)
    try:
        (got,) = json.loads(docker.ok("image", "inspect", BOX))
        assert got["Id"] == identity(site)
        docker.ok("save", "--output", tmp_path / "docker.tar", BOX)
        where, (found,) = loaded(tmp_path, tmp_path / "docker.tar")
        assert (found.name, identity(where)) == (BOX, got["Id"])
    finally:
        docker.ok("rmi", "--force", BOX)


def test_layers_that_docker_has_once(site: Site, docker: DockerLike, tmp_path: Path) -> None:
    """Up to release 24 the second is a symlink."""
    made.image(site, BOX, LAYERS)
    made.image(site, "localhost/ocim-box:2", (LAYERS[0],))
    names = [BOX, "localhost/ocim-box:2"]
    docker.ok("load", "--input", saved(site, tmp_path / "saved.tar", "docker", *names))
    try:
        docker.ok("save", "--output", tmp_path / "docker.tar", *names)
        where, found = loaded(tmp_path, tmp_path / "docker.tar")
        assert sorted(one.name for one in found) == names
        for name in names:
            assert identity(where, name) == identity(site, name)
    finally:
        docker.ok("rmi", "--force", *names)


def test_inspect_and_history_say_what_dockers_say(site: Site, docker: DockerLike, tmp_path: Path) -> None:
    config = {
        "Env": ["A=b"],
        "Cmd": ["sh"],
        "Entrypoint": ["/bin/x"],
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1_000_000_000},
        "Labels": {"a": "b"},
        "OnBuild": ["RUN y"],
        "StopSignal": "SIGINT",
        "User": "5",
        "Volumes": {"/v": {}},
        "WorkingDir": "/w",
    }
    made.image(site, BOX, LAYERS, family="docker", config=config)
    docker.ok("load", "--input", saved(site, tmp_path / "saved.tar", "docker"))
    try:
        (theirs,) = json.loads(docker.ok("image", "inspect", BOX))
        ours = operations.inspect(site, BOX)
        same = ("Id", "RepoTags", "Created", "Author", "Config", "Architecture", "Os", "RootFS", "Parent", "Comment")
        assert {key: ours[key] for key in same if key in theirs} == {key: theirs[key] for key in same if key in theirs}
        steps = docker.ok("history", "--no-trunc", "--human=false", "--format", "{{json .}}", BOX).splitlines()
        found = [(step["CreatedBy"], step["Comment"], step["ID"]) for step in map(json.loads, steps)]
        assert found == [
            (step.created_by, step.comment, step.id or "<missing>") for step in operations.history(site, BOX)
        ]
    finally:
        docker.ok("rmi", "--force", BOX)


# Of ours docker's --change refuses STOPSIGNAL.
CHANGES = [
    'CMD ["a", "b c"]',
    "CMD echo $A 'x y'",
    'ENTRYPOINT ["e"]',
    "ENV A=1 B=\"x y\" C='$A' D=a\\ b",
    "ENV E=${A:-z}${Z:-z}${A:+q} F=$A$Z",
    "ENV G the rest  of it",
    "EXPOSE 80 443/udp 8000-8002",
    'LABEL l=m "n o"=p q="r $A"',
    "ONBUILD RUN x $A",
    "USER 1000:$A",
    "VOLUME /a /b",
    'VOLUME ["/c d"]',
    "WORKDIR /x/y",
    "WORKDIR z/../w",
    "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --retries=3 CMD x y",
]


@pytest.mark.parametrize("last", [len(CHANGES), 2, 3])
def test_changes_mean_what_they_mean_to_docker(docker: DockerLike, tmp_path: Path, last: int) -> None:
    (tmp_path / "root.tar").write_bytes(LAYERS[0])
    changes = CHANGES[:last]
    flags = [flag for change in changes for flag in ("--change", change)]
    name = docker.ok("import", *flags, tmp_path / "root.tar")
    try:
        (found,) = json.loads(docker.ok("image", "inspect", name))
        config: dict[str, Any] = found["Config"]
    finally:
        docker.ok("rmi", "--force", name)
    # A build gives every image a PATH; an import's environment is what was said.
    ours = applied({}, changes)
    for key, value in ours.items():
        assert config[key] == value, key
    assert {key for key, value in config.items() if value} <= {*ours, "Image"}


def test_what_docker_exports_is_imported(site: Site, docker: DockerLike, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(LAYERS[0])
    name = docker.ok("import", tmp_path / "root.tar")
    container = docker.ok("create", name, "x")
    try:
        docker.ok("export", "--output", tmp_path / "export.tar", container)
    finally:
        docker.ok("rm", container)
        docker.ok("rmi", "--force", name)
    with (tmp_path / "export.tar").open("rb") as stream:
        found = operations.import_tar(site, stream, BOX)
    out = io.BytesIO()
    archives.save(site, [found], out)
    assert made.sha((tmp_path / "export.tar").read_bytes()) in operations.inspect(site, BOX)["RootFS"]["Layers"]
