"""Reading the statistics files of one cgroup, by a descriptor of its folder: each once, and its path is not walked."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ENOENT, ENODEV, EOPNOTSUPP = 2, 19, 95  # of errno, whose import takes longer than reading ten files
UNLIMITED = 2**64 - 1
"""What runc makes of a limit "max"."""
_PAGE = 4096
_WHOLE = 2048
"""A shorter answer is all: a seq_file in the kernel fills a page before it lets a reader ask again."""


class Folder:
    """One cgroup, open. A file that is not there is None, or a value's default: kernels differ in what they have.

    Raises FileNotFoundError with the cgroup's path as filename if the cgroup is gone.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        posix.close(self.fd)

    def read(self, name: str) -> bytes | None:
        """A file's content."""
        try:
            fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed(error, name) from None
        try:
            content = chunk = posix.read(fd, _PAGE)
            while len(chunk) >= _WHOLE:
                chunk = posix.read(fd, _PAGE)
                content += chunk
        except OSError as error:
            if error.errno == EOPNOTSUPP:  # pressure, where it is turned off
                return None
            raise self._failed(error, name) from None
        finally:
            posix.close(fd)
        return content

    def needed(self, name: str) -> bytes:
        """A file that every kernel has: without it the cgroup is gone."""
        content = self.read(name)
        if content is None:
            raise self.gone()
        return content

    def gone(self) -> FileNotFoundError:
        return FileNotFoundError(ENOENT, "No such file or directory", self.path)

    def _failed(self, error: OSError, name: str) -> OSError:
        if error.errno == ENODEV:  # removed while we read
            return self.gone()
        return OSError(error.errno, error.strerror, f"{self.path}/{name}")

    def number(self, name: str, default: int = 0) -> int:
        """ "max" is UNLIMITED. Below 0, as kernels have had it for a moment, is 0, as in runc."""
        content = self.read(name)
        return default if content is None else number(content)

    def pairs(self, name: str) -> dict[str, int]:
        """Lines of "key value"; empty if there is no such file."""
        content = self.read(name)
        return {} if content is None else pairs(content)

    def page_sizes(self, file: str) -> list[tuple[str, str]]:
        """Of hugetlb: (prefix of a page size's files, page size), such as ("hugetlb.2MB.rsvd", "2MB"): reservations
        where the kernel counts them, as in runc. file: the last part of one that every size has."""
        fd = posix.open(".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC, dir_fd=self.fd)
        try:
            names = [name.split(".") for name in posix.listdir(fd)]
        finally:
            posix.close(fd)
        return [
            (f"hugetlb.{size}.rsvd" if ["hugetlb", size, "rsvd", file] in names else f"hugetlb.{size}", size)
            for size in sorted(name[1] for name in names if len(name) == 3 and name[::2] == ["hugetlb", file])
        ]

    def pressure(self, name: str) -> dict[str, dict[str, Any]] | None:
        """Pressure stall information (accounting/psi.rst): "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"."""
        content = self.read(name)
        if not content:
            return None
        found: dict[str, dict[str, Any]] = {}
        for line in content.decode().splitlines():
            kind, *fields = line.split(" ")
            values = found[kind] = {}
            for field in fields:
                key, _, value = field.partition("=")
                values[key] = int(value) if key == "total" else float(value)
        return found


def number(content: bytes) -> int:
    return UNLIMITED if content[:3] == b"max" else max(int(content), 0)


def pairs(content: bytes) -> dict[str, int]:
    found = {}
    for line in content.decode().splitlines():
        key, _, value = line.partition(" ")
        found[key] = max(int(value), 0)
    return found


def keyed(content: bytes | None) -> dict[str, dict[str, str]]:
    """Lines of "name key=value key=value", such as "8:0 rbytes=1 wbytes=2"; a line without values is left out."""
    found = {}
    for line in (content or b"").decode().splitlines():
        name, *fields = line.split()
        values = dict(field.split("=", 1) for field in fields if "=" in field)
        if values:
            found[name] = values
    return found


def ranges(content: bytes) -> list[int]:
    """ "0-2,4\n" → [0, 1, 2, 4]."""
    found: list[int] = []
    for part in content.decode().strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found += range(int(first), int(last or first) + 1)
    return found
