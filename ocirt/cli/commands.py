"""The click commands: help, errors, completion and the cold verbs. Made from the verb table, like the fast loop.

A hot verb's well-formed call never comes here (`argv`); a call that does is parsed to the same options, and carried out
by the same action.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches

import click
from click.shell_completion import CompletionItem, shell_complete

from ocirt.cli import actions, cold_actions
from ocirt.cli.help import details
from ocirt.cli.main import carry_out, root_of
from ocirt.cli.output import Out
from ocirt.cli.verbs import GLOBAL_FLAGS, VERBS
from ocirt.cli.version import print_version
from ocirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirt.cli.verbs import Flag, Verb

    _Type = click.ParamType[str]  # which older versions of click do not let run
else:
    _Type = click.ParamType

_POSITIONAL = "positional"
_HELP_NAMES = {"help_option_names": ["--help", "-h"]}
_LINE = 64
_FOLDERS = ("DIR",)
_FILES = ("FILE", "PATH")


def run_click(name: str, args: list[str]) -> int:
    """Carry out a command line that the fast loop does not understand. `name`: argv[0]. Returns the exit code."""
    program = name.rpartition("/")[2] or "ocirt"
    variable = f"_{program}_COMPLETE".replace("-", "_").replace(".", "_").upper()
    group = Group()
    instruction = os.environ.get(variable)
    if instruction:
        return shell_complete(group, {}, program, variable, instruction)
    try:
        context = group.make_context(program, list(args or ["--help"]), obj=name)
        with context:
            return int(group.invoke(context))
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except BrokenPipeError:  # the help's reader has seen enough
        return 0
    except click.UsageError as error:
        usage = explained(error, program)
    options = log_options(args)
    Out("", options["log"], options["log_format"] or "text", debug=False).fail(usage)
    return usage.exit_code


def log_options(args: Sequence[str]) -> dict[str, str | None]:
    """--log and --log-format, from a command line that may be wrong anywhere: engines look for the reason there."""
    found: dict[str, str | None] = {"log": None, "log_format": None}
    valued = {"--" + flag.name: flag for flag in GLOBAL_FLAGS if flag.metavar}
    at = 0
    while at < len(args) and args[at].startswith("-") and args[at] != "--":
        name, equals, value = args[at].partition("=")
        at += 1
        flag = valued.get(name)
        if flag is None:
            continue
        if not equals:
            value = args[at] if at < len(args) else ""
            at += 1
        if flag.key in found:
            found[flag.key] = value
    return found


def explained(error: click.UsageError, program: str) -> UsageError:
    """click's complaint in our words: one line, what was meant, and where the help is."""
    context = error.ctx
    verb = context.info_name if context and context.parent else None
    hint = f"see `{program} {verb} --help`" if verb else f"see `{program} --help`"
    if isinstance(error, click.NoSuchOption):
        message = f"unknown flag {error.option_name}{_meant(error.option_name, verb)}"
    elif isinstance(error, click.BadOptionUsage):
        known = [*GLOBAL_FLAGS, *(VERBS[verb].flags if verb else ())]
        needs = any(flag.metavar and error.option_name in spellings(flag) for flag in known)
        message = f"{error.option_name} needs a value" if needs else f"{error.option_name} takes no value"
    elif isinstance(error, click.BadParameter) and error.param:
        message = f"{error.param.opts[-1]}: {error.message}"
    else:
        message = error.message.rstrip(".")
    usage = UsageError(message, hint=hint)
    if verb == "check":
        usage.exit_code = cold_actions.NOT_CHECKED
    return usage


def _meant(name: str, verb: str | None) -> str:
    """What an unknown flag was probably meant to be: ": …", or nothing."""
    if verb:
        if any(name in spellings(flag) for flag in GLOBAL_FLAGS):
            return f": it goes before the verb, {verb}"
        flags = VERBS[verb].flags
    else:
        flags = GLOBAL_FLAGS
        owners = [known.name for known in VERBS.values() if any(name in spellings(flag) for flag in known.flags)]
        if owners:
            return f": it goes after the verb ({', '.join(owners)})"
    near = get_close_matches(name, ["--" + flag.name for flag in flags] + ["--help"], 1)
    return f": did you mean {near[0]}?" if near else ""


class OneOf(_Type):
    """Exactly one of the values, as in the fast loop."""

    name = "one of"

    def __init__(self, values: Sequence[str]) -> None:
        self.values = values

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.values:
            self.fail(f'expected {" or ".join(self.values)}, got "{value}"', param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(value) for value in self.values if value.startswith(incomplete)]


def spellings(flag: Flag) -> list[str]:
    return [*(f"-{letter}" for letter in flag.letters), f"--{flag.name}"]


def option(flag: Flag) -> click.Option:
    """One flag of the table."""
    names = [*spellings(flag), flag.key]
    if flag.metavar is None:
        return click.Option(names, is_flag=True, default=False, help=flag.help)
    return click.Option(
        names,
        metavar="|".join(flag.values) or flag.metavar,
        default=None if flag.many else flag.default,
        multiple=flag.many,
        show_default=flag.default is not None,
        help=flag.help,
        type=OneOf(flag.values) if flag.values else click.STRING,
        shell_complete=None if flag.values else _complete_path(flag.metavar),
    )


