"""Commands about ocim itself."""

from __future__ import annotations

import sys

from ocirt.manager.cli.grammar import Value
from ocirt.manager.cli.help import of_words


def version(values: dict[str, Value], arguments: list[str]) -> None:
    import ocirt
    from ocirt.manager.cli.output import show

    facts = {"Version": ocirt.__version__, "Python": sys.version.partition(" ")[0]}
    if values["format"]:
        show(facts, str(values["format"]))
    else:
        sys.stdout.write(f"ocim {ocirt.__version__}\n")


def help_(values: dict[str, Value], arguments: list[str]) -> None:
    sys.stdout.write(of_words(arguments))
