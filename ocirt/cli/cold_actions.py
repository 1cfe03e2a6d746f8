"""What each cold verb does: call the runtime, print, return the exit code."""

from __future__ import annotations

import os

from ocirt.cli.actions import ignore_endings, manager_of
from ocirt.errors import Error, UsageError
from ocirt.state.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from ocirt.cli.output import Out

    Action: TypeAlias = Callable[[Out, dict[str, Any], list[str]], int]

NOT_CHECKED = 2
"""Exit code of `check` when it is not the bundle that is wrong: CI can tell the two apart."""


def spec(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.spec import write_spec

    write_spec(options["bundle"] or ".", rootless=options["rootless"], file=options["file"] or "config.json")
    return 0


def explain(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.explain import explain

    if options["seccomp"]:
        return _explain_seccomp(out, options, args)
    explanation = explain(bundle_of(options, args), manager_of(options))
    if options["json"]:
        out.print(dumps(explanation.document(), indent=2))
    else:
        out.print("\n".join(explanation.lines(everything=options["all"], colour=has_colour())))
    return 0


def _explain_seccomp(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.cli.seccomp import profile_lines
    from ocirt.runtime.explain_seccomp import explain_seccomp

    if options["all"]:
        raise UsageError("--seccomp and --all exclude each other", hint="--seccomp shows all of the profile")
    table = explain_seccomp(bundle_of(options, args))
    out.print(dumps(table, indent=2) if options["json"] else "\n".join(profile_lines(table)))
    return 0


def check(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.config.schema import ERROR
    from ocirt.runtime.check import check

    try:
        report = check(bundle_of(options, args), manager_of(options), strict=options["strict"])
    except Error as error:  # of ours: what is wrong with the bundle is in the report
        error.exit_code = NOT_CHECKED
        raise
    if options["json"]:
        problems = [problem.document() for problem in report.problems]
        out.print(dumps({"path": report.path, "ok": report.ok, "problems": problems}, indent=2))
    else:
        colours = {ERROR: "\033[31m", "": "\033[33m"} if has_colour() else {}
        end = "\033[0m" if colours else ""
        for problem in report.problems:
            colour = colours.get(problem.level, colours.get("", ""))
            out.print(f"{report.place(problem)}{colour}{problem.level}{end}: {problem}")
        out.print(report.summary())
    return 0 if report.ok else 1


def checkpoint(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.cli.criu import dump_of
    from ocirt.runtime.checkpoint import checkpoint

    out.warn(checkpoint(out.root, args[0], dump_of(options), committed=ignore_endings))
    return 0


def restore(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.cli.criu import restore_of
    from ocirt.runtime.restore import restore

    return restore(
        out.root,
        args[0],
        options["bundle"] or ".",
        restore_of(options),
        detach=options["detach"],
        console_socket=options["console_socket"],
        pid_file=options["pid_file"],
        manager=manager_of(options),
        committed=ignore_endings if options["detach"] else None,
        warn=out.warn,
    )


def gc(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.gc import collect

    found, warnings = collect(out.root, force=options["force"], stopped=options["stopped"])
    out.warn(warnings, always=True)
    if options["format"] == "json":
        out.print(dumps([finding.document() for finding in found]))
    elif found:
        from ocirt.cli.listing import findings

        out.print(findings([finding.document() for finding in found]))
    return 1 if warnings else 0


def features(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.features import features

    out.print(dumps(features(host=options["host"]), indent=4))
    return 0


def mounts(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.runtime.mounts import add_mounts, remove_mounts

    what, container_id, file = args
    if what == "add":
        out.warn(add_mounts(out.root, container_id, file))
    elif what == "remove":
        remove_mounts(out.root, container_id, file)
    else:
        raise UsageError(f'mounts: expected "add" or "remove", got "{what}"')
    return 0


def sandbox(out: Out, options: dict[str, Any], args: list[str]) -> int:
    from ocirt.cli.sandbox import sandbox

    return sandbox(out, options, args)


def bundle_of(options: dict[str, Any], args: list[str]) -> str:
    """The bundle, as an argument or by --bundle; else this folder."""
    if options["bundle"] and args:
        raise UsageError("the bundle is given twice", hint="as an argument, or with --bundle")
    return str(args[0] if args else options["bundle"] or ".")


def has_colour() -> bool:
    """Only on a terminal, and not against the user's wish (no-color.org)."""
    try:
        return os.isatty(1) and not os.environ.get("NO_COLOR")
    except OSError:
        return False


ACTIONS: dict[str, Action] = {
    "checkpoint": checkpoint,
    "restore": restore,
    "spec": spec,
    "explain": explain,
    "check": check,
    "gc": gc,
    "features": features,
    "mounts": mounts,
    "sandbox": sandbox,
}
"""cold verb → its action."""
