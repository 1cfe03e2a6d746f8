"""The verb table: the one place that declares each verb's arguments and flags.

Both the fast argument loop of the hot verbs (`argv`) and the click commands (`commands`: help, errors, completion) are
made from it. `action` names the function in `actions` (hot) or `cold_actions` that carries a verb out.
"""

from __future__ import annotations


class Flag:
    """--name, and its short letters. `metavar`: what its value is called; None for a switch. many: may it be given more
    than once? Then its value is a list. bare: its value when it is given without one; then one is given by --name=VALUE
    alone."""

    __slots__ = ("bare", "default", "help", "letters", "many", "metavar", "name", "values")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        metavar: str | None = None,
        letters: str = "",
        default: str | None = None,
        values: tuple[str, ...] = (),
        many: bool = False,
        bare: str | None = None,
    ) -> None:
        self.name = name
        self.help = help
        self.metavar = metavar
        self.letters = letters
        self.default = default
        self.values = values
        self.many = many
        self.bare = bare

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def start(self) -> str | bool | list[str] | None:
        """Its value when it is not given."""
        return [] if self.many else self.default if self.metavar else False


class Verb:
    """`arguments`: names of the positional ones; "[X]" is optional, and "[X...]", the last, is all that follows, flags
    included: it is for another program."""

    __slots__ = ("arguments", "flags", "help", "hot", "name")

    def __init__(self, name: str, help: str, arguments: tuple[str, ...], *flags: Flag, hot: bool = False) -> None:
        self.name = name
        self.help = help
        self.arguments = arguments
        self.flags = flags
        self.hot = hot

    @property
    def open_ended(self) -> bool:
        return bool(self.arguments) and self.arguments[-1].endswith("...]")

    def takes(self, count: int) -> bool:
        """May there be so many arguments?"""
        needed = sum(not name.startswith("[") for name in self.arguments)
        return needed <= count and (self.open_ended or count <= len(self.arguments))


_LEVELS = ("error", "warning", "info", "debug")
GLOBAL_FLAGS = (
    Flag(
        "root",
        "Keep the containers' state in this folder. Default: /run/ocirt; for others than root $XDG_RUNTIME_DIR/ocirt.",
        metavar="DIR",
    ),
    Flag("log", "Write errors to this file too.", metavar="FILE"),
    Flag("log-format", "How the log file is written.", metavar="FORMAT", default="text", values=("text", "json")),
    Flag(
        "log-level",
        "warning or debug: also log warnings.",
        metavar="LEVEL",
        values=("error", "warning", "info", "debug"),
    ),
    Flag("debug", "Also log warnings, and where an unexpected error came from."),
    Flag(
        "cgroup-manager",
        "Who makes a new container's cgroups: ocirt, systemd, or nobody.",
        metavar="MANAGER",
        default="cgroupfs",
        values=("cgroupfs", "systemd", "disabled"),
    ),
    Flag("systemd-cgroup", "The same as --cgroup-manager systemd."),
    Flag("rootless", "Ignored: what the caller may is found out.", metavar="WHEN", values=("true", "false", "auto")),
    Flag("criu", "The criu to use. Default: the one in PATH.", metavar="PATH"),
    Flag("strict", "Follow the specification where engines do not: delete refuses a created container."),
)

