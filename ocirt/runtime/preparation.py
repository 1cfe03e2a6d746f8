"""What is decided about a container before anything of it exists."""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import detect
from ocirt.cgroups.manager import Cgroups
from ocirt.config.load import load
from ocirt.config.names import NAMESPACES
from ocirt.config.read import placed
from ocirt.errors import ConfigError, Error
from ocirt.host.facts import CAP_SYS_ADMIN, gather, permitted_capabilities
from ocirt.host.image import init_image
from ocirt.host.launch import Ahead, Init
from ocirt.plan.compile import compile_plan
from ocirt.plan.encode import encode
from ocirt.plan.inherited import CONTROL, inherited
from ocirt.plan.kernel import CLONE_PARENT
from ocirt.plan.verify import verify
from ocirt.runtime.handing import RECEIVER, Handing, check_open
from ocirt.state.store import Store, check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.config.read import Config
    from ocirt.host.netdevices import NetDevices
    from ocirt.host.resctrl import Resctrl
    from ocirt.plan.encode import Encoded
    from ocirt.plan.scope import Compiled
    from ocirt.runtime.agent import Agent
    from ocirt.runtime.notify import Notify


class Preparation:
    """A container that could be made: its configuration, the facts, the plan, and what the host will do beside it.

    Everything that can be refused is refused in the constructor, with an Error that has its place in config.json.

    config_text: what the configuration says, instead of a file.
    ahead: stdin, stdout and stderr of an init that may be started before the plan is made; () for none.
    """

    takes_activation = True
    """Are the descriptors that a service manager gave us (LISTEN_FDS) for the container?"""
    notifies = True
    """Does the program get a socket for sd_notify(3), if our caller has one?"""
    traces = False
    """Is a listener asked about what the seccomp profile denies?"""
    further = 0
    """How many descriptors the program gets after stderr: stdio has them."""

    def __init__(
        self,
        root: str,
        container_id: str,
        bundle: str,
        *,
        wait_for_start: bool,
        console_socket: str | None = None,
        pidfd_socket: str | None = None,
        terminal_is_ours: bool = False,
        window: tuple[int, int] | None = None,
        pid_file: str | None = None,
        strict: bool = False,
        preserve_fds: int = 0,
        config_file: str | None = None,
        new_keyring: bool = True,
        pivot: bool = True,
        manager: str = "cgroupfs",
        config_text: str | None = None,
        ahead: Sequence[int] = (),
    ) -> None:
        check_id(container_id)
        self.id = container_id
        self.store = Store(root)
        try:
            self.config = self._load(bundle, config_file, config_text)
        except ConfigError as error:
            raise _counted(error, bundle, config_file, config_text) from None
        receiver = (self.config.spec.get("annotations") or {}).get(RECEIVER)
        self.handing = Handing(console_socket, pidfd_socket, pid_file, receiver)
        self.has_terminal = bool(self.config.spec["process"].get("terminal"))
        self.descriptors: dict[str, int] = {}
        self.resctrl: Resctrl | None = None
        self.net_devices: NetDevices | None = None
        self.notify: Notify | None = None
        self.ahead: Ahead | None = None
        self.hook_kinds: dict[str, list[str]] = {}
        if self.config.spec.get("hooks"):
            from ocirt.config.hooks import kinds_of

            self.hook_kinds = kinds_of(self.config.spec, strict=strict)
        try:
            self.handing.check(self.has_terminal, terminal_is_ours=terminal_is_ours)
            listened = _handed_over() if self.takes_activation else 0
            if preserve_fds:
                check_open(CONTROL + listened, preserve_fds)
            layout = detect()
            permitted = permitted_capabilities()
            if not permitted & CAP_SYS_ADMIN:
                from ocirt.host.rootless import give_user_namespace

                give_user_namespace(self.config)
            made = self._add_notify() if self.notifies and posix.environ.get(b"NOTIFY_SOCKET") else ""
            linux = self.config.spec.get("linux") or {}
            self.cgroups = Cgroups.chosen(manager, layout, self.config.spec, container_id)
            if ahead and permitted & CAP_SYS_ADMIN and not (listened or preserve_fds or made):
                self.ahead = self._send_ahead(ahead, late=self.cgroups.joins(layout.pure_v2) == (False, True))
            self.config.warnings += self.cgroups.limit(linux.get("resources") or {})
            self.facts = gather(
                self.config,
                container_id,
                layout,
                self.cgroups,
                permitted=permitted,
                wait_for_start=wait_for_start,
                window=window,
                descriptors=self.descriptors,
                made=made,
                preserved=self.further + listened + preserve_fds,
                listened=listened,
                new_keyring=new_keyring,
                pivot=pivot,
                traced=self.traces,
            )
            self.compiled, self.encoded = self._plan()
            if linux.get("intelRdt"):
                from ocirt.host.resctrl import Resctrl, mount_point

                self.resctrl = Resctrl(linux["intelRdt"], container_id, mount_point())
            if linux.get("netDevices"):
                from ocirt.host.netdevices import NetDevices

                self.net_devices = NetDevices(linux["netDevices"], self.facts.shared)
            self.agent = self._find_agent()
            self.handing.connect()
        except BaseException as error:
            self.close_descriptors()
            if self.ahead:
                self.ahead.drop()
            if isinstance(error, Error):
                raise _counted(self.placed(error), self.config.bundle, config_file, config_text) from None
            raise
        if self.ahead and not self.ahead.fits(self.compiled.plan, inherited(self.facts)):
            self.ahead.drop()
            self.ahead = None
        self.init = Init(self.compiled.plan, self.encoded, self.ahead)

    def _load(self, bundle: str, file: str | None, text: str | None) -> Config:
        return load(bundle, file, text)

    def _plan(self) -> tuple[Compiled, Encoded]:
        """The plan, proved, and its bytes."""
        compiled = compile_plan(self.config, self.facts)
        verify(compiled.plan)
        return compiled, encode(compiled.plan)

    @property
    def warnings(self) -> list[str]:
        return self.config.warnings + self.compiled.warnings

    def _send_ahead(self, stdio: Sequence[int], *, late: bool) -> Ahead | None:
        """Start init while the plan is made, where it is known already what the clone will be: new namespaces, and none
        that is joined, has ids mapped or clocks moved. late: are the cgroups joined by the host?"""
        spec = self.config.spec
        listed = spec["linux"].get("namespaces") or ()
        if not late or any(one.get("path") or one["type"] in ("user", "time") for one in listed):
            return None
        flags = CLONE_PARENT
        for one in listed:
            if one["type"] != "cgroup":
                flags |= NAMESPACES[one["type"]]
        try:
            return Ahead(init_image(), flags, stdio)
        except OSError:
            return None  # it will fail again, and then there is somebody to report it

    def _add_notify(self) -> str:
        """Returns the folder that is going to be there, to be mounted; "" without."""
        from ocirt.runtime.notify import Notify, mounted

        folder = mounted(self.config, self.store.folder(self.id))
        if folder:
            self.notify = Notify()
        return folder

    def _find_agent(self) -> Agent | None:
        """Who answers SCMP_ACT_NOTIFY: `start` connects to it, or `run` at once."""
        if not (self.facts.seccomp and self.facts.seccomp.listens):
            return None
        from ocirt.runtime.agent import Agent

        seccomp, words = self.config.spec["linux"]["seccomp"], self.descriptors["words"]
        return Agent(seccomp, words, connected=not self.facts.wait_for_start)

    def new_namespaces(self) -> set[str]:
        listed = {one["type"] for one in self.config.spec["linux"].get("namespaces") or ()}
        return listed.difference(self.facts.joined, self.facts.shared)

    def close_descriptors(self) -> None:
        while self.descriptors:
            posix.close(self.descriptors.popitem()[1])

    def placed(self, error: Error) -> Error:
        if error.pointer is None:
            return error
        return placed(error, self.config.path, self.config.text)


def _handed_over() -> int:
    """How many descriptors a service manager gave us for the container."""
    if b"LISTEN_FDS" not in posix.environ:
        return 0
    from ocirt.host.activation import handed_over

    return handed_over()


def _counted(error: Error, bundle: str, file: str | None, text: str | None) -> Error:
    """With the number of problems that the bundle has beside this one, if that is one of its configuration's."""
    if error.pointer is None:
        return error
    from ocirt.runtime.check import counted

    return counted(error, bundle, file, text)
