"""The rules that compare a plan with what the configuration asks for (Asked): nothing of it is left out or made weaker.

A pass of its own, after those of `prove`, which has shown by then that what is looked at here is not jumped over.
"""

from __future__ import annotations

from ocirt.plan.asked import HOLDING, Asked
from ocirt.plan.kernel import (
    AT_RECURSIVE,
    CAP_DATA,
    FSCONFIG_CMD_CREATE,
    KEYCTL_JOIN_SESSION_KEYRING,
    MOUNT_ATTR,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_SLAVE,
    OPEN_TREE_CLONE,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    RESOLVE_NO_SYMLINKS,
    S_IFMT,
    S_IFREG,
)
from ocirt.plan.rootfs import ON_ROOT
from ocirt.plan.step import Program, Reg
from ocirt.plan.verify_walk import broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirt.plan.asked import Mount
    from ocirt.plan.step import Plan, Step

ASKED_RULES = {
    "rights-asked": "ids, groups, capabilities, no_new_privs, limits and filter are those of the configuration",
    "session-asked": "the program has a session, a session keyring and a terminal of its own, or what it is to share",
    "mounts-asked": "each mount is the one of the configuration, at its place, with its options and flags",
    "hidden-asked": "each masked and readonly path is covered, after all that could cover it again",
    "devices-asked": "each device node is the default one of its name, or as the configuration has it",
}
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


class Look:
    """What a plan does, of what was asked."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.things: dict[int, Thing] = {}
        self.root: Thing | None = None
        self.over_root: Thing | None = None  # what mount(2) has just put over "/"
        self.placed: dict[str, list[Thing]] = {}
        self.hides = False
        self.numbers: set[int] = set()  # registers that hold no descriptor
        self.dropped = self.raised = 0
        self.rights: list[tuple[int, ...]] = []
        self.ids: dict[str, tuple[Any, ...]] = {}
        self.limits: dict[Any, Any] = {}
        self.filter: tuple[Any, Any] | None = None
        self.cloned = self.session = self.keyring = self.no_new_privs = False


def prove_asked(plan: Plan) -> None:
    """Raise PlanError for the first rule of ASKED_RULES that a plan breaks. One that runs no code of the image's, or a
    hook of the host's, has nothing to compare."""
    asked = plan.asked
    if asked is None:
        return
    look = Look(asked)
    notes = _RIGHTS if asked.mounts is None else _ALL_NOTES
    steps = plan.steps
    for index, step in enumerate(steps):
        note = notes.get(step.call)
        if note is not None:
            note(look, index, step)
    index = len(steps) - 1
    why = _wrong_rights(look)
    if why:
        raise broken("rights-asked", index, steps[index], why)
    if not look.session or (asked.keyring and not look.keyring):
        raise broken("session-asked", index, steps[index], "it would share the caller's session or its keyring")
    if asked.mounts is not None:
        _check_mounts(look, index, steps[index])


# Rights and session.


def _prctl(look: Look, index: int, step: Step) -> None:
    option, value, more = step.args[:3]
    if option == PR_CAPBSET_DROP and type(value) is int and 0 <= value < 64:
        look.dropped |= 1 << value
    elif option == PR_CAP_AMBIENT and value == PR_CAP_AMBIENT_RAISE and type(more) is int and 0 <= more < 64:
        look.raised |= 1 << more
    elif option == PR_SET_NO_NEW_PRIVS:
        look.no_new_privs = step.args[1:] == (1, 0, 0, 0)


def _set_ids(look: Look, index: int, step: Step) -> None:
    look.ids[step.call] = step.args


def _capset(look: Look, index: int, step: Step) -> None:
    words = CAP_DATA.unpack(step.args[1])  # type: ignore[arg-type]
    look.rights.append(tuple(words[i] | words[i + 3] << 32 for i in range(3)))


def _prlimit64(look: Look, index: int, step: Step) -> None:
    if step.args[0] != 0:
        raise broken("rights-asked", index, step, "another process's limit")
    look.limits[step.args[1]] = step.args[2]


def _seccomp(look: Look, index: int, step: Step) -> None:
    program = step.args[2]
    if type(program) is Program:
        look.filter = program.instructions, step.args[1]


def _clone(look: Look, index: int, step: Step) -> None:
    look.cloned = True


def _setsid(look: Look, index: int, step: Step) -> None:
    if not step.ok:
        look.session = look.cloned


def _set_name(look: Look, index: int, step: Step) -> None:
    """Its namespace is made by the clone, or joined before it."""
    if not look.cloned:
        raise broken("namespaces-entered", index, step, "the name is the host's")


def _keyctl(look: Look, index: int, step: Step) -> None:
    look.keyring = step.args[0] == KEYCTL_JOIN_SESSION_KEYRING and type(step.args[1]) is str


def _dup3(look: Look, index: int, step: Step) -> None:
    if step.args[1] in (0, 1, 2) and not look.asked.terminal:
        raise broken("session-asked", index, step, "stdin, stdout and stderr are the caller's")
    if type(step.args[1]) is Reg:
        look.things.pop(step.args[1].number, None)


def _wrong_rights(look: Look) -> str:
    asked = look.asked
    every = (2 << asked.highest) - 1
    if ~look.dropped & every & ~asked.bounding:
        return "capabilities are left in the bounding set"
    if look.ids.get("setresgid") != (asked.gid,) * 3 or look.ids.get("setresuid") != (asked.uid,) * 3:
        return "it has another user or group"
    if asked.groups is not None and look.ids.get("setgroups", (0, 0))[1] != asked.groups:
        return "it has other groups"
    if not look.rights or look.rights[-1] != asked.rights:
        return "it has other capabilities"
    if look.raised != asked.ambient:
        return "it has other ambient capabilities"
    if asked.no_new_privs and not look.no_new_privs:
        return "no_new_privs is missing"
    if look.filter != asked.filter:
        return "it has another filter, or none"
    for resource, limit in asked.limits.items():
        if look.limits.get(resource) != limit:
            return f"the limit {resource} is another"
    return ""


# Mounts and devices.


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


def _close(look: Look, index: int, step: Step) -> None:
    fd = step.args[0]
    if type(fd) is Reg:
        look.things.pop(fd.number, None)
        if fd.number in look.numbers:
            raise broken("registers-set", index, step, f"{fd!r} holds no descriptor")
    elif fd in (0, 1, 2):
        raise broken("session-asked", index, step, "stdin, stdout and stderr are the program's")


def _number(look: Look, index: int, step: Step) -> None:
    """Of calls whose result is none."""
    if step.result is not None:
        look.numbers.add(step.result.number)


def _check_mounts(look: Look, index: int, last: Step) -> None:
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
    if not placed:
        return "it is not mounted"
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


_RIGHTS: dict[str, Callable[[Look, int, Step], None]] = {
    "capset": _capset,
    "clone3": _clone,
    "close": _close,
    "dup3": _dup3,
    "keyctl": _keyctl,
    "load": _number,
    "prctl": _prctl,
    "prlimit64": _prlimit64,
    "seccomp": _seccomp,
    "setgroups": _set_ids,
    "setresgid": _set_ids,
    "setresuid": _set_ids,
    "setsid": _setsid,
    "umask": _number,
}
_ALL_NOTES = _RIGHTS | {
    "fsconfig": _fsconfig,
    "fsmount": _fsmount,
    "fsopen": _fsopen,
    "mknodat": _mknodat,
    "mount": _mount,
    "mount_setattr": _mount_setattr,
    "setdomainname": _set_name,
    "sethostname": _set_name,
    "move_mount": _move_mount,
    "open_tree": _open_tree,
    "openat2": _openat2,
}
