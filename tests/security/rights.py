"""What the tests of capabilities share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support import Bundle, Done, Runtime

SOME = ("CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_RAW")
CAP_CHOWN = 1 << 0
NOTHING = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapAmb"), 0)
SHOW = ("/bin/busybox", "grep", "^Cap", "/proc/self/status")


def begin(runtime: Runtime, bundle: Bundle) -> Iterator[Runtime]:
    """The container c, which sleeps until the test is over."""
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.write()
    done = runtime("run", "--detach", "-b", bundle.path, "c")
    assert done.code == 0, done.err
    yield runtime
    runtime("delete", "--force", "c")


def capabilities(done: Done) -> dict[str, int]:
    """The sets that /proc/PID/status shows."""
    assert done.code == 0, done.err
    found = {line.split(":")[0]: int(line.split()[1], 16) for line in done.out.splitlines()}
    assert set(found) == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
    return found
