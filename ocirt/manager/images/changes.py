"""--change of commit and import: instructions of a Dockerfile that change a configuration, and nothing else.

CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR, as Docker's Dockerfile reference has
them. Variables ($NAME, ${NAME}, ${NAME:-WORD}, ${NAME:+WORD}) are of the configuration's own environment; nothing of
the host's comes in.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Sequence
from typing import Any

from ocirt.manager.errors import GrammarError

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+])([^}]*))?\})")
_KEY = re.compile(r"[^\s=\"']+")
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?")
_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]*|[0-9]{1,2}")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ns|us|µs|ms|s|m|h)")
MOST_PORTS = 65536


class Changes:
    """Carried out one after the other on a copy of a configuration's `config`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config: dict[str, Any] = json.loads(json.dumps(config))
        self._cmd = False

    def apply(self, text: str) -> None:
        """One instruction. Raises GrammarError."""
        instruction, _, rest = text.strip().partition(" ")
        does = _INSTRUCTIONS.get(instruction.upper())
        rest = rest.strip()
        if does is None:
            raise GrammarError(f"--change {text[:60]!r}", hint="one of " + " ".join(_INSTRUCTIONS))
        if not rest:
            raise GrammarError(f"--change {text[:60]!r}: {instruction.upper()} of nothing")
        does(self, rest)

    def _cmd_(self, rest: str) -> None:
        self.config["Cmd"] = self._program(rest)
        self._cmd = True

    def _entrypoint(self, rest: str) -> None:
        """As in a build: an image's command was for its entry point."""
        self.config["Entrypoint"] = self._program(rest)
        if not self._cmd:
            self.config["Cmd"] = None

    def _program(self, rest: str) -> list[str]:
        found = _list(rest)
        return [*(self.config.get("Shell") or ["/bin/sh", "-c"]), rest] if found is None else found

    def _env(self, rest: str) -> None:
        found = list(self.config.get("Env") or [])
        for key, value in self._pairs(rest, "ENV"):
            found = [one for one in found if one.partition("=")[0] != key]
            found.append(f"{key}={value}")
        self.config["Env"] = found

    def _label(self, rest: str) -> None:
        self.config["Labels"] = (self.config.get("Labels") or {}) | dict(self._pairs(rest, "LABEL"))

    def _expose(self, rest: str) -> None:
        found = dict(self.config.get("ExposedPorts") or {})
        for word in self._words(rest):
            fields = _PORT.fullmatch(word)
            first, last = (int(fields[1]), int(fields[2] or fields[1])) if fields else (0, 0)
            if not fields or not 0 < first <= last < MOST_PORTS:
                raise GrammarError(f"EXPOSE {word[:40]!r} is no port", hint="NUMBER[-NUMBER][/tcp|/udp|/sctp]")
            found |= {f"{port}/{fields[3] or 'tcp'}": {} for port in range(first, last + 1)}
        self.config["ExposedPorts"] = found

    def _volume(self, rest: str) -> None:
        paths = _list(rest)
        paths = self._words(rest) if paths is None else paths
        if not all(paths):
            raise GrammarError("VOLUME of an empty path")
        self.config["Volumes"] = (self.config.get("Volumes") or {}) | {path: {} for path in paths}

    def _workdir(self, rest: str) -> None:
        path = posixpath.join(self.config.get("WorkingDir") or "/", self._expanded(rest))
        self.config["WorkingDir"] = posixpath.normpath("/" + path.lstrip("/"))

    def _user(self, rest: str) -> None:
        self.config["User"] = self._expanded(rest)

    def _stop_signal(self, rest: str) -> None:
        signal = self._expanded(rest)
        if not _SIGNAL.fullmatch(signal.upper()):
            raise GrammarError(f"STOPSIGNAL {signal[:40]!r} is no signal", hint="SIGTERM, or a number")
        self.config["StopSignal"] = signal

    def _on_build(self, rest: str) -> None:
        if rest.split()[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
            raise GrammarError(f"ONBUILD {rest[:40]!r}: no trigger may do that")
        self.config["OnBuild"] = [*(self.config.get("OnBuild") or []), rest]

    def _health_check(self, rest: str) -> None:
        check: dict[str, Any] = {}
        names = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
                 "start-interval": "StartInterval"}  # fmt: skip
        while rest.startswith("--"):
            word, _, rest = rest.partition(" ")
            name, equals, value = word[2:].partition("=")
            rest = rest.strip()
            if name == "retries" and value.isdecimal() and len(value) < 7:
                check["Retries"] = int(value)
            elif name in names and equals:
                check[names[name]] = duration(value)
            else:
                raise GrammarError(f"HEALTHCHECK {word[:40]!r}", hint="--interval= --timeout= --retries= …")
        kind, _, command = rest.partition(" ")
        command = command.strip()
        if kind.upper() == "NONE" and not command and not check:
            check = {"Test": ["NONE"]}
        elif kind.upper() == "CMD" and command:
            found = _list(command)
            check = {"Test": ["CMD-SHELL", command] if found is None else ["CMD", *found]} | check
        else:
            raise GrammarError(f"HEALTHCHECK {rest[:40]!r}", hint="NONE, or [OPTIONS] CMD COMMAND")
        self.config["Healthcheck"] = check

    # Words.

    def _pairs(self, rest: str, what: str) -> list[tuple[str, str]]:
        """KEY=VALUE …, or KEY and all the rest for its value."""
        first = rest.split(None, 1)
        if "=" not in first[0]:
            if len(first) == 1 or not _KEY.fullmatch(first[0]):
                raise GrammarError(f"{what} {rest[:40]!r}", hint="KEY=VALUE …")
            return [(first[0], self._expanded(first[1]))]
        found = []
        for word in self._words(rest):
            key, equals, value = word.partition("=")
            if not equals or not key:
                raise GrammarError(f"{what} {word[:40]!r}", hint="KEY=VALUE …")
            found.append((key, value))
        return found

    def _expanded(self, text: str) -> str:
        return _lex(text, self._value, split=False)[0]

    def _words(self, text: str) -> list[str]:
        return _lex(text, self._value, split=True)

    def _value(self, name: str) -> str:
        for one in self.config.get("Env") or []:
            key, _, value = str(one).partition("=")
            if key == name:
                return value
        return ""


