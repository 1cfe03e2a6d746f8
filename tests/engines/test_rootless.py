"""podman and buildah of an ordinary user, on runc and on ocirt: no cgroup is theirs, and no systemd.

It takes uidmap and slirp4netns, and a kernel that lets an ordinary user mount overlayfs (5.13).
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from engines.engine import IMAGE, eventually, require
from engines.rootless import RANGE, USER, RootlessBuildah, RootlessPodman, make_user, own_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

RUNTIMES = ("runc", "ocirt")
MAPS = "tr -s ' ' </proc/self/uid_map"
LOOP = ("sh", "-c", "trap 'exit 5' TERM; echo out; echo err >&2; while :; do sleep 0.05; done")


@pytest.fixture(scope="module")
def place(workplace: Path, image: Path) -> Callable[[str], Path]:
    """Gives a folder of an engine. The user is there."""
    assert image.exists()
    make_user(workplace)
    return lambda name: workplace / name


@pytest.fixture(scope="module", params=RUNTIMES)
def engine(request: pytest.FixtureRequest, place: Callable[[str], Path], image: Path) -> Iterator[RootlessPodman]:
    one = RootlessPodman(place(f"rootless-{request.param}"), request.param, image)
    yield one
    one.end()


@pytest.fixture
def podman(engine: RootlessPodman) -> Iterator[RootlessPodman]:
    yield engine
    engine.clear()


@pytest.fixture
def folder(engine: RootlessPodman) -> Iterator[Path]:
    """A folder of the user's that nobody else may look into, with a file."""
    path = own_folder(engine.folder / "private")
    (path / "f").write_text("host\n")
    os.chown(path / "f", USER, USER)
    yield path
    shutil.rmtree(path)


# run


ENDS = {
    "7": (["sh", "-c", "exit 7"], 7, ""),
    "signal": (["sh", "-c", "sh -c 'kill -9 $$' 2>/dev/null; exit $?"], 137, ""),
    "not-found": (["nothing"], 127, "not found in $PATH"),
    "no-program": (["/etc/passwd"], 126, "permission denied"),
}


@pytest.mark.parametrize(("args", "code", "error"), ENDS.values(), ids=ENDS)
def test_code_of_run(podman: RootlessPodman, args: list[str], code: int, error: str) -> None:
    done = podman("run", "--rm", "--net", "none", IMAGE, *args)
    assert done.code == code, done
    assert error in done.err
    assert bool(error) == bool(done.err)


