"""The rules that compare a plan's mounts, masks and devices with what the configuration asks for (verify_asked)."""

from __future__ import annotations

from ocirt.plan.asked import HOLDING
from ocirt.plan.kernel import (
    AT_RECURSIVE,
    FSCONFIG_CMD_CREATE,
    MOUNT_ATTR,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_SLAVE,
    OPEN_TREE_CLONE,
    RESOLVE_NO_SYMLINKS,
    S_IFMT,
    S_IFREG,
)
from ocirt.plan.rootfs import ON_ROOT
from ocirt.plan.step import Own, Reg
from ocirt.plan.verify_walk import broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirt.plan.asked import Mount
    from ocirt.plan.step import Step
    from ocirt.plan.verify_asked import Look

_MASK = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


class Thing:
    """What a register holds: a mount that is to be, a place in the root, or an fs context.

    kind     a file system's type, "bind" for a copy of a path of the host, "" for a place
    source   of "bind": the path
    where    its place in the root; None: it has none, or not one alone
    followed   could a symlink of the image have led there?
    put, cleared, below, shares   flags and propagation, as asked.Mount has them
    """

    data: list[tuple[str, str | None]] = []  # noqa: RUF012 (of all that have none; never written to)
    put = cleared = below = shares = 0
    followed = False

    def __init__(self, kind: str, source: str, where: str | None) -> None:
        self.kind, self.source, self.where = kind, source, where

    def copy(self) -> Thing:
        copied = Thing(self.kind, self.source, None)
        copied.data, copied.put, copied.below, copied.cleared = self.data, self.put, self.below, self.cleared
        return copied


def _fsopen(look: Look, index: int, step: Step) -> None:
    if step.result is not None:
        look.things[step.result.number] = context = Thing(str(step.args[0]), "", None)
        context.data = []


def _fsconfig(look: Look, index: int, step: Step) -> None:
    context, command, key, value, _ = step.args
    thing = look.things.get(context.number) if type(context) is Reg else None
    if thing is not None and command < FSCONFIG_CMD_CREATE and type(key) is str:  # type: ignore[operator]
        thing.data.append((key, value if type(value) is str else None))


def _fsmount(look: Look, index: int, step: Step) -> None:
    context, _, flags = step.args
    thing = look.things.get(context.number) if type(context) is Reg else None
    if step.result is None or thing is None or type(flags) is not int:
        return
    made = look.things[step.result.number] = thing.copy()
    made.put = flags


def _mount(look: Look, index: int, step: Step) -> None:
    _, _, kind, _, data = step.args
    look.over_root = Thing(str(kind), "", None)
    look.over_root.data = [("mount(2)", data if type(data) is str else "")]


def _open_tree(look: Look, index: int, step: Step) -> None:
    start, path, flags = step.args
    if step.result is None:
        return
    if type(path) is Own:
        path = path.content
    number = step.result.number
    if type(start) is Reg:
        base = look.things.get(start.number)
        if base is None:
            look.things.pop(number, None)
        elif path == "":
            copied = look.things[number] = base.copy()
            if not base.kind:
                copied.kind, copied.source = "covered", base.where or ""
        else:
            look.things[number] = Thing("", "", _joined(base.where, str(path)))
        return
    if path == ON_ROOT and look.over_root is not None:
        look.things[number] = look.over_root
        return
    thing = look.things[number] = Thing("bind", str(path), None)
    if step.pointer == "/root/path" and path == look.asked.rootfs and type(flags) is int and flags & OPEN_TREE_CLONE:
        thing.where = ""
        look.root = thing


def _joined(base: str | None, path: str) -> str | None:
    if base is None:
        return None
    return base if path == "." else f"{base}/{path}" if base else path


def _openat2(look: Look, index: int, step: Step) -> None:
    start, path, how, _ = step.args
    if step.result is None or type(start) is not Reg:
        return
    base = look.things.get(start.number)
    number = step.result.number
    if base is None:
        look.things.pop(number, None)
        return
    where = _joined(base.where, str(path))
    before = look.things.get(number)
    if before is not None and not before.kind and before.where != where:
        where = None  # one of two, by the way that leads here
    thing = look.things[number] = Thing("", "", where)
    thing.followed = not (type(how) is bytes and how[16] & RESOLVE_NO_SYMLINKS)
    if before is not None and not before.kind:
        thing.followed = thing.followed or before.followed


def _mount_setattr(look: Look, index: int, step: Step) -> None:
    start, _, flags, attributes, _ = step.args
    thing = look.things.get(start.number) if type(start) is Reg else None
    if thing is None or type(attributes) is not bytes:
        return
    put, clear, propagation, _ = MOUNT_ATTR.unpack(attributes)
    thing.put = thing.put & ~clear | put
    thing.cleared |= clear
    if type(flags) is int and flags & AT_RECURSIVE:
        thing.below = thing.below & ~clear | put
    if propagation:
        thing.shares = propagation


