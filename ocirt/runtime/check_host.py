"""What a configuration asks for and this host does not have, as far as it can be told before anything is made.

`create` would fail with each error, most in the kernel's words. A warning is what may still come right: a module that
is loaded on demand, a program that a hook puts there. The configuration is one that `load` takes: its types are right.
"""

from __future__ import annotations

import os
import resource
import stat

from ocirt.cgroups.layout import exists
from ocirt.config.hooks import KINDS
from ocirt.config.lists import bits_of
from ocirt.config.names import NAMESPACES, RLIMITS
from ocirt.config.schema import ERROR, WARNING, Problem, meant
from ocirt.config.seccomp import notifies
from ocirt.config.sysctl import path_of, pointer_of
from ocirt.errors import ConfigError
from ocirt.host.facts import permitted_capabilities
from ocirt.host.offers import LOWEST_KERNEL, filesystems, found_in, kernel, namespaces, number_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

CAP_SYS_RESOURCE = 1 << 24
MOST = 8192
"""More processors or memory nodes has no kernel."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IN_THE_CONTAINER = "startContainer"
"""The kind of hook whose path is one of the container's; all others' are the host's."""


def host_problems(spec: dict[str, Any], rootfs: str) -> list[Problem]:
    """All of them. `rootfs`: the root file system's absolute path."""
    linux = spec.get("linux") or {}
    return [
        *_kernel(),
        *_filesystems(spec.get("mounts") or ()),
        *_namespaces(linux.get("namespaces") or ()),
        *_rlimits((spec.get("process") or {}).get("rlimits") or ()),
        *_hooks(spec.get("hooks") or {}),
        *_agent(linux.get("seccomp") or {}),
        *_program(spec, rootfs),
        *_sysctl(linux.get("sysctl") or {}),
        *_processors_and_nodes(linux),
    ]


def _kernel() -> Iterator[Problem]:
    here = kernel()
    if not here["newEnough"]:
        wanted = ".".join(map(str, LOWEST_KERNEL))
        yield _problem(ERROR, None, f"expected Linux {wanted} or newer, got {here['release']}")


def _filesystems(mounts: Sequence[dict[str, Any]]) -> Iterator[Problem]:
    known = filesystems()
    for index, mount in enumerate(mounts):
        kind, options = mount.get("type") or "", mount.get("options") or ()
        if kind and kind not in (*known, "cgroup") and "bind" not in options and "rbind" not in options:
            message = f'this kernel lists no file system "{kind}", unless a module brings it'
            yield _problem(WARNING, f"/mounts/{index}/type", message, hint=meant(kind, known))


def _namespaces(wanted: Sequence[dict[str, Any]]) -> Iterator[Problem]:
    limits = namespaces()["limits"]
    for index, namespace in enumerate(wanted):
        kind, pointer = namespace["type"], f"/linux/namespaces/{index}/type"
        if kind not in limits and kind in NAMESPACES:
            yield _problem(ERROR, pointer, f"this kernel has no {kind} namespaces")
        elif limits.get(kind) == 0 and not namespace.get("path"):
            short = {"mount": "mnt", "network": "net"}.get(kind, kind)
            hint = f"see /proc/sys/user/max_{short}_namespaces"
            yield _problem(ERROR, pointer, f"this host allows no new {kind} namespaces", hint=hint)


def _rlimits(limits: Sequence[dict[str, Any]]) -> Iterator[Problem]:
    may_raise = permitted_capabilities() & CAP_SYS_RESOURCE
    most_files = number_of("/proc/sys/fs/nr_open")
    for index, limit in enumerate(limits):
        pointer, hard = f"/process/rlimits/{index}/hard", limit["hard"]
        if limit["type"] == "RLIMIT_NOFILE" and most_files is not None and hard > most_files:
            hint = "see /proc/sys/fs/nr_open"
            yield _problem(ERROR, pointer, f"expected at most {most_files}, got {hard}", hint=hint)
            continue
        ours = resource.getrlimit(RLIMITS[limit["type"]])[1]
        if not may_raise and ours != resource.RLIM_INFINITY and hard > ours:
            message = f"expected at most {ours}, which is our own hard limit, got {hard}"
            yield _problem(ERROR, pointer, message, hint="raising it needs CAP_SYS_RESOURCE")


