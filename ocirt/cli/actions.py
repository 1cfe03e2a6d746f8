"""What each hot verb does: call the runtime, print, return the exit code."""

from __future__ import annotations

import _signal
import posix

from ocirt.cli.output import Out
from ocirt.errors import Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

EXEC_FAILED = 255
"""Exit code of an `exec` that could not be: a program's own is another more often than 1 is (runc's, too)."""
MOST_PRESERVED = 1024


def of(verb: str) -> Callable[[Out, dict[str, Any], list[str]], int]:
    """The function that carries a verb out: `list` and `exec` are Python's names for something else."""
    function: Callable[[Out, dict[str, Any], list[str]], int] = globals()[verb + "_" * (verb in ("exec", "list"))]
    return function


def create(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.create import create

    out.warn(
        create(
            out.root,
            args[0],
            options["bundle"] or ".",
            console_socket=options["console_socket"],
            pidfd_socket=options["pidfd_socket"],
            pid_file=options["pid_file"],
            preserve_fds=count_of(options["preserve_fds"]),
            config_file=options["config"],
            new_keyring=not options["no_new_keyring"],
            pivot=not options["no_pivot"],
            strict=bool(options["strict"]),
            manager=manager_of(options),
            committed=ignore_endings,
        )
    )
    return 0


def start(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.start import start

    out.warn(start(out.root, args[0]))
    return 0


def run(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.cli.main import end_helper
    from ocirt.runtime.run import run

    bundle, container_id = which(options["bundle"], args)
    trace = None
    if options["seccomp_trace"] is not None:
        from ocirt.cli.seccomp import trace_of

        trace = trace_of(options)
    return run(
        out.root,
        container_id,
        bundle,
        detach=options["detach"],
        console_socket=options["console_socket"],
        pidfd_socket=options["pidfd_socket"],
        pid_file=options["pid_file"],
        preserve_fds=count_of(options["preserve_fds"]),
        config_file=options["config"],
        new_keyring=not options["no_new_keyring"],
        pivot=not options["no_pivot"],
        keep=options["keep"],
        strict=bool(options["strict"]),
        manager=manager_of(options),
        committed=ignore_endings if options["detach"] else end_helper,
        warn=out.warn,
        trace=trace,
    )


def exec_(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.cli.process import request_of
    from ocirt.runtime.exec import exec_process

    try:
        return exec_process(
            out.root,
            args[0],
            request_of(options, args[1:]),
            detach=options["detach"],
            console_socket=options["console_socket"],
            pidfd_socket=options["pidfd_socket"],
            pid_file=options["pid_file"],
            preserve_fds=count_of(options["preserve_fds"]),
            cgroups_below=options["cgroup"],
            ignore_paused=options["ignore_paused"],
            committed=ignore_endings if options["detach"] else None,
            warn=out.warn,
        )
    except Error as error:
        error.exit_code = EXEC_FAILED
        raise


def count_of(text: str | None) -> int:
    """--preserve-fds."""
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 4 or int(text) > MOST_PRESERVED:
        raise UsageError(f'--preserve-fds: expected a number up to {MOST_PRESERVED}, got "{text}"')
    return int(text)


def manager_of(options: dict[str, Any]) -> str:
    """Of --cgroup-manager and --systemd-cgroup. Of a container that exists the state knows it."""
    manager = str(options["cgroup_manager"])
    if not options["systemd_cgroup"]:
        return manager
    if manager == "disabled":
        raise UsageError("--systemd-cgroup and --cgroup-manager disabled exclude each other")
    return "systemd"


def ignore_endings() -> None:
    """The container is made: to say so takes no longer than to be interrupted."""
    for number in (1, 2, 15):
        _signal.signal(number, _signal.SIG_IGN)


def which(bundle: str | None, args: list[str]) -> tuple[str, str]:
    """(bundle, id) of a `run`: with --bundle as runc has it; without, a first argument that holds a slash, or is a
    folder with a config.json, is a bundle, whose name is the id unless a second argument says another."""
    first = args[0]
    if bundle is not None:
        if len(args) > 1:
            raise UsageError("with --bundle there is one argument, the id")
        return bundle, first
    if "/" in first or first in (".", "..") or _is_file(first + "/config.json"):
        if len(args) > 1:
            return first, args[1]
        return first, _name_of(first)
    if len(args) > 1:
        raise UsageError(f'"{first}" is no bundle', hint="a folder with a config.json, or a path with a slash")
    return ".", first


def _name_of(bundle: str) -> str:
    try:
        fd = posix.open(bundle, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot open the bundle {bundle}: {error.strerror}") from None
    try:
        return posix.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2]
    finally:
        posix.close(fd)


def _is_file(path: str) -> bool:
    try:
        return posix.stat(path).st_mode & 0o170000 == 0o100000
    except OSError:
        return False


def state(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.state import state
    from ocirt.state.document import dumps

    out.print(dumps(state(out.root, args[0]), indent=2))
    return 0


def kill(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.kill import kill

    signal = args[1] if len(args) > 1 else "TERM"
    return each(out, options, args[0], lambda one: kill(out.root, one, signal, everyone=bool(options["all"])))


def each(out: Out, options: dict[str, Any], container_id: str, do: Callable[[str], list[str]]) -> int:
    """Do it to the container, or with --regex to each that is meant: the failure of one does not spare the others."""
    if not options["regex"]:
        out.warn(do(container_id))
        return 0
    from ocirt.runtime.matching import matching

    code = 0
    for one in matching(out.root, container_id):
        try:
            out.warn(do(one))
        except Error as error:
            out.fail(error)
            code = error.exit_code
    return code


def pause(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.pause import pause

    pause(out.root, args[0])
    return 0


def resume(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.pause import resume

    resume(out.root, args[0])
    return 0


def ps(out: Out, options: dict[str, Any], args: list[str]) -> int:
    if options["format"] == "json":
        from ocirt.runtime.ps import processes
        from ocirt.state.document import dumps

        out.print(dumps(processes(out.root, args[0])))
    else:
        from ocirt.runtime.ps import table

        out.print("\n".join(table(out.root, args[0], args[1:])))
    return 0


def update(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.cli.amounts import SCHEMATA, resources_of
    from ocirt.runtime.update import Wanted, read_wanted, update

    resources, names = resources_of(options)
    schemata = {name: options[flag.replace("-", "_")] for flag, name in SCHEMATA.items()}
    schemata = {name: line for name, line in schemata.items() if line}
    names |= {f"/linux/intelRdt/{name}": f"--{flag}" for flag, name in SCHEMATA.items()}
    if options["resources"]:
        if resources:
            raise UsageError(f"{next(iter(names.values()))} and --resources are two answers to one question")
        wanted = read_wanted(options["resources"])
        wanted.schemata, wanted.names = schemata, names
    elif resources or schemata:
        wanted = Wanted(resources, names=names, schemata=schemata)
    else:
        raise UsageError("update needs something to change", hint="see `ocirt update --help`")
    out.warn(update(out.root, args[0], wanted))
    return 0


def delete(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.delete import delete

    return each(
        out,
        options,
        args[0],
        lambda one: delete(out.root, one, force=bool(options["force"]), strict=bool(options["strict"])),
    )


def events(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.events import events, seconds, stats
    from ocirt.state.document import dumps

    interval = seconds(options["interval"])
    if options["stats"]:
        out.print(dumps(stats(out.root, args[0])))
        return 0
    for document in events(out.root, args[0], interval, reader=1):
        if not out.print(dumps(document)):
            break
    return 0


def list_(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.list import list_containers, list_ids

    if options["quiet"]:
        ids, warnings = list_ids(out.root)
        text = "\n".join(ids)
    else:
        documents, warnings = list_containers(out.root)
        if options["format"] == "json":
            from ocirt.state.document import dumps

            text = dumps(documents)
        else:
            from ocirt.cli.listing import containers

            text = containers(documents)
    out.warn(warnings, always=True)
    if text:
        out.print(text)
    return 0
