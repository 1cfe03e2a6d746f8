"""buildah on runc and on ocirt: what a build or a working container does is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from engines.buildah import Buildah
from engines.engine import IMAGE, RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=RUNTIMES)
def buildah(request: pytest.FixtureRequest, workplace: Path, image: Path) -> Buildah:
    return Buildah(workplace / f"buildah-{request.param}", request.param, image)


@pytest.fixture
def container(buildah: Buildah) -> Iterator[str]:
    """The name of a working container."""
    name = buildah.ok("from", IMAGE)
    yield name
    buildah.ok("rm", name)


RUNS = {
    "output": (["sh", "-c", "echo out; echo err >&2"], 0, "out\n", "err\n"),
    "7": (["sh", "-c", "exit 7"], 7, "", "exit status 7"),
    "not found": (["nothing"], 1, "", "executable file not found in $PATH"),
    "no program": (["/etc/passwd"], 1, "", "permission denied"),
}


@pytest.mark.parametrize(("args", "code", "out", "error"), RUNS.values(), ids=RUNS)
def test_run(buildah: Buildah, container: str, args: list[str], code: int, out: str, error: str) -> None:
    done = buildah("run", *buildah.run_flags, container, "--", *args)
    assert (done.code, done.out) == (code, out), done
    assert error in done.err


INSIDE = {
    "user": (["--user", "1000:1000"], "id -u; id -g", "1000\n1000"),
    "environment": (["--env", "A=b"], 'echo "$A $OF_IMAGE"', "b yes"),
    "working directory": (["--workingdir", "/data"], "pwd; cat file", "/data\nof the image"),
    "hostname": (["--hostname", "h"], "hostname", "h"),
    "no network": (["--network", "none"], "ls /sys/class/net", "lo"),
    "capability dropped": (["--cap-drop", "CAP_CHOWN"], "chown 1 /data 2>/dev/null || echo no", "no"),
    "profile": ([], "grep Seccomp: /proc/self/status", "Seccomp:\t2"),
    "stdin": ([], "cat", ""),
    "nothing inherited": ([], "ls /proc/self/fd", "0\n1\n2\n3"),
}


@pytest.mark.parametrize(("flags", "script", "out"), INSIDE.values(), ids=INSIDE)
def test_inside(buildah: Buildah, container: str, flags: list[str], script: str, out: str) -> None:
    network = [] if "--network" in flags else ["--network", "host"]
    done = buildah("run", *buildah.run_flags, *network, *flags, container, "--", "sh", "-c", script)
    assert (done.code, done.out.rstrip("\n"), done.err) == (0, out, ""), done


def test_volume(buildah: Buildah, container: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    volume = f"{tmp_path}:/v:ro"
    look = ["sh", "-c", "cat /v/f; echo x 2>/dev/null >/v/new || echo no"]
    assert buildah.ok("run", *buildah.run_flags, "--volume", volume, container, "--", *look) == "host\nno"


def test_terminal(buildah: Buildah, container: str) -> None:
    done = buildah("run", "--terminal", *buildah.run_flags, container, "--", "sh", "-c", "tty; exit 3")
    assert (done.code, done.out) == (3, "/dev/pts/0\n"), done


CONTAINERFILE = f"""\
FROM {IMAGE}
ARG WHAT
ENV GREETING=hello
RUN echo "$GREETING $WHAT" >/greeting && mkdir /app && chown 1000:1000 /app
COPY f /app/f
WORKDIR /app
USER 1000
RUN ["sh", "-c", "id -u >me; cat f >>me"]
CMD ["cat", "/greeting", "me"]
"""


@pytest.mark.parametrize("layers", ["true", "false"])
def test_bud(buildah: Buildah, tmp_path: Path, layers: str) -> None:
    (tmp_path / "Containerfile").write_text(CONTAINERFILE)
    (tmp_path / "f").write_text("file\n")
    flags = ["--layers=" + layers, "--build-arg", "WHAT=world", "--network", "none", "--memory", "64m"]
    buildah.ok("bud", *buildah.run_flags, *flags, "--tag", "localhost/built", tmp_path)
    name = buildah.ok("from", "localhost/built")
    look = buildah.ok("run", *buildah.run_flags, name, "--", "cat", "/greeting", "/app/me")
    assert look == "hello world\n1000\nfile"
    buildah.ok("rm", name)
    buildah.ok("rmi", "--force", "localhost/built")


def test_bud_ends_with_what_a_step_ended_with(buildah: Buildah, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(f"FROM {IMAGE}\nRUN echo said; exit 7\n")
    done = buildah("bud", *buildah.run_flags, tmp_path)
    assert done.code == 7, done
    assert "said" in done.out
    assert "exit status 7" in done.err
