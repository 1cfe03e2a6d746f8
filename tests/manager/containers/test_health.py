"""Health checks: docker's states, its rule for failures, and the last five results with their output."""

from __future__ import annotations

from typing import Any

import pytest
from by_hand import Workshop, until

from ocirt.manager.containers import lifecycle

pytestmark = pytest.mark.root
MILLISECOND = 1_000_000


def check(command: str, **more: Any) -> dict[str, Any]:
    return {"test": ["CMD-SHELL", command], "interval": 20 * MILLISECOND, "timeout": 30_000 * MILLISECOND} | more


def health(workshop: Workshop, record: Any) -> dict[str, Any]:
    found = workshop.state(record).health
    assert found
    return found


def test_healthy_then_unhealthy_with_the_last_five(workshop: Workshop) -> None:
    record = workshop.sh("sleep 1000", health=check("echo looked; test -e /tmp/well", retries=2))
    (workshop.site.container(record.id) / "rootfs" / "tmp" / "well").touch()
    lifecycle.start(workshop.site, record)
    until(lambda: health(workshop, record)["Status"] == "healthy", "healthy")
    until(lambda: len(health(workshop, record)["Log"]) == 5, "five results")
    (workshop.site.container(record.id) / "rootfs" / "tmp" / "well").unlink()
    found = until(lambda: (h := health(workshop, record))["Status"] == "unhealthy" and h, "unhealthy")
    assert found["FailingStreak"] >= 2
    assert len(found["Log"]) == 5
    last = found["Log"][-1]
    assert set(last) == {"Start", "End", "ExitCode", "Output"}
    assert (last["ExitCode"], last["Output"]) == (1, "looked\n")
    assert last["Start"] < last["End"]


def test_failures_do_not_count_while_it_starts(workshop: Workshop) -> None:
    record = workshop.sh(
        "sleep 1000", health=check("exit 1", retries=1, start_period=1000_000 * MILLISECOND, start_interval=MILLISECOND)
    )
    lifecycle.start(workshop.site, record)
    found = until(lambda: len((h := health(workshop, record))["Log"]) == 5 and h, "five results")
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)


def test_one_that_takes_too_long_is_killed(workshop: Workshop) -> None:
    record = workshop.sh("sleep 1000", health=check("echo begun; exec sleep 1000", timeout=200 * MILLISECOND))
    lifecycle.start(workshop.site, record)
    found = until(lambda: (h := health(workshop, record))["Log"] and h, "a result")
    assert (found["Log"][0]["ExitCode"], found["Log"][0]["Output"]) == (-1, "Health check exceeded timeout (0.2s)")


def test_much_output_is_cut(workshop: Workshop) -> None:
    record = workshop.sh("sleep 1000", health=check("head -c 1000000 /dev/zero | tr '\\0' x"))
    (workshop.site.container(record.id) / "rootfs" / "bin" / "tr").symlink_to("busybox")
    lifecycle.start(workshop.site, record)
    found = until(lambda: (h := health(workshop, record))["Log"] and h, "a result")
    assert found["Log"][0]["Output"] == "x" * 4096 + "..."


def test_a_command_that_is_not_there(workshop: Workshop) -> None:
    record = workshop.sh("sleep 1000", health=check("") | {"test": ["CMD", "/nothing"]})
    lifecycle.start(workshop.site, record)
    found = until(lambda: (h := health(workshop, record))["Log"] and h, "a result")
    assert found["Log"][0]["ExitCode"] == -1
    assert "nothing" in found["Log"][0]["Output"]


def test_a_container_that_ends_meanwhile(workshop: Workshop) -> None:
    record = workshop.sh("sleep 0.3; exit 6", health=check("exec sleep 1000"))
    lifecycle.start(workshop.site, record)
    assert lifecycle.wait(workshop.site, record) == 6
