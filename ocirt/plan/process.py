"""The program: its limits, working directory, environment, where it is found, and the step that becomes it."""

from __future__ import annotations

from ocirt.config.names import RLIMITS
from ocirt.errors import ConfigError
from ocirt.plan.kernel import (
    AT_EACCESS,
    AT_FDCWD,
    CLOSE_RANGE_CLOEXEC,
    EACCES,
    EEXIST,
    EISDIR,
    ELOOP,
    ENOENT,
    ENOTDIR,
    EPERM,
    F_OK,
    LAST_DESCRIPTOR,
    RLIMIT,
    RLIMIT_NOFILE,
    X_OK,
)
from ocirt.plan.masks import ABSENT
from ocirt.plan.paths import open_target, parts_of
from ocirt.plan.step import Buffer, Field, Label, Slot, Vector
from ocirt.plan.tags import FD_PASSWD, SYNC_ATTACHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Reg

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATH_MAX = 4096


def environment(scope: Scope) -> list[str | Slot]:
    """The variables, of several with one name the last; HOME as a slot if it is not among them."""
    last: dict[str, str] = {}
    for entry in scope.process.get("env") or ():
        last[entry.partition("=")[0]] = entry
    entries: list[str | Slot] = list(last.values())
    if scope.facts.listened:
        entries = [entry for name, entry in last.items() if name not in ("LISTEN_FDS", "LISTEN_PID")]
        entries.append(f"LISTEN_FDS={scope.facts.listened}")
        # init is 1 in a pid namespace of its own, and the host knows what it is in another.
        scope.listen_pid = None if "pid" in scope.new else Slot("LISTEN_PID=", 10)
        entries.append(scope.listen_pid or "LISTEN_PID=1")
    if "HOME" not in last:
        scope.home = Slot("HOME=", PATH_MAX)
        entries.append(scope.home)
    return entries


def search_path(scope: Scope) -> list[str]:
    """The absolute folders of the container's PATH. Relative ones are left out: the image could fill them."""
    path = DEFAULT_PATH
    for entry in scope.process.get("env") or ():
        if entry.startswith("PATH="):
            path = entry[5:]
    return [folder for folder in path.split(":") if folder.startswith("/")]


def send_passwd(scope: Scope) -> None:
    """HOME comes from the container's /etc/passwd, which the host reads: O_PATH, so that opening it can do nothing."""
    if not scope.home:
        return
    plan = scope.plan
    plan.at("/process/env", "look up HOME in the container's /etc/passwd")
    absent = Label()
    passwd = open_target(plan, scope.root, "/etc/passwd", ignore=(ENOENT, ENOTDIR, ELOOP, EACCES), absent=absent)
    plan.send_descriptor(passwd, FD_PASSWD)
    plan.close(passwd)
    plan.place(absent)


def set_limits(scope: Scope) -> None:
    """After what opens anything of ours (RLIMIT_NOFILE may be small), before the right to raise limits is gone."""
    plan = scope.plan
    if scope.process.get("rlimits") and "user" in scope.joined and not scope.facts.attached_late:
        plan.at("/process/rlimits", "wait for the host to raise the hard limits")
        plan.sync(SYNC_ATTACHED)
    for index, limit in enumerate(scope.process.get("rlimits") or ()):
        soft, hard = limit["soft"], limit["hard"]
        plan.at(f"/process/rlimits/{index}", f"set {limit['type']} to {soft}, at most {hard}")
        if _hinders(scope, limit):
            soft, hard = max(soft, _files(scope)), max(hard, _files(scope))
        plan.call("prlimit64", 0, RLIMITS[limit["type"]], RLIMIT.pack(soft, hard), 0)


def lower_files(scope: Scope) -> None:
    """A limit on open files with which init could not have opened the FIFO of `start`. To lower one is no privilege."""
    plan = scope.plan
    for index, limit in enumerate(scope.process.get("rlimits") or ()):
        if _hinders(scope, limit):
            plan.at(f"/process/rlimits/{index}", f"lower {limit['type']} to {limit['soft']}, at most {limit['hard']}")
            plan.call("prlimit64", 0, RLIMIT_NOFILE, RLIMIT.pack(limit["soft"], limit["hard"]), 0)


def _hinders(scope: Scope, limit: dict[str, Any]) -> bool:
    return limit["type"] == "RLIMIT_NOFILE" and limit["soft"] < _files(scope) and scope.facts.wait_for_start


def _files(scope: Scope) -> int:
    """More than the numbers of the descriptors that init has while it waits, and one more."""
    return scope.plan.inherited + 8


