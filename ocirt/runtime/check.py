"""check: everything that is wrong with a bundle, at once.

`create` stops at the first problem. Here each one is noted, what caused it is taken out of a copy of the configuration,
and the copy is checked on: by the schema, by `load`'s own rules, and against this host.
"""

from __future__ import annotations

import copy
import re

from ocirt.config.check import check_meaning
from ocirt.config.locate import Places
from ocirt.config.names import CAPABILITIES, NAMESPACES
from ocirt.config.read import Config, absolute, parse, read_json
from ocirt.config.schema import ERROR, WARNING, Problem, meant, schema_problems
from ocirt.config.shape import check_shape
from ocirt.errors import ConfigError, Error, printable
from ocirt.runtime.check_host import host_problems
from ocirt.runtime.explain import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

_POINTERS = re.compile(r"/(?:linux/namespaces|process/rlimits)/[0-9]+")
"""Pointers that some messages name."""

MOST = 1000
"""After so many problems we stop: each one costs another walk through the configuration."""
MOST_COUNTED = 50
"""The same, where they are only counted."""

_NAMESPACES = [{"type": kind} for kind in NAMESPACES if kind not in ("user", "time")]
_PROCESS = {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}}
_INSTEAD: dict[str, Any] = {
    "/ociVersion": "1.3.0",
    "/root": {"path": "/"},
    "/root/path": "/",
    "/process": _PROCESS,
    "/process/cwd": "/",
    "/process/args": ["sh"],
    "/process/user": {"uid": 0, "gid": 0},
    "/process/user/uid": 0,
    "/process/user/gid": 0,
    "/linux": {"namespaces": _NAMESPACES},
    "/linux/namespaces": _NAMESPACES,
    "/linux/seccomp/defaultAction": "SCMP_ACT_ALLOW",
}
"""What stands in the copy for a value that was wrong and must be there, so that its absence is no second problem."""


class Report:
    """All problems of a bundle, in the order of their places. strict: are warnings enough to refuse it?"""

    def __init__(self, path: str, problems: list[Problem], *, strict: bool = False) -> None:
        self.path = path
        self.strict = strict
        self.problems = sorted(problems, key=lambda problem: (problem.line, problem.column))

    @property
    def ok(self) -> bool:
        """Warnings are allowed, but for `strict`."""
        bad = (ERROR, WARNING) if self.strict else (ERROR,)
        return not any(problem.level in bad for problem in self.problems)

    def place(self, problem: Problem) -> str:
        """ "FILE:LINE:COLUMN: ", as editors take it; "FILE: " for what stands nowhere in it."""
        parts = [self.path, *(str(number) for number in (problem.line, problem.column) if number)]
        return printable(":".join(parts)) + ": "

    def summary(self) -> str:
        """One line about them all."""
        counts = [sum(problem.level == level for problem in self.problems) for level in (ERROR, WARNING)]
        words = [
            f"{count} {level}{'' if count == 1 else 's'}" for count, level in zip(counts, (ERROR, WARNING), strict=True)
        ]
        usable = not any(problem.level == ERROR for problem in self.problems)
        word = "ok" if self.ok else "usable, with warnings" if usable else "not usable"
        return f"{printable(self.path)}: {word}: {', '.join(words)}"


def check(bundle: str, manager: str = "cgroupfs", *, strict: bool = False) -> Report:
    """Never raises for what is wrong with the bundle: that is in the report. manager: who would make the cgroups;
    systemd is not asked. strict: also what is dangerous (config.strict)."""
    path = f"{bundle}/config.json"
    try:
        folder = absolute(bundle)
        path = folder + "/config.json"
        text = read_json(path)
    except OSError as error:
        return Report(path, [Problem(ERROR, None, f"cannot open the bundle: {error.strerror}", code="config")])
    except ConfigError as error:
        return Report(path, [_from_error(error)])
    try:
        spec = parse(text)
    except ConfigError as error:
        return Report(path, [_from_error(error)])
    try:
        problems = schema_problems(spec)
        if isinstance(spec, dict):
            checker = Checker(folder, text, spec, problems, manager=manager)
            problems += checker.run()
            problems += checker.dangers() if strict else []
    except RecursionError:
        problems = [Problem(ERROR, "", "not usable JSON: nested too deeply", code="config")]
    places = Places(text)
    for problem in problems:
        problem.line, problem.column = places.of(problem.pointer) if problem.pointer is not None else (0, 0)
    return Report(path, problems, strict=strict)


