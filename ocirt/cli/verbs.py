"""The verb table: the one place that declares each verb's arguments and flags.

Both the fast argument loop of the hot verbs (`argv`) and the click commands (`commands`: help, errors, completion) are
made from it. `action` names the function in `actions` (hot) or `cold_actions` that carries a verb out.
"""

from __future__ import annotations


class Flag:
    """--name, and its short letters. `metavar`: what its value is called; None for a switch."""

    __slots__ = ("default", "help", "letters", "metavar", "name", "values")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        metavar: str | None = None,
        letters: str = "",
        default: str | None = None,
        values: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.help = help
        self.metavar = metavar
        self.letters = letters
        self.default = default
        self.values = values

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")


class Verb:
    """`arguments`: names of the positional ones; "[X]" is optional."""

    __slots__ = ("arguments", "flags", "help", "hot", "name")

    def __init__(self, name: str, help: str, arguments: tuple[str, ...], *flags: Flag, hot: bool = False) -> None:
        self.name = name
        self.help = help
        self.arguments = arguments
        self.flags = flags
        self.hot = hot


GLOBAL_FLAGS = (
    Flag("root", "Keep the containers' state in this folder.", metavar="DIR", default="/run/ocirt"),
    Flag("log", "Write errors to this file too.", metavar="FILE"),
    Flag("log-format", "How the log file is written.", metavar="FORMAT", default="text", values=("text", "json")),
    Flag("debug", "Also log warnings, and where an unexpected error came from."),
    Flag(
        "cgroup-manager",
        "Who makes a new container's cgroups: ocirt, systemd, or nobody.",
        metavar="MANAGER",
        default="cgroupfs",
        values=("cgroupfs", "systemd", "disabled"),
    ),
    Flag("systemd-cgroup", "The same as --cgroup-manager systemd."),
    Flag("strict", "Follow the specification where engines do not: delete refuses a created container."),
)

_BUNDLE = Flag("bundle", "The bundle: a folder with a config.json. Default: this one.", metavar="DIR", letters="b")
_CONSOLE = Flag("console-socket", "Send the terminal's master to this unix socket.", metavar="PATH")
_PID_FILE = Flag("pid-file", "Write the first process's pid to this file.", metavar="FILE")
_FORCE = Flag("force", "Kill it first; clean up whatever is left; an unknown id is no error.", letters="f")

VERBS = {
    verb.name: verb
    for verb in (
        Verb("create", "Create a container; it waits for start.", ("ID",), _BUNDLE, _CONSOLE, _PID_FILE, hot=True),
        Verb("start", "Start a created container.", ("ID",), hot=True),
        Verb(
            "run",
            "Create and start a container, and wait for it: ocirt run BUNDLE/ [ID], or ocirt run -b BUNDLE ID.",
            ("BUNDLE|ID", "[ID]"),
            _BUNDLE,
            _CONSOLE,
            _PID_FILE,
            Flag("detach", "Do not wait for it.", letters="d"),
            hot=True,
        ),
        Verb("state", "Print a container's state as JSON.", ("ID",), hot=True),
        Verb("kill", "Send a signal (default TERM) to a container's first process.", ("ID", "[SIGNAL]"), hot=True),
        Verb("delete", "Remove a stopped container.", ("ID",), _FORCE, hot=True),
        Verb(
            "list",
            "List the containers.",
            (),
            Flag("format", "Table or JSON.", metavar="FORMAT", letters="f", default="table", values=("table", "json")),
            Flag("quiet", "Only the ids.", letters="q"),
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
        ),
        Verb(
            "features",
            "Print what this build can do, as the specification's features structure.",
            (),
            Flag("host", 'Also what this host offers, in the property "org.ocirt.host".'),
        ),
        Verb("check", "Check a bundle, and report every problem.", ("[BUNDLE]",), _BUNDLE, Flag("json", "As JSON.")),
    )
}