_BUNDLE = Flag("bundle", "The bundle: a folder with a config.json. Default: this one.", metavar="DIR", letters="b")
_CONFIG = Flag("config", "The configuration, if it is another file than the bundle's.", metavar="FILE", letters="f")
_SUBREAPER = Flag("no-subreaper", "Ignored: ocirt never becomes one.")
_REGEX = Flag("regex", "ID is a regular expression: all containers whose whole id it matches.", letters="r")
_CONSOLE = Flag("console-socket", "Send the terminal's master to this unix socket.", metavar="PATH")
_PID_FILE = Flag("pid-file", "Write the first process's pid to this file.", metavar="FILE")
_PIDFD = Flag("pidfd-socket", "Send a pidfd of the process to this unix socket.", metavar="PATH")
_PRESERVE = Flag("preserve-fds", "Hand so many descriptors on, from 3 on.", metavar="N")
_FORCE = Flag("force", "Kill it first; clean up whatever is left; an unknown id is no error.", letters="f")
_DETACH = Flag("detach", "Do not wait for it.", letters="d")
_KEYRING = Flag("no-new-keyring", "Leave it the caller's session keyring.")
_NO_PIVOT = Flag("no-pivot", "For a host whose root is its initramfs. Less safe: the host stays below.")
_MAKING = (_BUNDLE, _CONFIG, _CONSOLE, _PIDFD, _PID_FILE, _PRESERVE, _KEYRING, _NO_PIVOT, _SUBREAPER)
_ROOT_BY_CRIU = Flag("no-pivot", "Ignored: CRIU sees to the root.")
_IMAGES = (
    Flag("image-path", "The folder of the image files. Default: ./checkpoint.", metavar="DIR"),
    Flag("work-path", "The folder of CRIU's log and statistics. Default: that of the images.", metavar="DIR"),
    Flag("tcp-established", "Also TCP connections."),
    Flag("tcp-close", "TCP connections are closed when it is restored."),
    Flag("ext-unix-sk", "Also unix sockets whose other end is outside."),
    Flag("shell-job", "Also what belongs to a session, or a terminal, outside."),
    Flag("file-locks", "Also file locks: be sure that nobody else has them."),
    Flag("manage-cgroups-mode", "soft, full, strict, ignore … (CRIU's). Default: soft.", metavar="MODE"),
    Flag("network-lock", "How packets are kept away meanwhile: iptables, nftables or skip.", metavar="HOW"),
    Flag("empty-ns", "network: what is in that namespace is not saved. It never is.", metavar="KIND", many=True),
    Flag("auto-dedup", "Drop pages of memory from the images that were saved or restored again."),
    Flag("lazy-pages", "Memory is fetched when it is used, from `criu lazy-pages`."),
)
_FORMAT = Flag("format", "Table or JSON.", metavar="FORMAT", letters="f", default="table", values=("table", "json"))
_UPDATE = (
    Flag("resources", "A linux.resources object to take over; -: from stdin.", metavar="FILE", letters="r"),
    Flag("memory", "Limit in bytes, or with k, m or g; -1: none.", metavar="SIZE"),
    Flag("memory-reservation", "What is kept when memory is short.", metavar="SIZE"),
    Flag("memory-swap", "Limit of memory and swap together; -1: none.", metavar="SIZE"),
    Flag("kernel-memory", "Obsolete: kernels since 5.16 do not limit it.", metavar="SIZE"),
    Flag("kernel-memory-tcp", "Limit of the TCP buffers (cgroup v1).", metavar="SIZE"),
    Flag("cpu-share", "Weight against others: 2 to 262144, usually 1024.", metavar="NUMBER"),
    Flag("cpu-quota", "Microseconds that it may run in a period; -1: all.", metavar="NUMBER"),
    Flag("cpu-period", "Length of that period in microseconds.", metavar="NUMBER"),
    Flag("cpu-burst", "Microseconds beyond the quota that it may have saved.", metavar="NUMBER"),
    Flag("cpu-idle", "1: only what no other wants.", metavar="NUMBER"),
    Flag("cpu-rt-runtime", "As cpu-quota, for real-time scheduling (cgroup v1).", metavar="NUMBER"),
    Flag("cpu-rt-period", "As cpu-period, for real-time scheduling (cgroup v1).", metavar="NUMBER"),
    Flag("cpuset-cpus", "Processors, such as 0-3,7.", metavar="LIST"),
    Flag("cpuset-mems", "Memory nodes, such as 0,1.", metavar="LIST"),
    Flag("pids-limit", "How many processes; -1: any number.", metavar="NUMBER"),
    Flag("blkio-weight", "Weight of block I/O: 10 to 1000.", metavar="NUMBER"),
    Flag("l3-cache-schema", "Of the processor's L3 cache (Intel RDT).", metavar="LINE"),
    Flag("mem-bw-schema", "Of the memory bandwidth (Intel RDT).", metavar="LINE"),
)

