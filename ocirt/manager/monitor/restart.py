"""When a container that has ended is started again (docker's restart policies, and its back-off)."""

from __future__ import annotations

FIRST_DELAY, LONGEST_DELAY = 0.1, 60.0
"""Seconds; the delay doubles from run to run."""
LONG_RUN = 10.0
"""A run of so many seconds was no failure to start: the delay begins anew."""


class Restart:
    """policy: "no", "always", "on-failure" or "unless-stopped". most: restarts after failures, 0 for any number."""

    def __init__(self, policy: str, most: int) -> None:
        self.policy = policy
        self.most = most
        self.count = 0
        self._delay = 0.0

    def delay(self, code: int, ran: float, stopped: bool) -> float | None:
        """Seconds until the next run, or None: it is over. code: exit code; ran: seconds; stopped: by its user."""
        again = (
            not stopped
            and self.policy in ("always", "unless-stopped", "on-failure")
            and (self.policy != "on-failure" or (code != 0 and (not self.most or self.count < self.most)))
        )
        if ran >= LONG_RUN:
            self._delay = 0.0
        self._delay = min(self._delay * 2, LONGEST_DELAY) if self._delay else FIRST_DELAY
        if not again:
            return None
        self.count += 1
        return self._delay