INSIDE = {
    "root is the user, and there is a range": (
        [],
        f"{MAPS}; id -u; id -g; stat -c %u:%g /data /home/user; pwd; ls /sys/class/net",
        f" 0 {USER} 1\n 1 {RANGE[0]} {RANGE[1]}\n0\n0\n0:0\n1000:1000\n/\nlo",
    ),
    "what is in /dev, /proc and /sys": (
        [],
        "stat -c '%F %t:%T %a' /dev/null /dev/tty; stat -f -c %T /dev /dev/shm /sys; wc -c </proc/keys;"
        " (: >/proc/sys/kernel/hostname) 2>/dev/null || echo ro; touch /sys/x 2>/dev/null || echo ro; ls /sys/firmware;"
        " grep -c mqueue /proc/mounts; echo hi >/dev/null; head -c 3 /dev/zero | wc -c",
        "character special file 1:3 666\ncharacter special file 5:0 666\ntmpfs\ntmpfs\nsysfs\n0\nro\nro\n1\n3",
    ),
    "rights": (
        [],
        "grep -E 'CapEff|Seccomp:|NoNew' /proc/self/status | cut -f 2; chown 5 /data/file && stat -c %u /data/file;"
        " su user -c 'id -u'; unshare -m true 2>/dev/null || echo no",
        "00000000a80425fb\n0\n2\n5\n1000\nno",
    ),
    "user, groups, working directory, variables, stdin": (
        ["--user", "user", "--group-add", "55", "-w", "/tmp", "-e", "A=b c", "--hostname", "h", "--umask", "027"],
        'id -u; id -G; pwd; echo "$A $HOME"; hostname; umask; touch x; stat -c %u:%a x',
        "1000\n1000 55\n/tmp\nb c /home/user\nh\n0027\n1000:640",
    ),
    "keep-id": (
        ["--userns", "keep-id"],
        "id -u; touch /tmp/x && stat -c %u /tmp/x; cat /data/file",
        f"{USER}\n{USER}\nof the image",
    ),
    "nomap": (["--userns", "nomap"], f"{MAPS}; id -u", " 0 1 65536\n0"),
    "auto": (["--userns", "auto:size=2000"], f"{MAPS} | grep -c ' 0 1 2000'; touch /x && stat -c %u /x", "1\n0"),
    "uidmap": (["--uidmap", "0:5:1000", "--gidmap", "0:5:1000"], f"{MAPS}; stat -c %u:%g /data", " 0 5 1000\n0:0"),
    "readonly, and tmpfs": (
        ["--read-only", "--tmpfs", "/new:rw,noexec,size=2m,mode=751"],
        "touch /x 2>/dev/null || echo no; touch /new/x; stat -f -c %T /new; stat -c %a /new; grep -c ' /new .*noexec'"
        " /proc/mounts; df -k /new | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2",
        "no\ntmpfs\n751\n1\n2048",
    ),
    "devices": (
        ["--device", "/dev/null:/dev/mine", "--device", "/dev/zero"],
        "stat -c '%F %t:%T' /dev/mine; echo x >/dev/mine; head -c 2 /dev/zero | wc -c",
        "character special file 1:3\n2",
    ),
    "settings of the kernel": (
        ["--sysctl", "kernel.msgmax=4096", "--sysctl", "net.ipv4.ip_unprivileged_port_start=80"],
        "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start",
        "4096\n80",
    ),
    "limits": (
        ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--oom-score-adj", "300", "--shm-size", "3m"],
        "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; df -k /dev/shm | tail -n 1 | tr -s ' '"
        " | cut -d ' ' -f 2",
        "100\n200\n0\n300\n3072",
    ),
    "privileged": (
        ["--privileged"],
        "grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp && stat -f -c %T /tmp; unshare -m true && echo yes;"
        " hostname new && hostname",
        "Seccomp:\t0\ntmpfs\nyes\nnew",
    ),
    "less protection": (
        ["--security-opt", "unmask=ALL", "--security-opt", "seccomp=unconfined", "--cap-add", "SYS_ADMIN"],
        "grep Seccomp: /proc/self/status; ls /sys/firmware >/dev/null; mount -t tmpfs x /tmp && stat -f -c %T /tmp",
        "Seccomp:\t0\ntmpfs",
    ),
    "more protection": (
        ["--security-opt", "no-new-privileges", "--security-opt", "mask=/data", "--cap-drop", "all"],
        "grep NoNew /proc/self/status; ls /data; grep CapBnd /proc/self/status",
        "NoNewPrivs:\t1\nCapBnd:\t0000000000000000",
    ),
    "an init": (
        ["--init", "--init-path", "/usr/bin/tini-static"],
        "tr '\\0' ' ' </proc/1/cmdline | cut -d ' ' -f 1",
        "/run/podman-init",
    ),
}


@pytest.mark.parametrize(("flags", "script", "out"), INSIDE.values(), ids=INSIDE)
def test_inside(podman: RootlessPodman, flags: list[str], script: str, out: str) -> None:
    assert podman.shell(script, *flags) == out


def test_namespaces_of_the_host(podman: RootlessPodman) -> None:
    kinds = ["pid", "uts", "net", *(["ipc"] if os.path.isdir("/dev/mqueue") else [])]  # podman binds the latter
    flags = [part for kind in kinds for part in (f"--{kind}", "host")]
    look = f"for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$kind; done; ls /sys/class/net; touch /sys/x"
    done = podman("run", "--rm", *flags, IMAGE, "sh", "-c", look)
    links = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert done.out.splitlines()[: len(links)] == links, done
    assert "touch: /sys/x" in done.err


def test_the_users_groups_are_kept(podman: RootlessPodman) -> None:
    if podman.runtime == "runc":
        pytest.skip("podman knows that runc cannot do it")
    assert podman.shell("id -G", "--group-add", "keep-groups") == "0 65534"