def _complete_path(metavar: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    metavar = metavar.strip("[=]")
    kind = "dir" if metavar in _FOLDERS else "file" if metavar in _FILES else "plain"
    return lambda context, param, incomplete: [CompletionItem(incomplete, type=kind)]


def split_values(args: Sequence[str], flags: Sequence[Flag], *, stop: bool = False) -> list[str]:
    """`-b=DIR`, as Go's programs take it, becomes `-b DIR`: click would read a value "=DIR". And `-name` becomes
    `--name`.

    stop: at the first argument that is no flag."""
    result: list[str] = []
    at = 0
    while at < len(args):
        arg = args[at]
        at += 1
        name, equals, value = arg.partition("=")
        if any(name == "-" + flag.name for flag in flags):
            name, arg = "-" + name, "-" + arg
        flag = next((flag for flag in flags if flag.metavar and name in spellings(flag)), None)
        if flag and flag.bare is not None:
            result.append(arg if equals else f"{arg}={flag.bare}")
            continue
        if arg == "--" or (stop and (arg == "-" or not arg.startswith("-"))):
            return [*result, *args[at - 1 :]]
        if flag and equals and len(name) == 2:
            result += [name, value]
        elif flag and not equals:
            result += [arg, *args[at : at + 1]]
            at += 1
        else:
            result.append(arg)
    return result


class Command(click.Command):
    """One verb. Its options and arguments come out as the fast loop has them."""

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        arguments = click.Argument(
            [_POSITIONAL], nargs=-1, type=click.UNPROCESSED, required=False, shell_complete=self._complete
        )
        super().__init__(
            verb.name,
            params=[*map(option, verb.flags), arguments],
            help=f"{verb.help}\n\n{details(verb.name)}",
            short_help=verb.help if len(verb.help) <= _LINE else re.split("[:,] ", verb.help)[0] + ".",
            context_settings={**_HELP_NAMES, "allow_interspersed_args": not verb.open_ended},
        )

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[options]", *self.verb.arguments]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, split_values(args, self.verb.flags, stop=self.verb.open_ended))
        except click.UsageError as error:  # click's parser does not always say whose error it is
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> int:
        assert ctx.parent
        options = {flag.key: ctx.parent.params[flag.key] for flag in GLOBAL_FLAGS}
        options |= {
            flag.key: list(ctx.params[flag.key]) if flag.many else ctx.params[flag.key] for flag in self.verb.flags
        }
        positional = list(ctx.params[_POSITIONAL])
        self._check_count(ctx, positional)
        name = self.verb.name
        action = actions.of(name) if self.verb.hot else cold_actions.ACTIONS[name]
        return carry_out(action, options, positional)

    def _check_count(self, ctx: click.Context, positional: Sequence[str]) -> None:
        names = self.verb.arguments
        needed = [name for name in names if not name.startswith("[")]
        if len(positional) < len(needed):
            ctx.fail(f"{self.verb.name} needs {', '.join(needed[len(positional) :])}")
        if not self.verb.takes(len(positional)):
            ctx.fail(f'{self.verb.name} has no use for "{positional[len(names)]}"')

    def _complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What the next argument may be: the ids of containers, signals, folders."""
        given = ctx.params.get(_POSITIONAL) or ()
        if len(given) >= len(self.verb.arguments) or (given and self.verb.open_ended):
            return []
        name = self.verb.arguments[len(given)].strip("[]")
        if "BUNDLE" in name:
            return [CompletionItem(incomplete, type="dir")]
        words: Sequence[str] = ()
        if name == "SIGNAL":
            from ocirt.config.names import SIGNALS

            words = list(SIGNALS)
        elif name == "ID" and self.verb.name != "create" and ctx.parent:
            from ocirt.errors import Error
            from ocirt.state.store import Store

            try:
                words = Store(root_of(ctx.parent.params["root"])).ids()
            except Error:
                words = ()
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class Group(click.Group):
    """ocirt itself: the global flags, and a command for each verb."""

    def __init__(self) -> None:
        version = click.Option(
            ["-v", "--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Print the versions of ocirt, the specification and libseccomp.",
        )
        super().__init__(
            "ocirt",
            commands={name: Command(verb) for name, verb in VERBS.items()},
            params=[*map(option, GLOBAL_FLAGS), version],
            help="An OCI container runtime that compiles config.json into a list of system calls.",
            epilog='Completion in bash (also zsh, fish): eval "$(_OCIRT_COMPLETE=bash_source ocirt)"',
            context_settings=_HELP_NAMES,
            callback=_expect_verb,
            invoke_without_command=True,
            subcommand_metavar="VERB [options] [arguments]",
            options_metavar="[options]",
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, split_values(args, GLOBAL_FLAGS, stop=True))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the table's order, which is a container's life."""
        return list(VERBS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not ctx.resilient_parsing:
            near = get_close_matches(name, VERBS, 1)
            ctx.fail(f"unknown verb {name}" + (f": did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.pass_context
def _expect_verb(ctx: click.Context, /, **_: object) -> None:
    if ctx.invoked_subcommand is None:
        ctx.fail("no verb given")


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.exit(print_version(ctx.obj))
