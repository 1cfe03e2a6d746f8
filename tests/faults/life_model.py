"""What commands on one container may do, whatever others do at the same time: a model, and a search for an order.

A history is possible if its commands can be put in an order in which each does what the model says, and none comes
before one that had ended when it began (linearizability).
"""

from __future__ import annotations

from dataclasses import dataclass

BUSY = "another command has been working on"
"""What a command says that has waited for the container's lock for too long: it has done nothing."""
DYING = "dying"
"""SIGKILL is sent: it is stopped, or will be in a moment."""
PAUSED_CREATED = "paused, created"
SHOWN = {
    "absent": {"absent"},
    "created": {"created"},
    "running": {"running"},
    "paused": {"paused"},
    PAUSED_CREATED: {"paused"},
    DYING: {"created", "running", "paused", "stopped"},
}
"""The model's state → what `state` may say."""
ALWAYS = {"absent", "creating", "created", "running", "paused", "stopped"}
CHANGING = {"create", "run", "start", "kill KILL", "pause", "resume", "delete", "delete --force"}
_ALIVE = ("created", "running", "paused", PAUSED_CREATED)
_DONE: dict[str, dict[str, str]] = {
    "create": {"absent": "created"},
    "run": {"absent": "running"},
    "start": {"created": "running"},
    "kill KILL": {**dict.fromkeys(_ALIVE, DYING), DYING: DYING},
    "kill WINCH": {**{state: state for state in _ALIVE}, DYING: DYING},
    "pause": {"running": "paused", "created": PAUSED_CREATED},
    "resume": {"paused": "running", PAUSED_CREATED: "created"},
    "delete": {"created": "absent", DYING: "absent"},
    "delete --force": dict.fromkeys(SHOWN, "absent"),
    "exec": {"created": "created", "running": "running"},
    "update": {state: state for state in _ALIVE},
    "ps": {state: state for state in (*_ALIVE, DYING)},
}
"""Verb → the states in which it succeeds, each with the next one. In all others it fails and changes nothing."""
EITHER = {"kill KILL", "kill WINCH", "delete", "pause", "resume", "exec", "update", "start", "ps"}
"""What may succeed or fail while the first process is dying."""


@dataclass
class Op:
    """A command that has ended. begin, end: when; shown: what `state` said, or "absent"."""

    verb: str
    begin: float
    end: float
    done: bool
    shown: str
    words: str

    def __str__(self) -> str:
        return f"{self.begin:.3f}–{self.end:.3f} {self.verb}: {self.shown or self.done} {self.words}".strip()


def after(op: Op, state: str) -> list[str]:
    """The states that it may leave when it comes in this one; none: it cannot come here."""
    if op.verb == "state":
        return [state] if op.shown in SHOWN[state] else []
    if BUSY in op.words:
        return [state]
    table = _DONE[op.verb]
    if state == DYING and op.verb in EITHER:
        if op.verb == "delete" and op.done:
            return ["absent"]
        return [DYING]
    if op.done:
        return [table[state]] if state in table else []
    return [] if state in table else [state]


def judged(ops: list[Op]) -> list[Op]:
    """Without those that look at a container, or go into it, while another command changes it: they take no lock, and
    may see it half done. What `state` says then has to be a status, no more."""
    changing = [op for op in ops if op.verb in CHANGING]

    def alone(op: Op) -> bool:
        return not any(other.begin <= op.end and op.begin <= other.end for other in changing)

    return [op for op in ops if op.verb not in ("state", "exec", "ps") or alone(op)]


def explained(ops: list[Op]) -> Op | None:
    """None if there is an order; else the first command that none explains."""
    ops = sorted(ops, key=lambda op: op.begin)
    stack: list[tuple[int, frozenset[int], str]] = [(0, frozenset(), "absent")]  # all before, these too, are done
    seen = set(stack)
    furthest = 0
    while stack:
        low, extra, state = stack.pop()
        while low in extra:
            extra -= {low}
            low += 1
        if low == len(ops):
            return None
        furthest = max(furthest, low)
        bound = min(op.end for at, op in enumerate(ops[low:], low) if at not in extra)
        for at in range(low, len(ops)):
            if ops[at].begin > bound:
                break
            if at in extra:
                continue
            for following in after(ops[at], state):
                node = (low, extra | {at}, following)
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
    return ops[furthest]
