"""When hooks run, and what their failure means (runtime.md, "Lifecycle"). Imported only where there are hooks."""

from __future__ import annotations

from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask

from ocirt.cgroups.manager import Cgroups
from ocirt.config.hooks import poststart_may_fail
from ocirt.config.read import parse, read_json
from ocirt.errors import Error
from ocirt.host.hooks import Hooks
from ocirt.host.launch import ENDING
from ocirt.runtime.agent import for_hook
from ocirt.runtime.delete import destroy, end
from ocirt.runtime.start import place
from ocirt.state.store import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirt.state.store import Entry


def hooks_of(entry: Entry, known: dict[str, Any], cgroups: Cgroups) -> Hooks:
    """An existing container's, from the copy of its configuration. Raises Error if that cannot be read."""
    spec = parse(read_json(f"{entry.folder}/{CONFIG}", folder=entry.fd))
    return Hooks(spec, known, cgroups, for_hook(spec))


def before_program(hooks: Hooks) -> None:
    """At `start`, while init waits. Raises HookError: then the container has to go."""
    for kind in ("prestart", "startContainer"):
        if kind in hooks.known["hooks"]:
            hooks.run(kind, status="created")


def after_program(hooks: Hooks) -> list[str]:
    """When the program has been executed. Returns warnings, or raises HookError: then the container has to go."""
    if "poststart" not in hooks.known["hooks"]:
        return []
    if poststart_may_fail(hooks.known["ociVersion"]):
        return hooks.run_all("poststart")
    hooks.run("poststart")
    return []


class Started:
    """A created container while `start` works on it: with a hook that fails, or a signal to us, it goes."""

    def __init__(self, known: dict[str, Any], entry: Entry) -> None:
        self.known = known
        self.entry = entry
        self.hooks = hooks_of(entry, known, Cgroups.from_state(known["cgroups"]))

    def before_program(self) -> None:
        self._or_gone(before_program)

    def after_program(self) -> list[str]:
        return self._or_gone(after_program) or []

    def _or_gone(self, run: Callable[[Hooks], list[str] | None]) -> list[str] | None:
        try:
            return run(self.hooks)
        except BaseException as error:
            if isinstance(error, Error):
                error = place(error, self.known, self.entry)
            hint = self._destroy()
            if hint and isinstance(error, Error):
                error.hint = f"{error.hint}; {hint}" if error.hint else hint
            raise error from None

    def _destroy(self) -> str:
        """Undo what `create` has done. Returns what else failed, for a hint."""
        before = pthread_sigmask(SIG_BLOCK, ENDING)
        try:
            end(self.known)
            return "; ".join(f"and then: {warning}" for warning in destroy(self.known, self.entry, kill=True))
        except Error as second:
            return f"and then: {second}; `ocirt delete --force {self.known['id']}` tries again"
        finally:
            pthread_sigmask(SIG_SETMASK, before)