def counted(error: Error, bundle: str, file: str | None = None, text: str | None = None) -> Error:
    """The first problem that `create` and the like met with; its hint says how many more there are.

    file, text: the configuration, if it is another than the bundle's config.json, which is what `check` looks at."""
    if error.pointer is None:
        return error
    folder = absolute(bundle)
    content = read_json(file or folder + "/config.json") if text is None else text
    try:
        spec = parse(content)
        found = Checker(folder, content, spec, [], most=MOST_COUNTED).run() if isinstance(spec, dict) else []
    except (ConfigError, RecursionError):  # no usable JSON: that is the one problem there is
        return error
    errors = {problem.pointer for problem in found if problem.level == ERROR} - {error.pointer}
    if errors:
        many = f"{len(errors)} more" if len(found) < MOST_COUNTED else f"at least {MOST_COUNTED - 1} more"
        told = f"and {many}" if file or text is not None else f"and {many}: ocirt check {folder}"
        error.hint = f"{error.hint}; {told}" if error.hint else told
    return error


def _from_error(error: Error) -> Problem:
    """An Error as a problem; with line and column, if its place has them."""
    problem = Problem(ERROR, error.pointer, error.message, hint=error.hint, code=error.code)
    message = error.message
    if message.startswith("expected ") and ", got " in message:
        problem.expected, _, problem.got = message[9:].partition(", got ")
    numbers = [int(part) for part in error.place.split(":") if part.isdigit()]
    problem.line, problem.column = [*numbers, 0, 0][:2]
    return problem


class Checker:
    """Runs checks that raise at the first problem, until they raise no more.

    `wrong`: pointers, into the configuration as it was read, of what is known to be wrong.
    """

    def __init__(
        self,
        folder: str,
        text: str,
        spec: dict[str, Any],
        found: list[Problem],
        *,
        most: int = MOST,
        manager: str = "cgroupfs",
    ) -> None:
        self.most = most
        self.manager = manager
        self.folder = folder
        self.text = text
        self.spec = spec
        self.wrong = {problem.pointer for problem in found if problem.level == ERROR and problem.pointer is not None}
        self.problems: list[Problem] = []
        self.repaired = Repaired(spec, self.wrong)

    def run(self) -> list[Problem]:
        """The problems that the schema does not show."""
        while len(self.problems) < self.most:
            self.repaired = Repaired(self.spec, self.wrong)
            config = Config(self.repaired.spec, self.text, self.folder)
            try:
                check_shape(config.spec)
                check_meaning(config)
                if self.manager == "systemd":
                    _check_unit(config.spec)
                prepared = prepare(config, "disabled" if self.manager == "disabled" else "cgroupfs")
            except Error as error:
                if not self._noted(error):
                    break
            else:
                warnings = config.warnings + prepared.compiled.warnings
                self.problems += [self._warning(text) for text in warnings]
                self.problems += self._host(prepared.facts.rootfs)
                break
        return self.problems

    def _host(self, rootfs: str) -> list[Problem]:
        """What this host lacks: of a value that has no problem yet, and was not put there by us."""
        problems = host_problems(self.repaired.spec, rootfs)
        for problem in problems:
            problem.pointer = problem.pointer and self.repaired.original(problem.pointer)
        known = {one.pointer for one in self.problems} | self.repaired.made_up
        return [one for one in problems if one.pointer is None or not _is_below(one.pointer, known)]

    def dangers(self) -> list[Problem]:
        """What is allowed and dangerous, in what is not wrong: after `run`."""
        from ocirt.config.strict import strict_problems

        repaired = Repaired(self.spec, self.wrong)
        try:
            check_shape(repaired.spec)
        except Error:
            return []
        problems = strict_problems(repaired.spec)
        for problem in problems:
            problem.pointer = repaired.original(problem.pointer or "")
        return [one for one in problems if not _is_below(one.pointer or "", self.wrong | repaired.made_up)]

    def _noted(self, error: Error) -> bool:
        """Note a problem and what to take out because of it. False: that cannot be told."""
        problem = _from_error(error)
        problem.line = problem.column = 0
        if problem.pointer is None:
            self.problems.append(problem)
            return False
        pointer = problem.pointer = self.repaired.original(problem.pointer)
        problem.message = _POINTERS.sub(lambda found: self.repaired.original(found[0]), problem.message)
        if pointer not in self.wrong:
            self.wrong.add(pointer)
            self.problems.append(problem)
            return True
        # Already noted, and taking it out did not help: what is around it has to go as well.
        while pointer in self.wrong:
            if not pointer:
                return False
            pointer = pointer.rpartition("/")[0]
        self.wrong.add(pointer)
        return True

    def _warning(self, text: str) -> Problem:
        """load's and compile's warnings are "POINTER: words"."""
        pointer, colon, message = text.partition(": ")
        if not colon or not pointer.startswith("/"):
            return Problem(WARNING, None, text, code="config")
        hint = ""
        if message.startswith("unknown capability"):
            hint = meant(message.split('"')[1], CAPABILITIES)
        return Problem(WARNING, self.repaired.original(pointer), message, hint=hint, code="config")


