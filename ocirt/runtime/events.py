"""events: what the kernel counts for a container, once or again and again, and that it killed for want of memory."""

from __future__ import annotations

import posix
from time import monotonic

from ocirt.cgroups.stats import cgroup_stats
from ocirt.errors import ContainerError, UsageError, from_os_error
from ocirt.state.process import is_alive, start_time
from ocirt.state.status import CREATING, STOPPED, status_of
from ocirt.state.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 2**63 * 1e-9
_LONGEST_POLL = 2**31 - 1


def seconds(text: str) -> float:
    """A duration as Go writes it: "500ms", "1m30s", "1.5h". Raises UsageError; also for 0 and less."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    total = 0.0
    known = bool(rest)
    if rest == "0":
        rest = ""
    while rest and known:
        number, rest = _leading(rest, "0123456789.")
        unit, rest = _before(rest, "0123456789.")
        known = unit in _UNITS and number.count(".") <= 1 and number != "." and number != ""
        if known:
            total += float(number) * _UNITS[unit]
    if not known or total >= _LONGEST:
        raise UsageError(f'"{text}" is not a duration', hint="such as 500ms, 5s, 1m30s")
    if total == 0 or text[0] == "-":
        raise UsageError(f'the interval has to be greater than 0, got "{text}"')
    return total


def _leading(text: str, letters: str) -> tuple[str, str]:
    """What stands before the first that is not one of `letters`, and the rest."""
    rest = text.lstrip(letters)
    return text[: len(text) - len(rest)], rest


def _before(text: str, letters: str) -> tuple[str, str]:
    """What stands before the first of `letters`, and the rest."""
    at = next((at for at, letter in enumerate(text) if letter in letters), len(text))
    return text[:at], text[at:]


def stats(root: str, container_id: str) -> dict[str, Any]:
    """{"type": "stats", "id", "data"} as runc prints it; cgroups.stats says what is in it.

    Raises NotFoundError; ContainerError ("container not running") unless it is created, running or paused, and if its
    cgroup is gone.
    """
    return _document(_running(root, container_id))


def _running(root: str, container_id: str) -> dict[str, Any]:
    store = Store(root)
    known = store.read(container_id)
    status = status_of(known, store.folder(container_id))
    if status in (STOPPED, CREATING):
        raise _not_running(container_id, status)
    if not known["cgroups"]["places"]:
        raise ContainerError(f'container "{container_id}" has no cgroup', hint="nothing counts what it uses")
    return known


def _not_running(container_id: str, status: str) -> ContainerError:
    return ContainerError(f'container not running: "{container_id}" is {status}')


def _document(known: dict[str, Any]) -> dict[str, Any]:
    try:
        data = cgroup_stats(known["cgroups"]["places"])
        data["intel_rdt"] = {}
        if "rdt" in known:
            from ocirt.host.resctrl_stats import resctrl_stats

            data["intel_rdt"] = resctrl_stats(*known["rdt"])
        data["network_interfaces"] = _interfaces(known["pid"])
    except (FileNotFoundError, ProcessLookupError) as error:
        raise _gone(known, error) from None
    except OSError as error:
        raise from_os_error(error, f'read the statistics of "{known["id"]}"') from None
    return {"type": "stats", "id": known["id"], "data": data}


def _gone(known: dict[str, Any], error: OSError) -> ContainerError:
    """The cgroup is gone: with the container, or under it."""
    if not is_alive(known["pid"], known["pidStart"]):
        return _not_running(known["id"], STOPPED)
    return ContainerError(
        f'{error.filename} is gone, and "{known["id"]}" is still running', hint="another program has removed it"
    )


_COUNTS = ("RxBytes", "RxPackets", "RxErrors", "RxDropped", "TxBytes", "TxPackets", "TxErrors", "TxDropped")


def _interfaces(pid: int) -> list[dict[str, Any]] | None:
    """runc's NetworkInterface for each in the container's network namespace; None if that is ours, as in runc.

    proc(5), /proc/net/dev: two lines of headings; for each, 8 counts of what was received and 8 of what was sent.
    """
    content = b""
    try:
        if posix.readlink(f"/proc/{pid}/ns/net") == posix.readlink("/proc/self/ns/net"):
            return None
        fd = posix.open(f"/proc/{pid}/net/dev", posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return None  # its first thread has ended
    try:
        while chunk := posix.read(fd, 65536):
            content += chunk
    finally:
        posix.close(fd)
    found = []
    for line in content.decode("utf-8", "surrogateescape").splitlines()[2:]:
        name, _, counts = line.rpartition(":")
        values = [int(value) for value in counts.split()]
        found.append({"Name": name.strip(), **dict(zip(_COUNTS, values[:4] + values[8:12], strict=False))})
    return found


def events(root: str, container_id: str, interval: float, *, reader: int = -1) -> Iterator[dict[str, Any]]:
    """Every `interval` seconds, the first after one, what `stats` returns; and {"type": "oom", "id"} when the kernel
    has killed in the container's cgroup. Ends when the container's first process does.

    reader: the descriptor that the caller writes to; what reads from it going away is an end, too.
    Raises what `stats` raises, at the first step.
    """
    known = _running(root, container_id)
    import select

    from ocirt.cgroups.oom import watch

    pidfd, oom = -1, None
    try:
        try:
            pidfd = posix.pidfd_open(known["pid"], 0)
            oom = watch(known["cgroups"]["places"])
        except (FileNotFoundError, ProcessLookupError) as error:
            raise _gone(known, error) from None
        except OSError as error:
            raise from_os_error(error, f"open process {known['pid']}") from None
        if start_time(known["pid"]) != known["pidStart"]:
            raise _not_running(container_id, STOPPED)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if oom:
            poller.register(oom.fd, oom.events)
        if reader >= 0:
            poller.register(reader, 0)  # POLLERR of a pipe, POLLHUP of a terminal or a socket
        due = monotonic() + interval
        while True:
            ready = {fd for fd, _ in poller.poll(_milliseconds(due - monotonic()))}
            if reader in ready:
                return
            # A kill may be what ends the container: first things first.
            if oom and ready and oom.happened():
                yield {"type": "oom", "id": container_id}
            if pidfd in ready:
                return
            if monotonic() >= due or (oom and oom.gone):
                try:
                    document = _document(known)
                except ContainerError:
                    if is_alive(known["pid"], known["pidStart"]):
                        raise
                    return  # it has ended meanwhile, and its cgroup went with it
                yield document
                due = max(due + interval, monotonic())
    finally:
        for fd in (pidfd, oom.fd if oom else -1):
            if fd >= 0:
                posix.close(fd)


def _milliseconds(wait: float) -> int:
    """Rounded up: a poll that returns too early would only be another."""
    return min(max(int(wait * 1000) + 1, 0), _LONGEST_POLL)
