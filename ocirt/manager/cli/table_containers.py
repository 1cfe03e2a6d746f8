"""The commands for containers. Names, letters and meaning of the flags are docker's."""

from __future__ import annotations

from ocirt.manager.cli.grammar import Command, Flag

FORMAT = Flag(
    "format",
    'How it is printed: "table", "table TEMPLATE", "json", or a template (ocim help ps).',
    "FORMAT",
    letters="f",
)
LIST_FORMAT = Flag("format", FORMAT.help, "FORMAT")
FILTER = Flag("filter", "Only what this holds for, such as status=running or label=KEY=VALUE.", "FILTER", letters="f",
              many=True)  # fmt: skip
NO_TRUNC = Flag("no-trunc", "Print ids and commands whole.")
DETACH_KEYS = Flag("detach-keys", "The keys that detach from a terminal.", "KEYS", default="ctrl-p,ctrl-q")
SIG_PROXY = Flag("sig-proxy", "Pass signals on to the container. Not with --tty: there keys do.", default=True)
TIME = Flag("time", "Seconds until it is killed; -1: never. Default: the container's own, 10.", "SECONDS", letters="t")
SIGNAL = Flag("signal", "The signal to send, by name or number.", "SIGNAL", letters="s")
INTERACTIVE = Flag("interactive", "Keep stdin open, also if nobody is attached.", letters="i")
TTY = Flag("tty", "Give the program a terminal.", letters="t")
ENV = Flag("env", "NAME=VALUE; NAME alone: as it is here.", "VARIABLE", letters="e", many=True)
ENV_FILE = Flag("env-file", "Read variables from a file, one a line.", "FILE", many=True, completes="file")
USER = Flag("user", "Who it runs as: NAME or number, and :GROUP.", "USER", letters="u")
WORKDIR = Flag("workdir", "The folder in the container that it starts in.", "DIR", letters="w")
PRIVILEGED = Flag("privileged", "All rights of the caller: no protection from what runs in it.")
PLATFORM = Flag("platform", "OS/ARCHITECTURE[/VARIANT] of the image. Default: this machine's.", "PLATFORM")
PULL = Flag("pull", "When the image is pulled first.", "WHEN", default="missing", values=("always", "missing", "never"))
QUIET_PULL = Flag("quiet", "Show no progress of the pull.", letters="q")
FORCE = Flag("force", "Do not ask.", letters="f")

