"""What a runtime writes to /proc (kernel parameters, labels of a security module), and what an image or a volume puts
in the way to catch it.

ocirt writes through a procfs of its own, which is mounted nowhere, and before the container's mounts are there
(plan/procfs.py, plan/sysctl.py, plan/lsm.py); it opens with RESOLVE_BENEATH, NO_XDEV and NO_MAGICLINKS; `verify` knows
no other way (targets-by-descriptor). docs/security-tests.md says what was seen without that.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plan.test_compile import compiled, spec
from runtime.test_process import apparmor
from security.attacks import ROUNDS, add_mount, bind, everything_of, mounts_without, runs_or_is_refused, swapping
from support import Bundle, Runtime

from ocirt.plan.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
REAL = "mkdir -p /tmp/p && mount -t proc proc /tmp/p && cat /tmp/p/sys/net/ipv4/ip_forward"
"""What the kernel itself says of the parameter; needs CAP_SYS_ADMIN."""


@pytest.fixture
def forwarding(bundle: Bundle) -> Bundle:
    """A container that sets a parameter, whose program may look at it, and nothing is masked."""
    bundle.config["root"]["readonly"] = False
    bundle.config["linux"] |= {"sysctl": {"net.ipv4.ip_forward": "1"}, "maskedPaths": [], "readonlyPaths": []}
    bundle.config["process"]["capabilities"] = {
        name: ["CAP_SYS_ADMIN"] for name in ("bounding", "permitted", "effective")
    }
    return bundle


def test_cve_2025_52881_a_link_of_the_image_in_a_parameters_place(
    runtime: Runtime, forwarding: Bundle, host: Path
) -> None:
    """Without a mount on /proc the image's own folder is there."""
    mounts_without(forwarding, "/proc")
    (forwarding.rootfs / "proc/sys/net/ipv4").mkdir(parents=True)
    (forwarding.rootfs / "proc/sys/net/ipv4/ip_forward").symlink_to(host / "ptmx")
    inside = forwarding.rootfs / str(host).lstrip("/")
    inside.mkdir(parents=True)
    (inside / "ptmx").write_text("the image's")
    done = runtime.sh(forwarding, REAL)
    assert (done.out, done.err, done.code) == ("1\n", "", 0)
    assert (inside / "ptmx").read_text() == "the image's"


@pytest.mark.parametrize("kind", ["a file of the host", "another parameter", "a tmpfs"])
def test_cve_2025_52881_a_mount_over_a_parameter(runtime: Runtime, forwarding: Bundle, host: Path, kind: str) -> None:
    """The write went to another real file of procfs, /proc/sysrq-trigger; here one that does no harm."""
    if kind == "a tmpfs":
        add_mount(forwarding, destination="/proc/sys/net", type="tmpfs", source="tmpfs")
    else:
        other = host / "ptmx" if kind == "a file of the host" else Path("/proc/sys/kernel/domainname")
        bind(forwarding, other, "/proc/sys/net/ipv4/ip_forward")
    domain = Path("/proc/sys/kernel/domainname").read_text()
    done = runtime.sh(forwarding, REAL)
    assert (done.out, done.err, done.code) == ("1\n", "", 0)
    assert Path("/proc/sys/kernel/domainname").read_text() == domain


def test_cve_2025_52881_a_proc_that_is_exchanged_while_the_parameter_is_set(
    runtime: Runtime, forwarding: Bundle, host: Path
) -> None:
    volume = forwarding.path / "volume"
    for name in ("proc", "other"):
        (volume / name / "sys/net/ipv4").mkdir(parents=True)
    (volume / "proc/sys/net/ipv4/ip_forward").touch()
    (volume / "other/sys/net/ipv4/ip_forward").symlink_to(host / "ptmx")
    mounts_without(forwarding, "/proc")
    bind(forwarding, volume, "/vol")
    (forwarding.rootfs / "proc").rmdir()
    (forwarding.rootfs / "proc").symlink_to("vol/proc")
    with swapping(volume / "proc", volume / "other"):
        for number in range(ROUNDS // 2):
            done = runtime.sh(forwarding, REAL, f"race-{number}")
            assert runs_or_is_refused(done)
            assert done.out == "1\n"
    for name in ("proc", "other"):
        file = volume / name / "sys/net/ipv4/ip_forward"
        assert file.is_symlink() or file.read_text() == ""


# Labels


def fake_attributes(folder: Path) -> None:
    """Files as procfs has them, which take whatever is written."""
    for name in ("self/attr/exec", "self/attr/apparmor/exec", "thread-self/attr/exec"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


@pytest.mark.parametrize("over", ["/proc", "/proc/self/attr"])
def test_cve_2019_16884_the_label_goes_to_a_procfs_that_no_mount_is_over(over: str) -> None:
    """On every kernel: in the plan all that is written to is in a procfs that the plan made and moved nowhere."""
    config = spec(apparmorProfile="p", selinuxLabel="u:r:t:s0")
    config["mounts"].append({"destination": over, "source": "/volume", "type": "bind", "options": ["bind"]})
    modules = ("apparmor", "selinux")
    plan = compiled(config, wait_for_start=False, security_modules=modules, directories={"/volume": True}).plan
    verify(plan)
    made = [step.result for step in plan.steps if step.call == "fsopen" and step.args[0] == "proc"]
    written = [step for step in plan.steps if step.call == "openat2" and "attr/" in str(step.args[1])]
    assert {step.args[1] for step in written} == {
        "self/attr/keycreate",
        "self/attr/apparmor/exec",
        "self/attr/exec",
    }
    # The private one is the first: its register holds the mount, too, which no step moves.
    assert {step.args[0] for step in written} == {made[0]}
    assert not any(step.call == "move_mount" and step.args[0] == made[0] for step in plan.steps)


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[str]:
    """An AppArmor profile under which /etc/passwd may not be read."""
    file = tmp_path / "profile"
    file.write_text("profile ocirt-cve flags=(attach_disconnected) {\n  file,\n  signal,\n  deny /etc/passwd r,\n}\n")
    subprocess.run(["apparmor_parser", "--replace", file], check=True)
    yield "ocirt-cve"
    subprocess.run(["apparmor_parser", "--remove", file], check=True)


@pytest.mark.skipif(not apparmor(), reason="this kernel has no AppArmor (tests/vm has)")
@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize("way", ["a volume", "a tmpfs", "the image"])
def test_cve_2019_16884_a_fake_proc_does_not_take_the_label_away(
    runtime: Runtime, bundle: Bundle, profile: str, way: str, verb: str
) -> None:
    """Seen by what it does: also where the container has no procfs to look at."""
    fake = bundle.path / "fake"
    fake_attributes(fake)
    if way == "a volume":
        bind(bundle, fake, "/proc")
    elif way == "a tmpfs":
        add_mount(bundle, destination="/proc/self/attr", type="tmpfs", source="tmpfs")
    else:
        mounts_without(bundle, "/proc")
        fake_attributes(bundle.rootfs / "proc")
    before = everything_of(fake), everything_of(bundle.rootfs / "proc")
    bundle.config["process"]["apparmorProfile"] = profile
    if verb == "run":
        done = runtime.sh(bundle, "cat /etc/passwd")
    else:
        bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
        assert runtime("run", "--detach", "-b", bundle.write().path, "c").code == 0
        try:
            done = runtime("exec", "c", "cat", "/etc/passwd")
        finally:
            assert runtime("delete", "--force", "c").code == 0
    assert (done.code, done.out) == (1, "")
    assert "Permission denied" in done.err
    assert before == (everything_of(fake), everything_of(bundle.rootfs / "proc"))
