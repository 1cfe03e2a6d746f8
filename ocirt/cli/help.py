"""What `ocirt VERB --help` says beyond the verb table's sentence. A paragraph that begins with \\b stays as it is."""

from __future__ import annotations

DETAILS = {
    "create": """
        Everything is made but the program is not started: namespaces, mounts, cgroups, rights. What is wrong with the
        bundle is said here, with its line in config.json, and then nothing is left behind.

        A bundle with a terminal needs --console-socket.
        """,
    "start": """
        Returns when the program is executed, or with the reason why it could not be.
        """,
    "run": """
        The exit status is the program's, 128 and the signal's number if a signal ended it, or 1 if it could not be
        started.

        \b
        ocirt run bundle/             the folder's name is the id
        ocirt run bundle/ mine        another id
        ocirt run -d -b bundle mine   as engines call it; it goes on in the background

        --seccomp-trace says at the end which system calls linux.seccomp denied, by which rule, and what would allow
        them. The program meets the same errors as without; docs/seccomp.md has the exceptions.
        """,
    "exec": """
        It has the container's rights, filter, limits and environment, but for what the flags change: --env,
        --additional-gids and --cap add to them. --process FILE says all of it instead (config.md, "Process"); what it
        leaves out of rights and limits is the container's.

        The exit status is the program's, 128 and the signal's number if a signal ended it, or 255 if it could not be
        started.

        \b
        ocirt exec mine ls -l /
        ocirt exec -t -u 1000:1000 --cwd /home/user mine /bin/sh
        """,
    "state": """
        \b
        creating   create is at work
        created    it waits for start
        running    its program is executed
        paused     all of its processes are stopped, until resume
        stopped    its program has ended; delete removes what is left
        """,
    "kill": """
        SIGNAL is a name, with or without SIG, or a number. A paused container gets it when it is resumed; KILL ends it
        at once.

        With --all every process in the container's cgroups gets it; while that goes on they are stopped, so that none
        can make another unseen. That there is none left is no error then.
        """,
    "pause": """
        Returns when all have stopped. They go on with resume, end with kill ID KILL or delete --force.
        """,
    "resume": """
        It is an error if the container is not paused, or if a cgroup above its own is frozen as well.
        """,
    "ps": """
        All processes in the container's cgroups, with the host's pids. The table is what ps(1) prints of them, with the
        options after ID in place of -ef; it needs its column PID. --format json prints the pids alone.

        \b
        ocirt ps mine
        ocirt ps mine -o pid,stat,args
        """,
    "update": """
        What is not named stays. All of it is changed or, after an error, nothing. A memory limit below what is in use
        is refused by cgroup v1; v2 kills for it, unless memory.checkBeforeUpdate is true in --resources or in the
        container's configuration.

        In --resources, 0 and "" stand for "unset" where they are no value (memory, cpu.shares, quota, period, weights),
        as docker sends them. A rule for devices that denies all is ignored, as CRI means it; other device rules
        replace the container's own at once.

        \b
        ocirt update --memory 256m --cpu-quota 50000 mine
        echo '{"pids": {"limit": 100}}' | ocirt update -r - mine
        """,
    "mounts": """
        FILE is a JSON array, as the mounts of config.json. add makes all of them or, after an error, none; a relative
        source counts from the bundle. What is bound is a copy of what is mounted on the host at this moment.

        remove takes off what is mounted on each destination, of several mounts there the topmost. It follows no
        symlink.

        \b
        ocirt mounts add mine mounts.json
        ocirt mounts remove mine mounts.json
        """,
    "delete": """
        With --strict (before the verb) only a stopped container; engines count on it that a created one goes as well.
        """,
    "events": """
        One JSON object a line, as runc prints them and engines read them: {"type": "stats", "id", "data"} after each
        interval, and {"type": "oom", "id"} when the kernel kills in the container's cgroup for want of memory. It ends
        with the container, or when nobody reads it any more. docs/cgroups.md says what the fields are.

        \b
        ocirt events --stats ID              once
        ocirt events --interval 500ms ID     twice a second
        """,
    "list": """
        A container whose state cannot be read is a warning, and hides no other.
        """,
    "checkpoint": """
        CRIU 4.1 or newer does it, as root. Afterwards the container is gone, as with runc: its root file system stays,
        and restore makes it anew. If it fails, the container runs as before, and CRIU's log, dump.log, says more.

        What the network namespace holds is not saved. docs/checkpoint.md says what else is not.

        \b
        ocirt checkpoint --image-path /tmp/images mine
        ocirt restore -d --image-path /tmp/images -b bundle mine
        """,
    "restore": """
        ID may be another one than it was saved from, and the bundle, too: its bind mounts, cgroups, limits, device
        rules and joined namespaces are used. A container with a terminal needs --console-socket with --detach.

        Without --detach the exit status is the program's, as with run.
        """,
    "gc": """
        A command that is killed cannot clean up after itself, but it has written down beforehand what it was going to
        make. What is shown, with kind, id, path and reason:

        \b
        creation    create or run was killed before the container was there: its folder, cgroups, systemd unit, init
        fifo        what a container waited at that runs by now: its start was killed
        temporary   a file that was being written, beside a container's state or a compiled seccomp filter
        damaged     a state that cannot be read; it stays: ocirt delete --force ID
        stopped     with --stopped: a container that has ended; it stays, for its engine, or ocirt delete ID

        Nothing is removed without --force. Containers that other commands work on are left out.

        --format json: [{"kind", "id", "path", "why", "removed"}].
        """,
    "spec": """
        What is there already is never overwritten. With --rootless the caller becomes root in a user namespace; the
        network is the host's.
        """,
    "explain": """
        Nothing is made. The steps are those that create would run on this host, under headings, each group below the
        JSON pointer of the value that it is due to ("always": of none). What the host does stands where init waits for
        it, marked with a triangle. Branches that are only taken when something is missing are folded. With
        --systemd-cgroup (before the verb) systemd is asked where the cgroup would be.

        --seccomp prints the seccomp profile instead: what comes of which calls, under which conditions, and what is not
        known here; nothing else of the bundle is looked at.

        --json has the same as one object: sections, steps (with call, args, pointer), host, cgroups, limits, devices,
        warnings.

        \b
        ocirt explain bundle/ | grep -A9 ^/mounts/1    what the second mount becomes
        """,
    "features": """
        The document is the one of the OCI runtime specification (features.md), made from the tables that ocirt itself
        works with. --host adds what kernel, cgroups, namespaces, security modules, seccomp and file systems here
        offer; id-mapped mounts are tried, on copies that nobody sees.
        """,
    "sandbox": """
        It sees /usr of the host below a writable layer that vanishes, /etc and /opt as nobody would see them, and
        nothing else; no network, no capabilities, a seccomp filter of its own. docs/sandbox.md has all of it.

        The exit status is the command's, 128 and the signal's number if a signal ended it, 124 when its time was up,
        137 when it was killed for want of memory, or 1 if it could not be started.

        \b
        ocirt sandbox --timeout 5 --memory 64M -- python3 -c 'print(6 * 7)'
        ocirt sandbox --json --bind "$PWD:/src" --cwd /src -- make test
        """,
    "check": """
        The configuration is compared with the specification's schema and rules, compiled and verified as create would
        do it, and compared with this host. Every problem is a line: FILE:LINE:COLUMN: error: POINTER: what was
        expected, what is there (what was probably meant). Warnings are what would be ignored, or may still come right.

        --json: {"path", "ok", "problems": [{"level", "code", "pointer", "line", "column", "message", "expected",
        "got", "hint"}]}.

        --strict also warns of what is allowed and dangerous, such as all capabilities, the host's namespaces, or an
        engine's socket. The code of such a warning is the name of its rule: docs/cli.md lists them. What is only worth
        knowing has the level info.

        \b
        Exit status: 0 no errors (without --strict there may be warnings), 1 errors, with --strict also warnings,
        2 it could not be checked.
        """,
}
"""Verb → text."""


def details(verb: str) -> str:
    """The text, without the margin that it has here."""
    return "\n".join(line.removeprefix("        ") for line in DETAILS.get(verb, "").strip().split("\n"))