def test_without_cgroups(podman: RootlessPodman) -> None:
    if podman.runtime == "runc":
        pytest.skip("podman knows that runc cannot do it")
    assert podman.shell("echo hi", "--cgroups", "disabled") == "hi"


def test_volumes(podman: RootlessPodman, folder: Path) -> None:
    """A folder that nobody else may look into, one of podman's, and an overlay over the first."""
    flags = ["-v", f"{folder}:/ro:ro", "-v", f"{folder}:/rw", "-v", f"{folder}:/over:O", "-v", "mine:/data"]
    look = (
        "cat /ro/f; echo x 2>/dev/null >/ro/x || echo no; echo y >/rw/y; echo z >/over/z;"
        " cat /data/file; id >/data/file"
    )
    assert podman.shell(look, *flags) == "host\nno\nof the image"
    assert sorted(path.name for path in folder.iterdir()) == ["f", "y"]
    assert (folder / "y").stat().st_uid == USER
    assert podman.shell("cat /data/file", "-v", "mine:/data").startswith("uid=0")
    podman.ok("volume", "rm", "mine")


def test_what_the_user_may_not_do_stays_forbidden(podman: RootlessPodman, workplace: Path) -> None:
    """Root in the container is the user to the host."""
    (workplace / "secret").write_text("")
    (workplace / "secret").chmod(0o600)
    flags = ["-v", f"{workplace}/secret:/secret", "--privileged"]
    assert podman.shell("cat /secret 2>&1; mknod /n b 7 0 2>&1; true", *flags) == (
        "cat: can't open '/secret': Permission denied\nmknod: /n: Operation not permitted"
    )


# The life of a container


def test_life(podman: RootlessPodman) -> None:
    podman.run(args=LOOP)
    eventually(lambda: "out" in podman.ok("logs", "box"))
    assert podman.inspect()["OCIRuntime"] == podman.runtime
    assert podman("exec", "box", "sh", "-c", "exit 9").code == 9
    assert podman("exec", "box", "nothing").code == 127
    flags = ["-i", "-u", "user", "-w", "/tmp", "-e", "A=b"]
    done = podman("exec", *flags, "box", "sh", "-c", "id -u; pwd; echo $A $HOME; cat; echo err >&2", stdin="in\n")
    assert (done.code, done.out, done.err) == (0, "1000\n/tmp\nb /home/user\nin\n", "err\n")
    podman.ok("exec", "-d", "box", "sh", "-c", "echo x >/tmp/detached")
    eventually(lambda: podman("exec", "box", "cat", "/tmp/detached").out == "x\n")
    assert "sh" in podman.ok("top", "box", "comm")
    podman.ok("stop", "--time", "20", "box")
    state = podman.state()
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 5, 0)
    done = podman("logs", "box")
    assert (done.out, done.err) == ("out\n", "err\n")
    podman.ok("start", "box")
    podman.ok("restart", "--time", "20", "box")
    podman.ok("kill", "box")
    assert podman.ok("wait", "box") == "137"
    podman.ok("rm", "box")
    assert podman.gone()


def test_terminals(podman: RootlessPodman) -> None:
    tell = ["sh", "-c", "tty; stat -c %u:%g:%a /dev/pts/0; echo err >&2; exit 3"]
    done = podman("run", "--rm", "-t", "--net", "none", IMAGE, *tell)
    assert (done.code, done.out.replace("\r", "")) == (3, "/dev/pts/0\n0:5:620\nerr\n"), done
    podman.run()
    done = podman("exec", "-t", "box", *tell)
    assert (done.code, done.out.replace("\r", "")) == (3, "/dev/pts/0\n0:5:620\nerr\n"), done


def test_healthcheck(podman: RootlessPodman) -> None:
    podman.run("--health-cmd", "test -e /tmp/well", "--health-interval", "disable", "--health-retries", "1")
    assert podman("healthcheck", "run", "box").code == 1
    assert podman.state()["Health"]["Status"] == "unhealthy"
    podman.in_box("touch /tmp/well")
    assert podman("healthcheck", "run", "box").code == 0


def test_pause_needs_a_cgroup(podman: RootlessPodman) -> None:
    """podman itself says so, on cgroup v1."""
    podman.run()
    assert "cgroup" in podman("pause", "box").err
    assert podman.state()["Status"] == "running"


