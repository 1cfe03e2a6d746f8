"""The fast argument loop of the hot verbs. What it does not understand at once it leaves to click, which says why."""

from __future__ import annotations

from ocirt.cli.verbs import GLOBAL_FLAGS, VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.cli.verbs import Flag, Verb

    Options = dict[str, str | bool | list[str] | None]


def parse(args: Sequence[str]) -> tuple[Verb, Options, list[str]] | None:
    """(verb, options, positional arguments) of a hot verb's well-formed call; None for anything else."""
    options: Options = {flag.key: flag.start for flag in GLOBAL_FLAGS}
    rest = _flags(args, 0, GLOBAL_FLAGS, options, [], stop=True)
    if rest is None or rest == len(args):
        return None
    verb = VERBS.get(args[rest])
    if verb is None or not verb.hot:
        return None
    for flag in verb.flags:
        options[flag.key] = flag.start
    positional: list[str] = []
    end = _flags(args, rest + 1, verb.flags, options, positional, stop=verb.open_ended)
    if end is None:
        return None
    positional += args[end:]
    return (verb, options, positional) if verb.takes(len(positional)) else None


def _flags(
    args: Sequence[str], at: int, flags: Sequence[Flag], options: Options, positional: list[str], *, stop: bool
) -> int | None:
    """Take flags and positional arguments from args[at:]; where it stopped, or None if it does not understand one."""
    only_positional = False
    while at < len(args):
        arg = args[at]
        if only_positional or not arg.startswith("-") or arg == "-":
            if stop:
                return at
            positional.append(arg)
            at += 1
            continue
        at += 1
        if arg == "--":
            only_positional = True
            continue
        name, equals, value = arg.partition("=")
        for flag in flags:
            # With one dash as well: Go's programs take both, and containerd's shim writes -no-subreaper.
            if name[1:] in ("-" + flag.name, flag.name) or (len(name) == 2 and name[1] in flag.letters):
                break
        else:
            return None
        if flag.metavar is None:
            if equals:
                return None
            options[flag.key] = True
            continue
        if flag.bare is not None:
            value = value if equals else flag.bare
        elif not equals:
            if at == len(args):
                return None
            value = args[at]
            at += 1
        if flag.values and value not in flag.values:
            return None
        known = options[flag.key]
        options[flag.key] = [*known, value] if isinstance(known, list) else value
    return at