PROCESS = (
    ENV,
    ENV_FILE,
    Flag("entrypoint", "Run this instead of the image's entry point.", "PROGRAM"),
    USER,
    WORKDIR,
    INTERACTIVE,
    TTY,
    Flag("hostname", "Its host name. Default: the beginning of its id.", "NAME", letters="h"),
    Flag("domainname", "Its NIS domain name.", "NAME"),
    Flag("group-add", "One group more that it is in.", "GROUP", many=True),
    Flag("init", "Run an init as the first process, which passes signals on and reaps orphans."),
    Flag("stop-signal", "The signal that `ocim stop` sends.", "SIGNAL"),
    Flag("stop-timeout", "Seconds until `ocim stop` kills it.", "SECONDS"),
)
IDENTITY = (
    Flag("name", "Its name. Default: one that is made up.", "NAME"),
    Flag("label", "KEY=VALUE, kept with the container.", "LABEL", letters="l", many=True),
    Flag("label-file", "Read labels from a file, one a line.", "FILE", many=True, completes="file"),
    Flag("annotation", "KEY=VALUE, given to the runtime.", "ANNOTATION", many=True),
    Flag("cidfile", "Write its id to this file.", "FILE", completes="file"),
    Flag("rm", "Remove it, and its volumes without a name, when it has ended."),
    Flag("restart", "When it is started again: no, on-failure[:MOST], always, unless-stopped.", "POLICY", default="no"),
    PLATFORM,
    PULL,
)
FILES = (
    Flag("volume", "NAME:PATH or /HOST/PATH:PATH, and :ro or other options.", "VOLUME", letters="v", many=True),
    Flag("mount", "type=bind|volume|tmpfs,source=…,target=…,readonly…", "MOUNT", many=True),
    Flag("tmpfs", "PATH[:OPTIONS]: a file system in memory.", "TMPFS", many=True),
    Flag("volumes-from", "All volumes of another container.", "CONTAINER", many=True, completes="container"),
    Flag("volume-driver", "Only local.", "DRIVER"),
    Flag("read-only", "Its root file system cannot be written to."),
    Flag("shm-size", "Size of its /dev/shm. Default: 64m.", "SIZE"),
    Flag("device", "/HOST/DEVICE[:PATH[:rwm]]", "DEVICE", many=True, completes="file"),
    Flag("device-cgroup-rule", "A rule of devices(7), such as c 42:* rmw.", "RULE", many=True),
    Flag("storage-opt", "size=SIZE: at most so much may be written.", "OPTION", many=True),
)
RESOURCES = (
    Flag("memory", "At most so much memory, such as 512m.", "SIZE", letters="m"),
    Flag("memory-reservation", "Keep it so much when memory is short.", "SIZE"),
    Flag("memory-swap", "At most so much memory and swap together; -1: any.", "SIZE"),
    Flag("memory-swappiness", "0 to 100: how eagerly it is swapped (cgroup v1).", "NUMBER"),
    Flag("kernel-memory", "Obsolete: kernels since 5.16 do not limit it.", "SIZE"),
    Flag("oom-kill-disable", "Make it wait instead of killing it when its memory is used up (cgroup v1)."),
    Flag("oom-score-adj", "-1000 to 1000: who is killed first.", "NUMBER"),
    Flag("cpus", "At most so many processors' time, such as 1.5.", "NUMBER"),
    Flag("cpu-shares", "Weight against others; 1024 is usual.", "NUMBER", letters="c"),
    Flag("cpu-period", "Microseconds of a period of --cpu-quota.", "NUMBER"),
    Flag("cpu-quota", "Microseconds that it may run in a period.", "NUMBER"),
    Flag("cpu-rt-period", "The same for real-time scheduling (cgroup v1).", "NUMBER"),
    Flag("cpu-rt-runtime", "The same for real-time scheduling (cgroup v1).", "NUMBER"),
    Flag("cpuset-cpus", "Only these processors, such as 0-3,7.", "LIST"),
    Flag("cpuset-mems", "Only these memory nodes.", "LIST"),
    Flag("pids-limit", "At most so many processes; -1: any.", "NUMBER"),
    Flag("blkio-weight", "Weight of block I/O: 10 to 1000.", "NUMBER"),
    Flag("device-read-bps", "/DEVICE:RATE: at most so many bytes a second read.", "RATE", many=True),
    Flag("device-write-bps", "/DEVICE:RATE: at most so many bytes a second written.", "RATE", many=True),
    Flag("device-read-iops", "/DEVICE:NUMBER: at most so many reads a second.", "RATE", many=True),
    Flag("device-write-iops", "/DEVICE:NUMBER: at most so many writes a second.", "RATE", many=True),
    Flag("ulimit", "NAME=SOFT[:HARD] of getrlimit(2), such as nofile=1024:4096.", "LIMIT", many=True),
    Flag("cgroup-parent", "The cgroup that its own is made in.", "CGROUP"),
)
ISOLATION = (
    Flag("network", "none: only lo; host: the host's; container:NAME: another's.", "NETWORK"),
    Flag("net", "The same.", "NETWORK"),
    Flag("publish", "Not yet: needs networks.", "PORT", letters="p", many=True),
    Flag("publish-all", "Not yet: needs networks.", letters="P"),
    Flag("expose", "A port that it listens on: said, not opened.", "PORT", many=True),
    Flag("add-host", "NAME:ADDRESS, for its /etc/hosts.", "HOST", many=True),
    Flag("dns", "A name server, for its /etc/resolv.conf.", "ADDRESS", many=True),
    Flag("dns-search", "A search domain.", "DOMAIN", many=True),
    Flag("dns-option", "An option of resolv.conf(5).", "OPTION", many=True),
    Flag("pid", "host or container:NAME: whose processes it sees.", "NAMESPACE"),
    Flag("ipc", "private, shareable, none, host, or container:NAME.", "NAMESPACE"),
    Flag("uts", "host: the host's name is its own.", "NAMESPACE"),
    Flag("userns", "host: no user namespace of its own.", "NAMESPACE"),
    Flag("cgroupns", "private or host.", "NAMESPACE"),
    PRIVILEGED,
    Flag("cap-add", "A capability(7) more, without CAP_; or ALL.", "CAPABILITY", many=True),
    Flag("cap-drop", "A capability less; or ALL.", "CAPABILITY", many=True),
    Flag("security-opt", "no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE, label=…", "OPTION", many=True),
    Flag("sysctl", "NAME=VALUE of its namespaces.", "SYSCTL", many=True),
)
LOGS_AND_HEALTH = (
    Flag("log-driver", "file (also called json-file and local), or none.", "DRIVER"),
    Flag("log-opt", "max-size=SIZE, max-file=NUMBER. Default: 10m and 5.", "OPTION", many=True),
    Flag("health-cmd", "The check: a shell command that fails if it is ill.", "COMMAND"),
    Flag("health-interval", "Time between checks, such as 30s.", "TIME"),
    Flag("health-timeout", "The longest that a check may take.", "TIME"),
    Flag("health-retries", "How many failures in a row make it unhealthy.", "NUMBER"),
    Flag("health-start-period", "Failures in this time do not count.", "TIME"),
    Flag("health-start-interval", "Time between checks in that time.", "TIME"),
    Flag("no-healthcheck", "No check, whatever the image says."),
)
CREATE = (*PROCESS, *IDENTITY, *FILES, *RESOURCES, *ISOLATION, *LOGS_AND_HEALTH)

