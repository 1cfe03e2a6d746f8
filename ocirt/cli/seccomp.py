"""What `run --seccomp-trace` and `explain --seccomp` print."""

from __future__ import annotations

import posix
from textwrap import wrap

from ocirt.cli.listing import table
from ocirt.errors import UsageError, printable
from ocirt.state.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STDERR = "-"
SHOWN_ARGS = 3
WIDTH = 100


def trace_of(options: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Where the report goes. Raises UsageError for a file that cannot be written."""
    if options["detach"]:
        raise UsageError("--seccomp-trace and --detach exclude each other", hint="who traces has to stay")
    file = str(options["seccomp_trace"])
    if file == STDERR:
        return lambda report: _write(2, "\n".join(trace_lines(report)) + "\n")
    _check(file)
    return lambda report: _write(_open(file, posix.O_CREAT | posix.O_TRUNC), dumps(report, indent=2) + "\n")


def _check(file: str) -> None:
    """Can it be written? Before a container is made, and without leaving anything: neither a file, nor a descriptor
    among those of --preserve-fds."""
    try:
        try:
            posix.close(_open(file, 0))
        except FileNotFoundError:
            posix.close(_open(file, posix.O_CREAT | posix.O_EXCL))
            posix.unlink(file)
    except OSError as error:
        raise UsageError(f"--seccomp-trace: {file}: {error.strerror}") from None


def _open(file: str, flags: int) -> int:
    return posix.open(file, posix.O_WRONLY | posix.O_CLOEXEC | flags, 0o644)


def _write(fd: int, text: str) -> None:
    view = memoryview(text.encode("utf-8", "surrogateescape"))
    while view:
        view = view[posix.write(fd, view) :]


def trace_lines(report: dict[str, Any]) -> list[str]:
    """A trace as text."""
    denied = report["denied"]
    if not denied:
        return ["ocirt: the seccomp profile denied no system call"]
    count = sum(one["count"] for one in denied)
    rows = [("CALL", "ARGUMENTS", "TIMES", "ACTION", "BECAUSE OF")]
    rows += [
        (
            called(one),
            "; ".join(map(arguments, one["args"][:2])) + ("; …" if len(one["args"]) > 2 else ""),
            str(one["count"]),
            action_text(one),
            one["pointer"],
        )
        for one in denied
    ]
    lines = [f"ocirt: the seccomp profile denied {count} call{'' if count == 1 else 's'}:", "", *table(rows)]
    if report["notKept"]:
        lines.append(f"… and more: {report['notKept']} calls that are too many different ones to be shown")
    nameless = [called(one) for one in denied if not one["name"]]
    if nameless:
        lines += ["", f"libseccomp has no name for {', '.join(nameless)}: no rule can allow them"]
    return lines + addition_lines(report["addition"])


def addition_lines(addition: dict[str, Any]) -> list[str]:
    lines = []
    if addition["architectures"]:
        lines += ["", "add to linux.seccomp.architectures:", dumps(addition["architectures"], indent=2)]
    if addition["syscalls"]:
        lines += ["", "to allow them, put before the entries of linux.seccomp.syscalls:"]
        lines.append(dumps(addition["syscalls"], indent=2))
    if addition["remove"]:
        lines += ["", "to allow them, remove these names:", *addition["remove"]]
    return lines


def called(one: dict[str, Any]) -> str:
    """A call's name, with its architecture if that is not the machine's own."""
    name = one["name"] or f"number {one['number']}"
    short = one["architecture"].removeprefix("SCMP_ARCH_").lower()
    if not short:
        return f"{name} (of no architecture of this machine)"
    return name if short == posix.uname().machine else f"{name} ({short})"


def arguments(args: list[int]) -> str:
    """The first ones: how many a call has is not in its notification."""
    return ", ".join(hex(value) if value > 9 else str(value) for value in args[:SHOWN_ARGS]) + ", …"


def action_text(one: dict[str, Any]) -> str:
    """ "ERRNO EPERM", "KILL_PROCESS"."""
    short = str(one["action"]).removeprefix("SCMP_ACT_")
    if one["errno"] is None:
        return short
    return f"{short} {one['errnoName'] or one['errno']}"


def profile_lines(table_: dict[str, Any]) -> list[str]:
    """A profile as text: the default, what comes of which calls, and what is unknown."""
    default = table_["default"]
    head = [("default", f"{action_text(default)}: a call {default['means']}")]
    if table_["newer"]:
        head.append(("newer", f"a call that is newer than all that are named {table_['newer']['means']}"))
    for one in table_["architectures"]:
        name = one["name"].removeprefix("SCMP_ARCH_").lower()
        words = "the machine's own" if one["pointer"] is None else one["pointer"]
        if not one["used"]:
            words += ": ignored: this machine does not run its programs"
        head.append(("architecture", f"{name} ({words})"))
    head.append(("others", "programs of other architectures are killed"))
    for one in table_["flags"]:
        words = "" if one["known"] else " (not known to this kernel: the filter cannot be loaded)"
        head.append(("flag", one["name"].removeprefix("SECCOMP_FILTER_FLAG_") + words))
    if table_["listenerPath"]:
        head.append(("agent", table_["listenerPath"]))
    head += [
        ("not known", f"{name}: not known to this kernel: the filter cannot be loaded") for name in table_["actions"]
    ]
    lines = [printable(line) for line in table(head)]
    for rules in _groups(table_["rules"]):
        lines += ["", f"{action_text(rules[0])}: {rules[0]['means']}"]
        for rule in rules:
            lines += _rule_lines(rule)
    left_out = [rule["pointer"] for rule in table_["rules"] if not rule["counts"]]
    if left_out:
        lines += ["", f"the default's own action, and left out: {', '.join(left_out)}"]
    if table_["unknown"]:
        lines += ["", "not known here:"]
        lines += [printable(f"  {one['pointer']}: {one['name']}: {one['then']}") for one in table_["unknown"]]
    if table_["warnings"]:
        lines += ["", *(f"warning: {printable(text)}" for text in table_["warnings"])]
    return lines


def _groups(rules: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Those that count, by what comes of them, in the order of the first of each."""
    groups: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    for rule in rules:
        if rule["counts"]:
            groups.setdefault((rule["action"], rule["errno"]), []).append(rule)
    return list(groups.values())


def _rule_lines(rule: dict[str, Any]) -> list[str]:
    condition = f"  if {rule['conditions']}" if rule["conditions"] else ""
    words = wrap(" ".join(rule["names"]), WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"  {rule['pointer']}{condition}", *(f"    {printable(line)}" for line in words)]
