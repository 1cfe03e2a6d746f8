"""Docker's restart policies and back-off, as its restartmanager has them."""

from __future__ import annotations

import pytest

from ocirt.manager.monitor.restart import Restart


def delays(policy: str, most: int, runs: list[tuple[int, float, bool]]) -> list[float | None]:
    restart = Restart(policy, most)
    return [restart.delay(*run) for run in runs]


def test_the_delay_doubles_to_a_minute() -> None:
    found = delays("always", 0, [(1, 0.0, False)] * 13)
    assert found[:4] == [0.1, 0.2, 0.4, 0.8]
    assert found[-2:] == [60.0, 60.0]


def test_a_long_run_makes_it_begin_anew() -> None:
    assert delays("always", 0, [(0, 1, False), (0, 1, False), (0, 10, False), (0, 1, False)]) == [0.1, 0.2, 0.1, 0.2]


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("no", 1, False),
        ("always", 0, True),
        ("unless-stopped", 0, True),
        ("on-failure", 0, False),
        ("on-failure", 3, True),
    ],
)
def test_the_policies(policy: str, code: int, again: bool) -> None:
    assert (delays(policy, 0, [(code, 0, False)]) == [0.1]) is again
    assert delays(policy, 0, [(code, 0, True)]) == [None]  # stopped by its user


def test_so_many_failures() -> None:
    restart = Restart("on-failure", 2)
    assert [restart.delay(1, 0, False) for _ in range(3)] == [0.1, 0.2, None]
    assert restart.count == 2
