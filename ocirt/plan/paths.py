"""The one module that reaches into the root file system: by openat2(2) with RESOLVE_IN_ROOT, never by a raw path.

Whatever symlinks an image holds, they are resolved below the container's root, by the kernel, in one call; what is
found is used through its descriptor, so there is no second walk that could end elsewhere (CVE-2021-30465 and kin).
"""

from __future__ import annotations

from ocirt.plan.kernel import (
    EEXIST,
    ENOENT,
    O_CLOEXEC,
    O_PATH,
    OPEN_HOW,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    S_IFREG,
)
from ocirt.plan.step import Label
from ocirt.plan.tags import FD_ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.step import Plan, Reg

IN_ROOT = OPEN_HOW.pack(O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
IN_ROOT_NO_SYMLINKS = OPEN_HOW.pack(
    O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
)
HOW_SIZE = OPEN_HOW.size


def parts_of(path: str) -> list[str]:
    """The components of a path, "." and ".." resolved in the text, as below "/"."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def open_target(
    plan: Plan, root: Reg, path: str, *, how: bytes = IN_ROOT, absent: Label | None = None, ignore: tuple[int, ...] = ()
) -> Reg:
    """An O_PATH descriptor of `path` in the root; goes on at `absent` after one of the errnos in `ignore`."""
    relative = "/".join(parts_of(path)) or "."
    return plan.open("target", "openat2", root, relative, how, HOW_SIZE, ignore=ignore, fail=absent)


def make_target(plan: Plan, root: Reg, path: str, *, directory: bool, how: bytes = IN_ROOT, ask: int = 0) -> Reg:
    """The same, but what is missing is created: directories (0755), and an empty file last unless `directory`.

    Each new component is made in a parent that was opened in the root, and then opened in the root itself. What is in
    its place, and yet not there, is a symlink to nothing: with the tag `ask` the host makes what it points to.
    """
    parts = parts_of(path)
    exists, dangling = Label(), Label() if ask else None
    again = (ENOENT,) if ask else ()
    target = plan.open("target", "openat2", root, "/".join(parts), how, HOW_SIZE, ignore=(ENOENT,), ok=exists)
    parent = root
    for depth, name in enumerate(parts, 1):
        last = depth == len(parts)
        if last and not directory:
            plan.call("mknodat", parent, name, S_IFREG | 0o644, 0, ignore=(EEXIST,))
        else:
            plan.call("mkdirat", parent, name, 0o755, ignore=(EEXIST,))
        if parent is not root:
            plan.close(parent)
        parent = plan.open(
            target if last else "parent",
            "openat2",
            root,
            "/".join(parts[:depth]),
            how,
            HOW_SIZE,
            ignore=again,
            ok=exists if last and ask else None,
            fail=dangling,
        )
    if dangling:
        plan.place(dangling)
        plan.send_descriptor(root, FD_ROOT)
        plan.sync(ask)
        plan.open(target, "openat2", root, "/".join(parts), how, HOW_SIZE)
    plan.place(exists)
    return target