_RUN_TEXT = """
The image is pulled if it is not here (--pull). Without --detach, what the container writes is shown, and ocim ends
with its exit code. ctrl-p ctrl-q detaches from a terminal: the container goes on.

Exit codes: that of the program; 125: ocim failed; 126: the program cannot be executed; 127: there is no such program.
"""

RUN = (
    Command(
        "run, container run", "IMAGE [COMMAND] [ARG...]", "run:run", "Make a container of an image and run it",
        *CREATE,
        Flag("detach", "Let it run in the background; print its id.", letters="d"),
        Flag("attach", "stdin, stdout or stderr: only these.", "STREAM", letters="a", many=True,
             values=("stdin", "stdout", "stderr", "STDIN", "STDOUT", "STDERR")),
        DETACH_KEYS, SIG_PROXY, QUIET_PULL,
        text=_RUN_TEXT,
        examples=(
            ("ocim run --rm -it alpine", "A shell in a new container, which is removed at its end."),
            ("ocim run -d --name web --restart unless-stopped -v data:/srv IMAGE", "A service, with a volume."),
            ("ocim run --rm -m 256m --cpus 0.5 --pids-limit 50 --network none IMAGE make", "A build with limits."),
        ),
        open_ended=True, completes="image",
    ),
    Command(
        "exec, container exec", "CONTAINER COMMAND [ARG...]", "run:execute", "Run a program in a running container",
        Flag("detach", "Let it run in the background.", letters="d"),
        DETACH_KEYS, ENV, ENV_FILE, INTERACTIVE, PRIVILEGED, TTY, USER, WORKDIR,
        text="Its exit code is the program's; 126: it cannot be executed; 127: there is no such program.",
        examples=(("ocim exec -it web sh", "A shell beside what runs."),),
        open_ended=True, completes="container",
    ),
    Command(
        "create, container create", "IMAGE [COMMAND] [ARG...]", "run:create", "Make a container; start it later",
        *CREATE, QUIET_PULL, open_ended=True, completes="image",
    ),
    Command(
        "start, container start", "CONTAINER...", "run:start", "Start containers",
        Flag("attach", "Show what it writes, and pass signals on.", letters="a"), DETACH_KEYS,
        Flag("interactive", "Also pass stdin on.", letters="i"), SIG_PROXY, completes="container",
    ),
    Command(
        "attach, container attach", "CONTAINER", "run:attach", "See and feed a running container",
        DETACH_KEYS, Flag("no-stdin", "Only see it."), SIG_PROXY, completes="container",
    ),
)  # fmt: skip
"""What should be fast."""

_PS_TEXT = """
Filters: id, name, label, exited, status (created, restarting, running, paused, exited, dead), ancestor, before, since,
volume, network, publish, expose, health.

Templates are Go's. Fields: .ID .Image .Command .CreatedAt .RunningFor .Ports .State .Status .Size .Names .Labels
.Label "KEY" .Mounts .LocalVolumes .Networks.
"""