def _move_mount(look: Look, index: int, step: Step) -> None:
    source, _, target, _, _ = step.args
    pointer = step.pointer
    thing = look.things.get(source.number) if type(source) is Reg else None
    place = look.things.get(target.number) if type(target) is Reg else None
    where = place.where if place is not None else None
    if pointer == "/root/path":
        if thing is not look.root and not (thing and _is_empty(thing)):
            raise broken("mounts-asked", index, step, "it is not the root file system")
        return
    if pointer == "/process/terminal":
        if where != "dev/console":
            raise broken("mounts-asked", index, step, "the terminal has its place")
        return
    if thing is None or where is None:
        raise broken("mounts-asked", index, step, "it is not known what is mounted, or where")
    if pointer[:15] == "/linux/devices/" or pointer == "/linux/devices":
        if thing.kind != "bind" or thing.source != "/" + where:
            raise broken("devices-asked", index, step, "it is another device's place")
        return
    hidden = look.asked.hidden.get(pointer)
    if hidden is not None:
        _hide(look, index, step, thing, where, hidden)
    elif look.hides:
        raise broken("hidden-asked", index, step, "it could cover a mask")
    elif place is not None and place.followed and thing.kind in ("proc", "sysfs"):
        raise broken("mounts-asked", index, step, "a symlink of the image could choose its place")
    thing.where = where
    look.placed.setdefault(pointer, []).append(thing)


def _is_empty(thing: Thing) -> bool:
    return thing.kind == "tmpfs" and thing.put & _MASK == _MASK


def _hide(look: Look, index: int, step: Step, thing: Thing, where: str, hidden: str) -> None:
    look.hides = True
    if where != hidden:
        raise broken("hidden-asked", index, step, "it is another path that is covered")
    if "masked" in step.pointer:
        if not _is_empty(thing) and (thing.kind, thing.source) != ("bind", "/dev/null"):
            raise broken("hidden-asked", index, step, "what covers it is neither empty nor /dev/null")
    elif not thing.put & MOUNT_ATTR_RDONLY or thing.source != hidden or thing.cleared & HOLDING:
        raise broken("hidden-asked", index, step, "what covers it is not itself, readonly")


def _mknodat(look: Look, index: int, step: Step) -> None:
    start, name, mode, device = step.args
    if type(mode) is not int or mode & S_IFMT in (0, S_IFREG):
        return
    base = look.things.get(start.number) if type(start) is Reg else None
    path = _joined(base.where, str(name)) if base is not None else None
    if (path, mode & S_IFMT, device) not in look.asked.devices:
        raise broken("devices-asked", index, step, "no such device was asked for")


def check_mounts(look: Look, index: int, last: Step) -> None:
    asked = look.asked
    for pointer in asked.hidden:
        if pointer not in look.placed:
            raise broken("hidden-asked", index, last, f"{pointer} is not covered")
    if look.root is None or (look.root.shares or MS_SLAVE) != asked.root_shares:
        raise broken("mounts-asked", index, last, "the root has to do with other mounts than it should")
    if asked.readonly_root and not look.root.put & MOUNT_ATTR_RDONLY:
        raise broken("mounts-asked", index, last, "the root is not readonly")
    for pointer, mount in (asked.mounts or {}).items():
        if mount.kind:
            why = _wrong_mount(mount, look.placed.get(pointer) or [])
            if why:
                raise broken("mounts-asked", index, last, f"{pointer}: {why}")


def _wrong_mount(mount: Mount, placed: list[Thing]) -> str:
    if not placed:  # a host may have no hierarchy for it
        return "" if mount.kind == "cgroup" and not mount.trees else "it is not mounted"
    if mount.kind == "cgroup":
        return _wrong_cgroup(mount, placed)
    for thing in placed:
        if (thing.kind, thing.source) != (mount.kind, mount.source) or thing.where != mount.where:
            return f"{thing.kind} {thing.source} is mounted on /{thing.where}"
        if mount.kind != "bind" and not _fits(mount, thing.data):
            return "it has other options"
    return _wrong_flags(mount, placed[-1])


def _wrong_flags(mount: Mount, thing: Thing) -> str:
    if (mount.put | mount.below) & ~thing.put or mount.below & ~thing.below:
        return "a flag is missing"
    return "a flag is taken off" if thing.cleared & HOLDING & ~mount.cleared else ""


def _fits(mount: Mount, data: list[tuple[str, str | None]]) -> bool:
    """Those of the configuration in its order; beside them only where it comes from, that it is readonly, its label."""
    wanted = mount.data
    keys = {key for key, _ in wanted}
    return wanted == [
        pair for pair in data if pair[0] in keys or not (pair[0] in ("source", "ro") or pair[0].endswith("context"))
    ]


def _wrong_cgroup(mount: Mount, placed: list[Thing]) -> str:
    """The hierarchies, and on a host with several a tmpfs that they are in."""
    found = set()
    for thing in placed:
        if thing.kind == "tmpfs":
            if thing.where != mount.where:
                return "the tmpfs for the hierarchies has another place"
            continue
        own = [pair for pair in thing.data if pair[0] != "source"]
        tree: object = thing.source if thing.kind == "bind" else tuple(own)
        if mount.trees.get(tree) != thing.where:
            return f"{thing.kind} is mounted on /{thing.where}"
        found.add(tree)
        if mount.put & ~thing.put:
            return "a flag is missing"
    if found != set(mount.trees):
        return "a hierarchy is missing"
    base = [thing for thing in placed if thing.kind == "tmpfs"]
    if base and (mount.put & ~base[-1].put or base[-1].data != [("source", "tmpfs"), ("mode", "755")]):
        return "the tmpfs for the hierarchies has other flags or options"
    return ""


MOUNT_NOTES: dict[str, Callable[[Look, int, Step], None]] = {
    "fsconfig": _fsconfig,
    "fsmount": _fsmount,
    "fsopen": _fsopen,
    "mknodat": _mknodat,
    "mount": _mount,
    "mount_setattr": _mount_setattr,
    "move_mount": _move_mount,
    "open_tree": _open_tree,
    "openat2": _openat2,
}