def _check_unit(spec: dict[str, Any]) -> None:
    """Raise what the systemd driver would, as far as that can be told without systemd."""
    from ocirt.cgroups.systemd.properties import annotated
    from ocirt.cgroups.systemd.unit import unit_for

    unit_for((spec.get("linux") or {}).get("cgroupsPath") or "", "container", user=False)
    annotated(spec.get("annotations") or {})


def _is_below(pointer: str, pointers: Collection[str | None]) -> bool:
    """Is it one of these, or in one of these?"""
    return any(one is not None and (pointer + "/").startswith(one + "/") for one in pointers)


class Repaired:
    """A copy of a configuration without what is wrong in it, and the way back from its pointers.

    Of an array the entry goes that a wrong value is in; what must be there is replaced (`_INSTEAD`); all else goes.
    """

    def __init__(self, spec: dict[str, Any], wrong: set[str]) -> None:
        self._wrong = {self._removed(pointer) for pointer in wrong}
        self._kept: dict[str, list[int]] = {}
        self.spec: dict[str, Any] = self._copy(spec, "")
        self.made_up = {pointer for pointer in _INSTEAD if pointer in self._wrong}
        for pointer, value in _INSTEAD.items():
            if pointer in self._wrong:
                self._replace(pointer, copy.deepcopy(value))
        if any(pointer.startswith("/linux/namespaces/") for pointer in self._wrong):
            namespaces = self.spec["linux"]["namespaces"]
            known = [namespace.get("type") for namespace in namespaces]
            namespaces += [dict(one) for one in _NAMESPACES if one["type"] not in known]

    @staticmethod
    def _removed(pointer: str) -> str:
        """What goes if the value at `pointer` is wrong: the innermost array entry around it, or the value itself."""
        if pointer.startswith("/process/args/"):
            return "/process/args"
        parts = pointer.split("/")
        while parts and not parts[-1].isdigit():
            parts.pop()
        return "/".join(parts) or pointer

    def _copy(self, value: Any, pointer: str) -> Any:
        if isinstance(value, dict):
            copied = {}
            for name, member in value.items():
                here = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
                if here not in self._wrong:
                    copied[name] = self._copy(member, here)
            return copied
        if isinstance(value, list):
            kept = [index for index in range(len(value)) if f"{pointer}/{index}" not in self._wrong]
            self._kept[pointer] = kept
            return [self._copy(value[index], f"{pointer}/{index}") for index in kept]
        return value

    def _replace(self, pointer: str, value: Any) -> None:
        *parents, last = pointer.split("/")[1:]
        place: Any = self.spec
        for name in parents:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = value

    def original(self, pointer: str) -> str:
        """A pointer into the copy as one into what was read."""
        where = ""
        for part in pointer.split("/")[1:]:
            kept = self._kept.get(where)
            if kept is not None and part.isdigit() and int(part) < len(kept):
                part = str(kept[int(part)])
            where += "/" + part
        return where
