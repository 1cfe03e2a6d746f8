"""Shell completion: scripts that ask `ocim complete WORD…`, and what that answers, from the table.

`complete` gets the words after `ocim`, the last one being the one that is written, and prints one candidate a line,
with a tab and what it is. A last line ":files" or ":folders" asks the shell to offer its files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ocirt.errors import Error
from ocirt.manager.cli.here import site
from ocirt.manager.cli.table import COMMON, GROUPS, all_commands, named
from ocirt.manager.errors import GrammarError

if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Command, Flag, Value

Candidate = tuple[str, str]

BASH = r"""# bash completion of ocim; written by `ocim completion bash`
_ocim() {
    local current=${COMP_WORDS[COMP_CWORD]} line
    local -a words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    if [[ $COMP_WORDBREAKS == *:* || $COMP_WORDBREAKS == *=* ]]; then # bash has split NAME:TAG and --flag=value
        local text=${COMP_LINE:0:COMP_POINT}
        read -ra words <<<"${text#*[[:space:]]}"
        [[ $text == *[[:space:]] || ${#words[@]} -eq 0 ]] && words+=("")
    fi
    local written=${words[-1]}
    local cut=${written%"$current"}
    COMPREPLY=()
    while IFS=$'\t' read -r line _; do
        case $line in
        :files) compopt -o default ;;
        :folders) compopt -o dirnames ;;
        *) COMPREPLY+=("${line#"$cut"}") ;;
        esac
    done < <(ocim complete -- "${words[@]}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:=] ]] && compopt -o nospace
    return 0
}
complete -F _ocim ocim
"""
ZSH = r"""#compdef ocim
# zsh completion of ocim; written by `ocim completion zsh`
_ocim() {
    local line files
    local -a found
    for line in "${(@f)$(ocim complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
        :files) files=1 ;;
        :folders) files=2 ;;
        ?*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    (( ${#found} )) && _describe -V ocim found
    case $files in
    1) _files ;;
    2) _files -/ ;;
    esac
}
compdef _ocim ocim
"""
FISH = r"""# fish completion of ocim; written by `ocim completion fish`
function __ocim_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (ocim complete -- $words[2..-1] 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path (commandline -ct)
            case ':folders'
                __fish_complete_directories (commandline -ct) ''
            case '*'
                echo $line
        end
    end
end
complete -c ocim -f -a '(__ocim_complete)'
"""
_SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(values: dict[str, Value], arguments: list[str]) -> None:
    if arguments[0] not in _SCRIPTS:
        raise GrammarError(f"{arguments[0][:40]!r} is no shell that is known", hint=", ".join(_SCRIPTS))
    sys.stdout.write(_SCRIPTS[arguments[0]])


def complete(values: dict[str, Value], arguments: list[str]) -> None:
    for text, what in candidates(arguments or [""]):
        sys.stdout.write(f"{text}\t{what}\n" if what else f"{text}\n")


def candidates(words: list[str]) -> Iterator[Candidate]:
    """(what may stand there, what it is). `words`: the last one is the one that is written."""
    *before, current = words
    names = _after_flags(before)
    if names is None:
        return
    if not names:
        yield from _starting(current, [*_commands(), *_flags(COMMON)] if current.startswith("-") else _commands())
        return
    if names[0] in GROUPS and len(names) == 1:
        yield from _starting(current, _commands(names[0]))
        return
    count = 2 if names[0] in GROUPS else 1
    command = named(" ".join(names[:count]))
    if command is not None:
        yield from _of_command(command, names[count:], current)


def _after_flags(words: list[str]) -> list[str] | None:
    """Without the common flags; None if the value of one is written."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in ("--root", "--run"):
            if not rest:
                return None
            rest.pop(0)
    return rest


def _commands(group: str = "") -> list[Candidate]:
    found = {} if group else dict(GROUPS)
    for command in all_commands():
        for path in command.paths:
            above, _, name = path.rpartition(" ")
            if above == group:
                found[name] = command.help
    return sorted(found.items())


def _flags(flags: Iterable[Flag]) -> list[Candidate]:
    return sorted((f"--{flag.name}", flag.help) for flag in flags)


def _of_command(command: Command, before: list[str], current: str) -> Iterator[Candidate]:
    arguments, waiting = _read(command, before)
    if waiting is not None:
        yield from _starting(current, _values(waiting))
    elif arguments is None:  # another program's words
        yield (":files", "")
    elif current.startswith("--") and "=" in current:
        name, _, start = current[2:].partition("=")
        for flag in command.flags:
            if flag.name == name and flag.metavar:
                yield from ((f"--{name}={text}" if what != ":" else text, what) for text, what in _values(flag)
                            if text.startswith(start))  # fmt: skip
    elif current.startswith("-"):
        yield from _starting(current, _flags(command.flags))
    elif command.most is None or len(arguments) < command.most:
        yield from _starting(current, _arguments(command, arguments))


def _read(command: Command, before: list[str]) -> tuple[list[str] | None, Flag | None]:
    """(the arguments so far, or None if what follows is another program's; the flag whose value is written)."""
    long = {f"--{flag.name}": flag for flag in command.flags}
    short = {letter: flag for flag in command.flags for letter in flag.letters}
    arguments: list[str] = []
    rest = list(before)
    while rest:
        word = rest.pop(0)
        flag = long.get(word)
        if flag is None and len(word) > 1 and word[0] == "-" and word[1] != "-":
            flag = short.get(word[-1])
            if any(short[one].metavar for one in word[1:-1] if one in short):
                flag = None  # -eNAME: the value is there
        if flag is not None and flag.metavar:
            if not rest:
                return arguments, flag
            rest.pop(0)
        elif not word.startswith("-"):
            arguments.append(word)
            if command.open_ended and len(arguments) >= 1:
                return None, None
    return arguments, None


def _values(flag: Flag) -> list[Candidate]:
    if flag.values:
        return [(value, "") for value in flag.values]
    return _kind(flag.completes)


def _arguments(command: Command, arguments: list[str]) -> list[Candidate]:
    if command.name == "help":
        return _commands()
    if command.name == "completion":
        return [(shell, "") for shell in _SCRIPTS]
    return [one for one in _kind(command.completes) if one[0] not in arguments]


def _kind(kind: str) -> list[Candidate]:
    """What there is of it at the moment; nothing if that cannot be found out."""
    kinds: dict[str, Callable[[], list[Candidate]]] = {
        "container": _containers,
        "image": _images,
        "volume": _volumes,
        "any": _any,
        "copied": _copied,
        "file": lambda: [(":files", "")],
        "folder": lambda: [(":folders", "")],
    }
    try:
        return kinds[kind]() if kind else []
    except (Error, OSError):
        return []


def _containers() -> list[Candidate]:
    from ocirt.manager.containers.records import Records

    return [
        (record.name, str((record.document.get("image") or {}).get("name", ""))) for record in Records(site().database)
    ]


def _images() -> list[Candidate]:
    from ocirt.manager import names

    return [(names.parse(image.name).familiar, "") for image in site().images if not image.name.startswith("sha256:")]


def _volumes() -> list[Candidate]:
    rows = site().database.read.execute("select name from volumes order by name").fetchall()
    return [(str(name), "") for (name,) in rows]


def _any() -> list[Candidate]:
    return [*_containers(), *_images(), *_volumes()]


def _copied() -> list[Candidate]:
    return [*((f"{name}:", what) for name, what in _containers()), (":files", "")]


def _starting(current: str, found: Iterable[Candidate]) -> Iterator[Candidate]:
    """Those that go on from what is written; the shell's own files always."""
    return (one for one in found if one[0].startswith(current) or one[0] in (":files", ":folders"))