def _hooks(hooks: dict[str, list[dict[str, Any]] | None]) -> Iterator[Problem]:
    for kind in KINDS:
        for index, hook in enumerate(hooks.get(kind) or () if kind != _IN_THE_CONTAINER else ()):
            path, pointer = hook["path"], f"/hooks/{kind}/{index}/path"
            if not exists(path):
                yield _problem(ERROR, pointer, f"{path}: No such file or directory", hint="it is a program of the host")
            elif not os.path.isfile(path) or not os.access(path, os.X_OK):
                yield _problem(ERROR, pointer, f"{path}: not an executable file")


def _agent(seccomp: dict[str, Any]) -> Iterator[Problem]:
    """Who answers SCMP_ACT_NOTIFY may be started later."""
    path = seccomp.get("listenerPath") or ""
    if notifies(seccomp) and not (exists(path) and stat.S_ISSOCK(os.stat(path).st_mode)):
        message = f"no agent listens at {path}: there is no such socket"
        yield _problem(WARNING, "/linux/seccomp/listenerPath", message, hint="SCMP_ACT_NOTIFY needs one to answer")


def _program(spec: dict[str, Any], rootfs: str) -> Iterator[Problem]:
    """Only where nothing is mounted can be told what is there."""
    process = spec.get("process") or {}
    program = process["args"][0]
    if "/" in program:
        candidates = [os.path.join(process["cwd"], program)]
    else:
        values = [entry[5:] for entry in process.get("env") or () if entry.startswith("PATH=")]
        folders = (values[-1] if values else _DEFAULT_PATH).split(":")
        candidates = [f"{folder}/{program}" for folder in folders if folder.startswith("/")]
    covered = [os.path.normpath("/" + mount["destination"].lstrip("/")) for mount in spec.get("mounts") or ()]
    for candidate in candidates:
        parents = candidate
        while parents not in ("/", ""):
            if parents in covered:
                return
            parents = os.path.dirname(parents)
        if found_in(rootfs, candidate):
            return
    message = f'"{program}" is not in the root file system'
    yield _problem(WARNING, "/process/args/0", message, hint=f"looked for {', '.join(candidates)}")


def _sysctl(settings: dict[str, str]) -> Iterator[Problem]:
    """The host's own network namespace stands for the container's: what it has not, that has not either."""
    for key in settings:
        if not exists(f"/proc/sys/{path_of(key)}"):
            yield _problem(WARNING, pointer_of(key), f"there is no /proc/sys/{path_of(key)} on this host")


def _processors_and_nodes(linux: dict[str, Any]) -> Iterator[Problem]:
    cpu = (linux.get("resources") or {}).get("cpu") or {}
    policy = linux.get("memoryPolicy") or {}
    for pointer, wanted, kind, words in (
        ("/linux/resources/cpu/cpus", cpu.get("cpus"), "cpu", "processors"),
        ("/linux/resources/cpu/mems", cpu.get("mems"), "node", "memory nodes"),
        ("/linux/memoryPolicy/nodes", policy.get("nodes"), "node", "memory nodes"),
    ):
        there = text_of(f"/sys/devices/system/{kind}/online")
        if not wanted or not there:
            continue
        try:
            missing = bits_of(wanted, pointer, words, MOST) & ~bits_of(there, pointer, words, MOST)
        except ConfigError:  # no list: that is another rule's matter
            continue
        if missing:
            lowest = (missing & -missing).bit_length() - 1
            message = f"expected some of the {words} {there}, got {wanted}"
            yield _problem(ERROR, pointer, message, hint=f"this host has no {lowest}")


def _problem(level: str, pointer: str | None, message: str, *, hint: str = "") -> Problem:
    problem = Problem(level, pointer, message, hint=hint, code="host")
    if message.startswith("expected "):
        problem.expected, _, problem.got = message[9:].partition(", got ")
    return problem