def enter_directory(scope: Scope) -> None:
    """As root first, which also creates what is missing; where root may not (NFS), the user tries again."""
    plan = scope.plan
    cwd = "/" + "/".join(parts_of(scope.process["cwd"]))
    plan.at("/process/cwd", f"enter {cwd}")
    scope.entered = plan.load("entered", 0)
    entered, absent, refused = Label(), Label(), Label()
    plan.call("chdir", cwd, ok=entered, fail=absent)
    plan.place(absent)
    parts = parts_of(cwd)
    for depth in range(1, len(parts) + 1):
        folder = "/" + "/".join(parts[:depth])
        plan.at("/process/cwd", f"create the working directory {folder}")
        plan.call("mkdirat", AT_FDCWD, folder, 0o755, ignore=(EEXIST,))
    plan.at("/process/cwd", f"enter {cwd}")
    plan.call("chdir", cwd, ignore=(EACCES, EPERM), fail=refused)
    plan.place(entered)
    plan.load(scope.entered, 1)
    plan.place(refused)


def enter_directory_as_user(scope: Scope) -> None:
    """The second try; and wherever we are now must be below the container's root (CVE-2024-21626): getcwd(2)
    answers "(unreachable)…" if it is not."""
    plan = scope.plan
    cwd = "/" + "/".join(parts_of(scope.process["cwd"]))
    plan.at("/process/cwd", f"enter {cwd}")
    entered, again = Label(), Label()
    plan.expect(scope.entered, 1, errno=EACCES, ok=entered, fail=again)
    plan.place(again)
    plan.call("chdir", cwd)
    plan.place(entered)
    plan.at("/process/cwd", f"check that {cwd} is inside the container")
    where = Buffer(PATH_MAX)
    plan.call("getcwd", where, PATH_MAX)
    plan.expect(Field(where, 0), ord("/"), width=1, errno=ENOENT)


def find_program(scope: Scope) -> Reg:
    """The path of the program in a register, found as execvp(3) would: in the container, with the program's own rights.

    A candidate must be executable and no directory. If there is none, a second pass finds out why: a candidate
    that may not be executed is the more telling answer. Of a directory execve(2) says EACCES, and engines look for
    "permission denied" to end with 126; that it is a directory is told besides.
    """
    plan = scope.plan
    name = scope.process["args"][0]
    # Engines end with 127 for these words, and for no others.
    absent = f'exec "{name}": ' + ("no such file or directory" if "/" in name else "executable file not found in $PATH")
    plan.at("/process/args/0", absent)
    candidates = [name] if "/" in name else [f"{folder.rstrip('/')}/{name}" for folder in search_path(scope)]
    if not candidates:
        raise ConfigError(f"{plan.doing}; PATH has no absolute folder", pointer=plan.pointer)
    program = plan.register("program")
    found = Label()
    for candidate in candidates:
        another = Label()
        plan.load(program, candidate)
        plan.call("faccessat2", AT_FDCWD, candidate, X_OK, AT_EACCESS, fail=another)
        plan.call("faccessat2", AT_FDCWD, f"{candidate}/.", F_OK, 0, ok=another, fail=found)
        plan.place(another)
    for candidate in candidates:
        plan.at("/process/args/0", f'exec "{name}": permission denied for {candidate}')
        plan.call("faccessat2", AT_FDCWD, candidate, X_OK, AT_EACCESS, ignore=ABSENT)
        if "/" in name:
            following = Label()
            plan.at("/process/args/0", f'exec "{name}": permission denied')
            plan.call("faccessat2", AT_FDCWD, f"{candidate}/.", F_OK, 0, fail=following)
            plan.expect(program, 0, errno=EISDIR)
            plan.place(following)
    where = f"; folders searched: {':'.join(search_path(scope))}" if "/" not in name else " in the container"
    plan.at("/process/args/0", absent + where)
    plan.expect(program, 0, errno=ENOENT)
    plan.place(found)
    return program


def close_descriptors(scope: Scope) -> None:
    """Nothing above stderr and what is handed on survives execve: the very last descriptors were opened before this."""
    scope.plan.at("", "let no descriptor reach the program")
    scope.plan.call("close_range", scope.plan.control, LAST_DESCRIPTOR, CLOSE_RANGE_CLOEXEC)


def set_umask(scope: Scope) -> None:
    """Absent means: as the caller has it."""
    umask = scope.process["user"].get("umask")
    scope.plan.at("/process/user/umask", "set the umask")
    scope.plan.call("umask", scope.umask if umask is None else umask)


def execute(scope: Scope, program: Reg, environment: list[str | Slot]) -> None:
    plan, args = scope.plan, scope.process["args"]
    plan.at("/process/args", f'exec "{args[0]}"')
    plan.call("execve", program, Vector(args), Vector(environment))