VERBS = {
    verb.name: verb
    for verb in (
        Verb("create", "Create a container; it waits for start.", ("ID",), *_MAKING, hot=True),
        Verb("start", "Start a created container.", ("ID",), hot=True),
        Verb(
            "run",
            "Create and start a container, and wait for it: ocirt run BUNDLE/ [ID], or ocirt run -b BUNDLE ID.",
            ("BUNDLE|ID", "[ID]"),
            *_MAKING,
            _DETACH,
            Flag("keep", "Leave it stopped when it has ended, and do not remove it."),
            Flag(
                "seccomp-trace",
                "At the end, say which system calls the seccomp profile denied; in FILE: as JSON.",
                metavar="[=FILE]",
                bare="-",
            ),
            hot=True,
        ),
        Verb(
            "exec",
            "Run one more process in a container.",
            ("ID", "[COMMAND...]"),
            Flag("process", "A process object that says all of it.", metavar="FILE", letters="p"),
            Flag("tty", "With a terminal.", letters="t"),
            Flag("user", "Numbers: UID or UID:GID.", metavar="UID", letters="u"),
            Flag("additional-gids", "One more group.", metavar="GID", letters="g", many=True),
            Flag("cwd", "The working directory.", metavar="DIR"),
            Flag("env", "One more variable.", metavar="NAME=VALUE", letters="e", many=True),
            Flag("cap", "One more capability.", metavar="NAME", letters="c", many=True),
            Flag("no-new-privs", "Set no_new_privs."),
            Flag("apparmor", "Its AppArmor profile.", metavar="PROFILE"),
            Flag("process-label", "Its SELinux label.", metavar="LABEL"),
            Flag("cgroup", "A cgroup below the container's.", metavar="[CONTROLLER:]PATH", many=True),
            _DETACH,
            _CONSOLE,
            _PIDFD,
            _PID_FILE,
            _PRESERVE,
            Flag("ignore-paused", "Also in a paused container: it begins when that is resumed."),
            hot=True,
        ),
        Verb("state", "Print a container's state as JSON.", ("ID",), hot=True),
        Verb(
            "kill",
            "Send a signal (default TERM) to a container's first process.",
            ("ID", "[SIGNAL]"),
            Flag("all", "To all of its processes, also to those that its first one has left.", letters="a"),
            _REGEX,
            hot=True,
        ),
        Verb("pause", "Stop all processes of a container.", ("ID",), hot=True),
        Verb("resume", "Let a paused container go on.", ("ID",), hot=True),
        Verb("ps", "List a container's processes.", ("ID", "[PS OPTION...]"), _FORMAT, hot=True),
        Verb("update", "Change a container's limits.", ("ID",), *_UPDATE, hot=True),
        Verb("delete", "Remove a stopped container.", ("ID",), _FORCE, _REGEX, hot=True),
        Verb(
            "events",
            "Print what a container uses, again and again, and when memory ran out.",
            ("ID",),
            Flag("stats", "Once, at once, and end."),
            Flag("interval", "The time between, such as 500ms, 5s, 1m30s.", metavar="DURATION", default="5s"),
            hot=True,
        ),
        Verb("mounts", "Add mounts to a container that runs, or take some away.", ("add|remove", "ID", "FILE")),
        Verb(
            "list",
            "List the containers.",
            (),
            _FORMAT,
            Flag("quiet", "Only the ids.", letters="q"),
            hot=True,
        ),
        Verb(
            "gc",
            "Show what commands that were killed have left, and with --force remove it.",
            (),
            Flag("force", "Remove it."),
            Flag("stopped", "Also show containers that have stopped; they stay."),
            _FORMAT,
        ),
        Verb(
            "checkpoint",
            "Save a running container to files, with CRIU, and end it.",
            ("ID",),
            *_IMAGES,
            Flag("leave-running", "It goes on afterwards."),
            Flag("pre-dump", "Only its memory, and it goes on: the next dump needs --parent-path alone."),
            Flag("parent-path", "The folder of a pre-dump, counted from --image-path.", metavar="DIR"),
            Flag("page-server", "Send the memory to `criu page-server` there.", metavar="ADDRESS:PORT"),
            Flag("status-fd", "A zero byte is written there when lazy pages can be fetched.", metavar="N"),
            Flag("tcp-skip-in-flight", "Not TCP connections that are not yet accepted."),
            Flag("link-remap", "Files that are open and unlinked get a name again."),
        ),
        Verb(
            "restore",
            "Make a container of what checkpoint saved.",
            ("ID",),
            *_IMAGES,
            _BUNDLE,
            _DETACH,
            _CONSOLE,
            _PID_FILE,
            Flag("lsm-profile", "Another AppArmor profile or SELinux label.", metavar="TYPE:NAME"),
            Flag("lsm-mount-context", "Another SELinux context of mounts.", metavar="CONTEXT"),
            _SUBREAPER,
            _ROOT_BY_CRIU,
        ),
        Verb(
            "spec",
            "Write a config.json to start from.",
            (),
            _BUNDLE,
            Flag("file", "Its name, counted from the bundle. Default: config.json.", metavar="FILE", letters="f"),
            Flag("rootless", "For a user without rights: with a user namespace, and the host's network."),
        ),
        Verb(
            "explain",
            "Print the system calls that would run, each with the config value it is due to.",
            ("[BUNDLE]",),
            _BUNDLE,
            Flag("json", "As JSON."),
            Flag("all", "Also the branches that are only taken when something is missing."),
            Flag("seccomp", "Instead, the seccomp profile: what comes of which system calls."),
        ),
        Verb(
            "features",
            "Print what this build can do, as the specification's features structure.",
            (),
            Flag("host", 'Also what this host offers, in the property "org.ocirt.host".'),
        ),
        Verb(
            "sandbox",
            "Run untrusted code in a disposable container.",
            ("COMMAND", "[ARG...]"),
            Flag("rootfs", "The folder that is its root. Default: the host's programs.", metavar="DIR"),
            Flag("read-only", "No writable layer but /tmp."),
            Flag("memory", "At most so much: 64M. Default: 256M.", metavar="SIZE", letters="m"),
            Flag("pids", "At most so many processes and threads. Default: 128.", metavar="N"),
            Flag("cpus", "At most so many CPUs: 0.5.", metavar="N"),
            Flag("timeout", "It is killed after so many seconds.", metavar="SECONDS"),
            Flag("network", "The host's network, instead of none."),
            Flag("env", "A variable; may be given again.", metavar="NAME=VALUE", letters="e", many=True),
            Flag("bind", "A file or folder of the host; read-only unless :rw follows.", metavar="SRC:DST", many=True),
            Flag("cwd", "Its working directory.", metavar="DIR", default="/"),
            Flag("user", "Its user in the sandbox.", metavar="UID[:GID]", letters="u", default="0"),
            Flag("stdin", "It reads ours, to the end, before it starts."),
            Flag("max-output", "Of stdout, and of stderr, so much is kept. Default: 1M.", metavar="SIZE"),
            Flag("json", "Print how it ended as JSON, with its output in it."),
        ),
        Verb(
            "check",
            "Check a bundle, and report every problem.",
            ("[BUNDLE]",),
            _BUNDLE,
            Flag("json", "As JSON."),
            Flag("strict", "Also warn of what is dangerous, and fail for warnings."),
        ),
    )
}
