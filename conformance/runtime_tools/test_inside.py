"""The suite's programs that look from inside, and those that expect a refusal: a test has its program's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from suite_container import fails

if TYPE_CHECKING:
    from suite_container import SuiteContainer

pytestmark = pytest.mark.root


def test_default(container: SuiteContainer) -> None:
    """The generator's configuration, as it is."""
    container.is_as_configured()


@pytest.mark.parametrize("name", ["", "hostname-specific"])
def test_hostname(container: SuiteContainer, name: str) -> None:
    """hostname is what is seen by processes in the container; without it nothing is asked for."""
    del container.config["hostname"]
    if name:
        container.config["hostname"] = name
    container.is_as_configured()


def test_root_readonly_true(container: SuiteContainer) -> None:
    """If root.readonly is true, the root filesystem MUST be read-only inside the container."""
    container.config["root"]["readonly"] = True
    container.is_as_configured()


def test_process(container: SuiteContainer) -> None:
    """cwd and env are the process's."""
    (container.bundle / "test").mkdir(0o700)
    container.process["cwd"] = "/test"
    container.process["env"] += ["testa=valuea", "testb=123"]
    container.is_as_configured()


def test_process_user(container: SuiteContainer) -> None:
    """uid, gid, additionalGids and umask are the process's."""
    container.process["user"] = {"uid": 10, "gid": 10, "additionalGids": [5], "umask": 0o002}
    container.is_as_configured()


def test_process_oom_score_adj(container: SuiteContainer) -> None:
    """The runtime MUST set oom_score_adj."""
    container.process["oomScoreAdj"] = 500
    container.is_as_configured()


def test_process_rlimits_fail(container: SuiteContainer) -> None:
    """The runtime MUST generate an error for any rlimit that cannot be mapped to a relevant kernel interface."""
    container.process["rlimits"].append({"type": "RLIMIT_TEST", "hard": 1024, "soft": 1024})
    assert fails(container.create())


def test_process_capabilities_fail(container: SuiteContainer) -> None:
    """Any capability that cannot be mapped to a relevant kernel interface MUST cause an error (until 1.0.2)."""
    container.process["capabilities"]["bounding"] = [*container.process["capabilities"]["bounding"], "CAP_TEST"]
    assert fails(container.create())


def test_linux_devices(container: SuiteContainer) -> None:
    """Devices MUST be available in the container, with their type, numbers, mode and owner."""
    owner = {"fileMode": 0o660, "uid": 0, "gid": 0}
    container.linux["devices"] = [
        {"path": "/dev/test1", "type": "c", "major": 10, "minor": 666, **owner},
        {"path": "/dev/test2", "type": "b", "major": 8, "minor": 666, **owner},
        {"path": "/dev/test3", "type": "p", "major": 8, "minor": 666, "fileMode": 0o660},
    ]
    container.is_as_configured()


def test_linux_mount_label(container: SuiteContainer) -> None:
    """mountLabel is no error where SELinux is off: there is nothing that it could change."""
    container.linux["mountLabel"] = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"
    container.is_as_configured()


def test_linux_seccomp(container: SuiteContainer) -> None:
    """The filter holds for the process, and the runtime itself needs nothing that it forbids. Rules whose action is the
    default one are taken."""
    container.linux["seccomp"] = {
        **container.linux["seccomp"],
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            *(one for one in container.linux["seccomp"]["syscalls"] if "args" in one),
            {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"},
        ],
    }
    assert "Operation not permitted" in container.is_as_configured()["getcwd"]


def test_linux_sysctl(container: SuiteContainer) -> None:
    """The runtime sets kernel parameters of the container's namespaces."""
    container.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    container.is_as_configured()


def test_linux_uid_mappings(container: SuiteContainer) -> None:
    """uidMappings and gidMappings describe the user namespace's mappings from the host to the container."""
    container.linux["namespaces"].append({"type": "user"})
    container.linux["uidMappings"] = [{"containerID": 0, "hostID": 1000, "size": 2000}]
    container.linux["gidMappings"] = [{"containerID": 0, "hostID": 1000, "size": 3000}]
    container.is_as_configured()


@pytest.mark.parametrize("kind", ["shared", "slave", "private", "unbindable"])
def test_linux_rootfs_propagation(container: SuiteContainer, kind: str) -> None:
    """rootfsPropagation sets the mount propagation of the container's /, after the change of the root."""
    capabilities = container.process["capabilities"]
    container.process["capabilities"] = {name: [*held, "CAP_SYS_ADMIN"] for name, held in capabilities.items()}
    del container.linux["seccomp"]
    container.linux["rootfsPropagation"] = kind
    assert container.is_as_configured()["propagation=/"]


def test_mounts(container: SuiteContainer) -> None:
    """The runtime MUST mount entries in the listed order: with options of all kinds, also where they mean nothing."""

    def bind(*options: str) -> dict[str, Any]:
        return {"destination": f"/mnt/etc-{options[-1]}", "source": "/etc", "options": options}

    def tmpfs(option: str) -> dict[str, Any]:
        return {"destination": f"/tmp/test-{option}", "type": "tmpfs", "source": "tmpfs", "options": [option]}

    kinds = ("shared", "slave", "private", "unbindable")
    mounts = [tmpfs(kind) for kind in kinds[:3]]
    mounts += [bind(word, kind) for one in kinds for word, kind in (("bind", one), ("rbind", f"r{one}"))]
    for mount in mounts:
        mount["options"] = ["nosuid", "strictatime", "mode=755", "size=1k", *mount["options"]]
    container.config["mounts"] += mounts
    container.is_as_configured()