LIFE = (
    Command("stop, container stop", "CONTAINER...", "containers:stop",
            "Ask containers to end, and kill those that do not", TIME, SIGNAL, completes="container"),
    Command("restart, container restart", "CONTAINER...", "containers:restart", "Stop and start containers", TIME,
            SIGNAL, completes="container"),
    Command("kill, container kill", "CONTAINER...", "containers:kill", "Send containers a signal",
            Flag("signal", "By name or number.", "SIGNAL", letters="s", default="KILL"), completes="container"),
    Command("pause, container pause", "CONTAINER...", "containers:pause", "Freeze all processes of containers",
            completes="container"),
    Command("unpause, container unpause", "CONTAINER...", "containers:unpause", "Let paused containers go on",
            completes="container"),
    Command("wait, container wait", "CONTAINER...", "containers:wait", "Wait for their end; print the exit codes",
            Flag("condition", "What is waited for.", "CONDITION", default="not-running",
                 values=("not-running", "next-exit", "removed")), completes="container"),
    Command("rename, container rename", "CONTAINER NAME", "containers:rename", "Give a container another name",
            completes="container"),
    Command("rm, container rm, container remove", "CONTAINER...", "containers:remove", "Remove containers",
            Flag("force", "Kill it first if it runs. None of that name is no error.", letters="f"),
            Flag("volumes", "Also its volumes without a name.", letters="v"), completes="container"),
    Command("container prune", "", "containers:prune", "Remove all containers that do not run", FORCE,
            Flag("filter", "Only those: until=TIME, label=KEY[=VALUE].", "FILTER", many=True)),
)  # fmt: skip
LOOK = (
    Command("ps, container ls, container list, container ps", "", "containers:listed", "List containers",
            Flag("all", "Also those that do not run.", letters="a"), FILTER, LIST_FORMAT,
            Flag("last", "The last N that were made, whatever they do.", "N", letters="n"),
            Flag("latest", "The last one that was made.", letters="l"), NO_TRUNC,
            Flag("quiet", "Only ids.", letters="q"),
            Flag("size", "Also how much they have written.", letters="s"),
            text=_PS_TEXT,
            examples=(("ocim ps -a --filter status=exited --format '{{.Names}}: {{.Status}}'", "What has ended."),)),
    Command("logs, container logs", "CONTAINER", "containers:logs", "Show what a container has written",
            Flag("follow", "Go on until it ends.", letters="f"),
            Flag("since", "Only since then: a time (RFC 3339, or seconds since 1970), or so long ago, such as 10m.",
                 "TIME"),
            Flag("until", "Only until then.", "TIME"),
            Flag("tail", "Only the last lines.", "N", letters="n", default="all"),
            Flag("timestamps", "With the time before each line.", letters="t"),
            Flag("details", "Accepted: there are no extra attributes."), completes="container"),
    Command("inspect", "NAME...", "inspect:inspect", "All about containers, images and volumes, as JSON",
            Flag("format", "A template, or json.", "FORMAT", letters="f"), Flag("size", "Also sizes.", letters="s"),
            Flag("type", "Only this kind.", "KIND", values=("container", "image", "volume")),
            examples=(
                ("ocim inspect -f '{{.State.Status}} {{.State.ExitCode}}' web", "One field or two."),
                ("ocim inspect -f '{{range .Mounts}}{{.Source}} -> {{.Destination}}{{println}}{{end}}' web", "A list."),
                ("ocim inspect -f '{{index .Config.Labels \"com.example.x\"}}' web", "A label."),
            ),
            completes="any"),
    Command("container inspect", "CONTAINER...", "inspect:container", "All about containers, as JSON",
            Flag("format", "A template, or json.", "FORMAT", letters="f"), Flag("size", "Also sizes.", letters="s"),
            completes="container"),
    Command("top, container top", "CONTAINER [PS-OPTIONS...]", "containers:top", "The processes in a container",
            open_ended=True, completes="container"),
    Command("stats, container stats", "[CONTAINER...]", "containers:stats", "What containers use, live",
            Flag("all", "Also those that do not run.", letters="a"), LIST_FORMAT,
            Flag("no-stream", "Once."), NO_TRUNC, completes="container"),
    Command("port, container port", "CONTAINER [PORT]", "containers:port", "The ports that are published",
            completes="container"),
    Command("diff, container diff", "CONTAINER", "files:diff", "What a container has changed in its image's files",
            text="A: new, C: changed, D: gone.", completes="container"),
)  # fmt: skip
CHANGE = (
    Command("cp, container cp", "SOURCE TARGET", "files:copy", "Copy files to and from containers",
            Flag("archive", "Keep owners (from a container).", letters="a"),
            Flag("follow-link", "Copy what a link at SOURCE leads to.", letters="L"),
            Flag("quiet", "Print nothing.", letters="q"),
            text="SOURCE and TARGET: CONTAINER:PATH, a path here, or - for a tar archive from stdin or to stdout.",
            examples=(("ocim cp web:/etc/hostname .", "Out."), ("ocim cp conf/. web:/etc/app", "What is in a folder.")),
            completes="copied"),
    Command("commit, container commit", "CONTAINER [NAME[:TAG]]", "files:commit", "Make an image of a container",
            Flag("author", "Who made it.", "AUTHOR", letters="a"),
            Flag("message", "What for.", "MESSAGE", letters="m"),
            Flag("change", "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR: as in a"
                 " Dockerfile.", "INSTRUCTION", letters="c", many=True),
            Flag("pause", "Freeze it meanwhile.", letters="p", default=True),
            completes="container"),
    Command("export, container export", "CONTAINER", "files:export", "A container's files as a tar archive",
            Flag("output", "To this file. Default: stdout.", "FILE", letters="o", completes="file"),
            completes="container"),
)  # fmt: skip

COMMANDS: tuple[Command, ...] = (*RUN, *LIFE, *LOOK, *CHANGE)
