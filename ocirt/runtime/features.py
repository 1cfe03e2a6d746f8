"""features: what this build of ocirt can do, as the specification's features.md has it.

Every list is made from the table that the code itself works with; what has no table is asked of the code: a property is
implemented if a value of no possible type is refused there as such.
"""

from __future__ import annotations

from ocirt import __version__
from ocirt.cgroups.manager import MANAGERS
from ocirt.cgroups.systemd.properties import ANNOTATION
from ocirt.config.check_mounts import CONTEXT_TYPE
from ocirt.config.hooks import KINDS
from ocirt.config.names import CAPABILITIES, NAMESPACES
from ocirt.config.names_scheduling import MEMORY_POLICIES, MEMORY_POLICY_FLAGS
from ocirt.config.seccomp import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS
from ocirt.config.shape import CONFIG, Mismatch
from ocirt.host.filters import STRICT
from ocirt.host.hooks import STDERR, STDOUT
from ocirt.host.offers import offers, seccomp_flags
from ocirt.plan.compile import KEEP_GROUPS
from ocirt.plan.options import recognized
from ocirt.runtime.criu import CRIU_CONFIG
from ocirt.runtime.handing import RECEIVER
from ocirt.runtime.state import SPEC_VERSION
from ocirt.runtime.version import commit, libseccomp_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOWEST_VERSION = "1.0.0"
HOST = "org.ocirt.host"
"""The property that --host adds. No engine asks for it, and none minds: they ignore what they do not know."""


class _Nothing:
    """No value of a JSON document."""


def implemented(pointer: str) -> bool:
    """Is this property of config.json (`*`: an index or a free key) looked at?"""
    value: object = _Nothing
    parts = pointer.split("/")[1:]
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] != "*":
            value = {parts[at]: value}
        else:
            value = [value] if parts[at - 1] not in ("netDevices", "rdma", "timeOffsets") else {"x": value}
    try:
        CONFIG(value)
    except Mismatch as mismatch:
        return mismatch.value is _Nothing
    return False


def features(*, host: bool = False) -> dict[str, Any]:
    """The features structure; `host` adds what this host offers (host.offers)."""
    document = {
        "ociVersionMin": LOWEST_VERSION,
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(KINDS),
        "mountOptions": sorted(recognized()),
        "linux": _linux(),
        "annotations": _annotations(),
        "potentiallyUnsafeConfigAnnotations": [
            *(STDOUT, STDERR, KEEP_GROUPS, CONTEXT_TYPE, STRICT, ANNOTATION, CRIU_CONFIG, RECEIVER)
        ],
    }
    if host:
        document[HOST] = offers()
    return document


def _linux() -> dict[str, Any]:
    return {
        "namespaces": sorted(NAMESPACES),
        "capabilities": list(CAPABILITIES),
        "cgroup": {
            "v1": True,
            "v2": True,
            "systemd": "systemd" in MANAGERS,
            "systemdUser": False,  # the driver can; a user without rights cannot make containers yet
            "rdma": implemented("/linux/resources/rdma/*/hcaHandles"),
        },
        "seccomp": {
            "enabled": libseccomp_version() is not None,
            "actions": sorted(ACTIONS),
            "operators": sorted(OPERATORS),
            "archs": sorted(f"SCMP_ARCH_{name}" for name in ARCHITECTURES),
            "knownFlags": sorted(FLAGS),
            "supportedFlags": sorted(seccomp_flags()),
        },
        "apparmor": {"enabled": implemented("/process/apparmorProfile")},
        "selinux": {"enabled": implemented("/process/selinuxLabel") and implemented("/linux/mountLabel")},
        "intelRdt": {
            "enabled": implemented("/linux/intelRdt/closID"),
            "schemata": implemented("/linux/intelRdt/schemata"),
            "monitoring": implemented("/linux/intelRdt/enableMonitoring"),
        },
        "memoryPolicy": {"modes": list(MEMORY_POLICIES), "flags": list(MEMORY_POLICY_FLAGS)},
        "mountExtensions": {"idmap": {"enabled": implemented("/mounts/*/uidMappings/*/hostID")}},
        "netDevices": {"enabled": implemented("/linux/netDevices/*/name")},
    }


def _annotations() -> dict[str, str]:
    """runc's key for checkpoints is the one that engines look for. It is about this build: criu may be missing."""
    found = {
        "org.ocirt.version": __version__,
        "org.ocirt.commit": commit(),
        "org.opencontainers.runc.checkpoint.enabled": "true",
    }
    libseccomp = libseccomp_version()
    if libseccomp:
        found["io.github.seccomp.libseccomp.version"] = libseccomp
    return found