# Networks and pods


SERVER = ["nc", "-ll", "-p", "80", "-e", "echo", "served"]


@pytest.fixture
def network() -> str:
    require("slirp4netns", "slirp4netns")
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("no /dev/net/tun")
    return "slirp4netns"


def test_ports(podman: RootlessPodman, network: str) -> None:
    podman.run("-p", "127.0.0.1::80", args=SERVER, network=network)
    address, port = podman.ok("port", "box").split(" -> ")[1].split(":")
    assert podman.in_box("ls /sys/class/net") == "lo\ntap0"
    assert eventually(lambda: podman.command("busybox", "nc", address, port).out) == "served\n"
    assert podman.shell("nc 127.0.0.1 80; id -u", network="container:box") == "served\n0"


def test_pod(podman: RootlessPodman, network: str) -> None:
    podman.ok(
        "pod", "create", "--name", "p", "--network", network, "--hostname", "of-pod", "--share", "net,ipc,uts,pid"
    )
    for name in ("one", "two"):
        podman.ok("run", "-d", "--pod", "p", "--name", name, IMAGE, *LOOP)
    look = ["sh", "-c", "for kind in net ipc uts pid; do readlink /proc/self/ns/$kind; done; ls -d /dev/shm; hostname"]
    seen = podman.ok("exec", "one", *look)
    assert seen.endswith("of-pod")
    assert podman.ok("exec", "two", *look) == seen
    eventually(lambda: "out" in podman.ok("logs", "two"))
    podman.ok("stop", "--time", "20", "two")
    assert podman.state("two")["ExitCode"] == 5
    podman.ok("pod", "rm", "--force", "p")
    assert podman.gone()


KUBE = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: k}}
spec:
  containers:
  - name: c
    image: {IMAGE}
    imagePullPolicy: Never
    command: [sh, -c, "id -u >/shared/c; exec sleep 1000"]
    volumeMounts: [{{name: shared, mountPath: /shared}}]
    securityContext: {{readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
  volumes:
  - name: shared
    hostPath: {{path: FOLDER, type: Directory}}
"""


def test_kube(podman: RootlessPodman, folder: Path) -> None:
    (folder / "k.yaml").write_text(KUBE.replace("FOLDER", str(folder)))
    (folder / "k.yaml").chmod(0o644)
    podman.ok("play", "kube", "--network", "none", folder / "k.yaml")
    assert eventually(lambda: (folder / "c").exists() and (folder / "c").read_text()) == "0\n"
    assert podman.ok("exec", "k-c", "sh", "-c", "touch /x 2>/dev/null || echo no") == "no"
    podman.ok("play", "kube", "--down", folder / "k.yaml")
    assert podman.gone()


# buildah


@pytest.fixture(scope="module", params=RUNTIMES)
def buildah(request: pytest.FixtureRequest, place: Callable[[str], Path], image: Path) -> RootlessBuildah:
    return RootlessBuildah(place(f"rootless-buildah-{request.param}"), request.param, image)


CONTAINERFILE = f"""\
FROM {IMAGE}
RUN echo built >/greeting && chown 1000:1000 /greeting
USER 1000
RUN ["sh", "-c", "id -u; cat /greeting; stat -c %u /greeting; tr -s ' ' </proc/self/uid_map"]
"""


@pytest.mark.parametrize("isolation", ["oci", "rootless"])
def test_buildah(buildah: RootlessBuildah, isolation: str) -> None:
    context = own_folder(buildah.folder / "context")
    try:
        (context / "Containerfile").write_text(CONTAINERFILE)
        flags = [*buildah.run_flags, "--isolation", isolation, "--network", "none"]
        seen = buildah.ok("bud", *flags, "--tag", "localhost/built", context)
        assert f"1000\nbuilt\n1000\n 0 {USER} 1\n 1 {RANGE[0]} {RANGE[1]}\n" in seen
        name = buildah.ok("from", "localhost/built")
        done = buildah("run", *flags, name, "--", "sh", "-c", "id -u; exit 7")
        assert (done.code, done.out) == (7, "1000\n"), done
        buildah.ok("rm", name)
        buildah.ok("rmi", "--force", "localhost/built")
    finally:
        shutil.rmtree(context)