_INSTRUCTIONS: dict[str, Callable[[Changes, str], None]] = {
    "CMD": Changes._cmd_,
    "ENTRYPOINT": Changes._entrypoint,
    "ENV": Changes._env,
    "EXPOSE": Changes._expose,
    "HEALTHCHECK": Changes._health_check,
    "LABEL": Changes._label,
    "ONBUILD": Changes._on_build,
    "STOPSIGNAL": Changes._stop_signal,
    "USER": Changes._user,
    "VOLUME": Changes._volume,
    "WORKDIR": Changes._workdir,
}


def applied(config: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The configuration's `config` after these. Raises GrammarError."""
    working = Changes(config)
    for change in changes:
        working.apply(change)
    return working.config


def _list(text: str) -> list[str] | None:
    """The strings of a JSON array, or None: then it is a line for a shell, as docker has it."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None


def _lex(text: str, value: Callable[[str], str], *, split: bool) -> list[str]:
    """Quotes removed and variables in place; in words, or as one. Raises GrammarError for a quote without its end."""
    words: list[str] = []
    word = quote = ""
    begun = False
    at = 0
    while at < len(text):
        letter = text[at]
        at += 1
        if quote == "'" or letter not in "\\$'\" \t":
            if letter == quote:
                quote = ""
            else:
                word, begun = word + letter, True
        elif letter == "\\":
            if quote and text[at : at + 1] not in ('"', "$", "\\"):
                word += letter
            word, begun = word + text[at : at + 1], True
            at += 1
        elif letter == "$":
            found = _VARIABLE.match(text, at - 1)
            word, begun = word + (_variable(found, value) if found else letter), True
            at = found.end() if found else at
        elif letter in "'\"" and quote in ("", letter):
            quote, begun = ("" if quote else letter), True
        elif quote or (letter in " \t" and not split) or letter in "'\"":
            word += letter
        elif begun:
            words.append(word)
            word, begun = "", False
    if quote:
        raise GrammarError(f"{text[:60]!r}: a quote without its end")
    return [*words, word] if begun or not split else words


def _variable(found: re.Match[str], value: Callable[[str], str]) -> str:
    known = value(found[1] or found[2])
    if found[3] == "-":
        return known or found[4]
    if found[3] == "+":
        return found[4] if known else ""
    return known


def duration(text: str) -> int:
    """Nanoseconds of Go's "1m30s"."""
    total = at = 0
    while found := _DURATION.match(text, at):
        at = found.end()
        total += int(found[1]) * _UNITS[found[3]]
        if found[2]:
            total += int(found[2]) * _UNITS[found[3]] // 10 ** len(found[2])
    if at != len(text) or not text or total >= 1 << 63:
        raise GrammarError(f"{text[:40]!r} is no duration", hint="30s, 1m30s, 500ms")
    return total
