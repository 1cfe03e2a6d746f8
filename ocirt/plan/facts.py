"""What the compiler has to know about the host, gathered by `host.facts` or made up by a test."""

from __future__ import annotations

from ocirt.plan.kernel import SECCOMP_FILTER_FLAG_NEW_LISTENER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


KEYRING = "keyring"
"""Facts.own has it beside "cgroup NAME"."""


class Hierarchy:
    """A mounted cgroup hierarchy, as a container is shown it.

    name     its folder under /sys/fs/cgroup, such as "cpu,cpuacct", "systemd" or "unified"; "" for pure v2
    options  what fsconfig(2) needs to mount it again: (key, value or None) pairs; v2 needs none
    source   the container's own cgroup in it, an absolute path on the host
    v2       is it the unified hierarchy?
    """

    __slots__ = ("name", "options", "source", "v2")

    def __init__(self, name: str, options: tuple[tuple[str, str | None], ...], source: str, v2: bool) -> None:
        self.name = name
        self.options = options
        self.source = source
        self.v2 = v2


class Filter:
    """A compiled seccomp filter.

    program    classic BPF: 8 bytes an instruction
    flags      of seccomp(2); with NEW_LISTENER, if a rule asks a listener
    warnings   "POINTER: words"
    blocks     may it forbid what the program's start needs?
    """

    __slots__ = ("blocks", "flags", "program", "warnings")

    def __init__(self, program: bytes, flags: int, warnings: tuple[str, ...] = (), *, blocks: bool = False) -> None:
        self.program = program
        self.flags = flags
        self.warnings = warnings
        self.blocks = blocks

    @property
    def listens(self) -> bool:
        """Does loading it open a listener, which the host hands on?"""
        return bool(self.flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)


class Facts:
    """The host, as far as a plan depends on it.

    machine            uname(2)'s machine: a key of syscalls.MACHINES
    container_id       the container's id
    rootfs             the root file system's absolute path
    place              a folder above it that a user namespace's init can reach, if it cannot reach itself; or ""
    directories        for each bind source (as the config writes it): is it a directory?
    symlinks           for each bind source that is a symlink and meant as such: what it says
    last_capability    the kernel's highest capability (/proc/sys/kernel/cap_last_cap)
    permitted          bit set of the caller's permitted capabilities
    unprivileged       has the caller no CAP_SYS_ADMIN? Then the user namespace, which gives it, comes before all else
    nested             is the caller in a user namespace itself? Then its root may make no device nodes
    foreign            of its namespaces that it would share those that its user namespace does not own
    groups_denied      is setgroups(2) denied in the container's user namespace?
    kept               for each bind source whose mount has flags that may not be cleared: these (MOUNT_ATTR_*)
    hierarchies        the cgroup hierarchies that the container joins
    pure_v2            is /sys/fs/cgroup itself the unified hierarchy?
    into_cgroup        start inside the v2 cgroup (clone3's CLONE_INTO_CGROUP): its descriptor is inherited
    attached_late      the host attaches the container while init runs, so init must wait for it
    new_keyring        does it get a session keyring of its own?
    unpivoted          --no-pivot: where the host has a procfs or a sysfs, innermost first. None: pivot_root(2) it is
    wait_for_start     create: wait at the FIFO for `start`. False: run at once
    joined             namespaces that the container joins, by inherited descriptors: "network", "user" …
    shared             namespaces that are listed with a path and are the caller's own: nothing to enter
    security_modules   of "apparmor" and "selinux" those that are enabled; looked up only for who names one of them
    preserved          how many descriptors, from 3 on, are handed on to the program
    listened           of these, how many are a service manager's (LISTEN_FDS); they come first
    user_maps          how many user namespaces are inherited only for their id maps (idmapped mounts)
    window             rows and columns of the user's terminal, when it is to be copied
    seccomp            the compiled filter of linux.seccomp
    """

    __slots__ = (
        "attached_late",
        "container_id",
        "directories",
        "foreign",
        "groups_denied",
        "hierarchies",
        "into_cgroup",
        "joined",
        "kept",
        "last_capability",
        "listened",
        "machine",
        "nested",
        "new_keyring",
        "permitted",
        "place",
        "preserved",
        "pure_v2",
        "rootfs",
        "seccomp",
        "security_modules",
        "shared",
        "symlinks",
        "unpivoted",
        "unprivileged",
        "user_maps",
        "wait_for_start",
        "window",
    )

    def __init__(
        self,
        *,
        machine: str = "x86_64",
        container_id: str = "container",
        rootfs: str = "/rootfs",
        directories: Mapping[str, bool] | None = None,
        symlinks: Mapping[str, str] | None = None,
        last_capability: int = 40,
        permitted: int = (1 << 41) - 1,
        unprivileged: bool = False,
        nested: bool = False,
        foreign: tuple[str, ...] = (),
        place: str = "",
        groups_denied: bool = False,
        kept: Mapping[str, int] | None = None,
        hierarchies: tuple[Hierarchy, ...] = (),
        pure_v2: bool = False,
        into_cgroup: bool = False,
        attached_late: bool = True,
        joined: tuple[str, ...] = (),
        shared: tuple[str, ...] = (),
        security_modules: tuple[str, ...] = (),
        preserved: int = 0,
        listened: int = 0,
        new_keyring: bool = True,
        unpivoted: tuple[str, ...] | None = None,
        user_maps: int = 0,
        wait_for_start: bool = True,
        window: tuple[int, int] | None = None,
        seccomp: Filter | None = None,
    ) -> None:
        self.machine = machine
        self.container_id = container_id
        self.rootfs = rootfs
        self.directories = directories or {}
        self.symlinks = symlinks or {}
        self.last_capability = last_capability
        self.permitted = permitted
        self.unprivileged = unprivileged
        self.nested = nested
        self.foreign = foreign
        self.place = place
        self.groups_denied = groups_denied
        self.kept = kept or {}
        self.hierarchies = hierarchies
        self.pure_v2 = pure_v2
        self.into_cgroup = into_cgroup
        self.attached_late = attached_late
        self.joined = joined
        self.shared = shared
        self.security_modules = security_modules
        self.preserved = preserved
        self.listened = listened
        self.new_keyring = new_keyring
        self.unpivoted = unpivoted
        self.user_maps = user_maps
        self.wait_for_start = wait_for_start
        self.window = window
        self.seccomp = seccomp

    def own(self) -> dict[str, str]:
        """The strings of a plan that are this container's own (step.Own), by name; a plan may have less than these."""
        names = {f"cgroup {one.name}": one.source for one in self.hierarchies}
        names[KEYRING] = f"_ses.{self.container_id}"
        return names
