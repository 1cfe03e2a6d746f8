"""config.json and the host's facts → the plan: a pure function. The order of all concerns stands here, with reasons."""

from __future__ import annotations

from ocirt.config.names import NAMESPACES
from ocirt.plan import devices, masks, mounts, namespaces, process, rootfs, terminal
from ocirt.plan.asked import Asked
from ocirt.plan.inherited import CONTROL
from ocirt.plan.kernel import LAST_DESCRIPTOR, O_CLOEXEC, O_WRONLY
from ocirt.plan.procfs import hosts_proc, open_proc
from ocirt.plan.scope import Compiled, Scope, drop_rights, reset
from ocirt.plan.step import Plan
from ocirt.plan.tags import SYNC_HOOKS, SYNC_READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.config.read import Config
    from ocirt.plan.facts import Facts
    from ocirt.plan.step import Reg

KEEP_GROUPS = "run.oci.keep_original_groups"
"""crun's annotation, which podman sets for --group-add keep-groups: the caller's additional groups stay."""


def compile_plan(config: Config, facts: Facts) -> Compiled:
    """The plan of a container. Raises ConfigError for what only shows here, such as options of a mount."""
    plan = Plan(facts.machine, control=CONTROL + facts.preserved)
    plan.nested = facts.nested
    plan.keeps_groups = (config.spec.get("annotations") or {}).get(KEEP_GROUPS) == "1"
    scope = Scope(config, facts, plan)
    for kind in scope.namespaces:
        plan.namespaces |= NAMESPACES[kind]
    plan.asked = Asked(scope).add_mounts(scope)
    plan.section("beginning")
    reset(scope)
    # Modes of what is created are exact; the caller's mask is put back for the program.
    plan.at("", "clear the umask")
    scope.umask = plan.open("umask", "umask", 0)
    namespaces.hide(scope)

    if scope.enters_first:
        # The rights over the others come from this one.
        plan.unprivileged = True
        namespaces.join_user(scope)
    namespaces.join(scope)
    proc: Reg | None = None
    if scope.linux.get("timeOffsets"):
        namespaces.set_clocks(scope)
    if scope.takes_first and not scope.enters_first:
        plan.section("taken")
        proc = _take_procfs(scope)
        _take(scope)
        namespaces.join_user(scope)
    plan.section("namespaces")
    namespaces.enter(scope)
    if scope.enters_first:
        plan.section("taken")
        rootfs.isolate(scope)
        proc = _enter_procfs(scope)
        _take(scope)
    if scope.process.get("apparmorProfile") or scope.process.get("selinuxLabel"):
        from ocirt.plan import lsm

        lsm.check(scope)
    if not proc and not scope.enters_first:
        if scope.takes_first:
            plan.call("close", scope.inherited["plan"])
        proc = _own_procfs(scope) if facts.wait_for_start or scope.is_labelled else None
    if scope.is_labelled and proc:
        lsm.label_keyring(scope, proc, begin=True)
        namespaces.enter_session(scope)
        lsm.label_keyring(scope, proc, begin=False)
    else:
        namespaces.enter_session(scope)
    namespaces.bring_up_loopback(scope)
    namespaces.set_names(scope)
    # In the namespaces that they belong to, and while the old root is there: in a user namespace a procfs can only be
    # mounted where another one is seen.
    if scope.linux.get("sysctl"):
        from ocirt.plan import sysctl

        sysctl.set_all(scope, mapped=False)

    plan.section("root")
    # Everything that is taken from the host is taken before the pivot: a copy of a mount can only be made of the
    # mount namespace that init is in, and the old root is in it until then.
    if (scope.linux.get("rootfsPropagation") or "").endswith("shared"):
        mounts.take_shared(scope)
    if not scope.enters_first:
        rootfs.isolate(scope)
    if facts.nested and not scope.takes_first:
        mounts.take_hosts(scope)
        devices.take_all(scope)
    masks.open_null(scope)
    rootfs.attach(scope)
    # Only now, because the path to the root file system may be open to the host's root alone.
    if scope.takes_first:
        namespaces.become_root(scope)
        if scope.linux.get("sysctl"):
            sysctl.set_all(scope, mapped=True)
            if scope.parameters:
                plan.close(scope.parameters)
    mounts.mount_all(scope)
    plan.section("devices")
    # After the mounts, which may bring /dev; before it may become readonly.
    devices.make_devices(scope)
    terminal.open_terminal(scope)
    _meet_hooks(scope)
    plan.section("hidden")
    mounts.finish_readonly(scope)
    # Readonly before masked, as runc and crun do: a mask below a readonly path then lies on top of it.
    masks.make_readonly(scope)
    masks.mask(scope)
    scope.meet_cgroups()
    plan.section("pivot")
    rootfs.pivot(scope)
    rootfs.propagate(scope)
    process.enter_directory(scope)
    rootfs.make_readonly(scope)
    # After the root turned readonly, which the host's reading would delay if it changed the file's access time.
    environment = process.environment(scope)
    process.send_passwd(scope)
    terminal.become_controlling(scope)
    # Of what is init's alone; before no_new_privs, under which SELinux allows fewer transitions.
    if scope.is_labelled and proc:
        lsm.confine(scope, proc)
    _close_all(scope)

    plan.section("rights")
    drop_rights(scope)
    plan.section("program")
    # With the program's own rights, and at create, so that `create` already says what is wrong.
    program = process.find_program(scope)

    plan.at("", "tell the host that all is ready")
    plan.sync(SYNC_READY)
    if proc and facts.wait_for_start:
        _wait_for_start(scope, proc)
    process.lower_files(scope)
    process.set_umask(scope)
    process.close_descriptors(scope)
    # Last, because the profile may forbid any call but the start of the program itself.
    if facts.seccomp:
        from ocirt.plan import seccomp

        seccomp.load(scope)
    process.execute(scope, program, environment)
    return Compiled(plan, scope.home, scope.listen_pid, scope.warnings)


def _take(scope: Scope) -> None:
    rootfs.take(scope)
    mounts.take_all(scope)
    devices.take_all(scope)


def _enter_procfs(scope: Scope) -> Reg | None:
    """As an ordinary user: a procfs of the new pid namespace. Of another one none can be mounted, and the caller's own
    is used, through which init has no more rights than the caller."""
    plan = scope.plan
    wanted = scope.facts.wait_for_start or scope.is_labelled
    if "pid" in scope.new:
        return open_proc(plan) if wanted else None
    if not wanted and not scope.linux.get("sysctl"):
        return None
    proc = hosts_proc(plan)
    if scope.linux.get("sysctl"):
        scope.parameters = hosts_proc(plan)
    return proc


def _own_procfs(scope: Scope) -> Reg:
    """A user namespace's root has no right to one of the pid namespace that it shares with the host (--pid=host)."""
    if "pid" in scope.facts.foreign and "pid" not in scope.namespaces:
        return hosts_proc(scope.plan)
    return open_proc(scope.plan)


def _take_procfs(scope: Scope) -> Reg | None:
    """A user namespace can mount the procfs of a pid namespace that it owns, and no other: that is mounted before.

    The private procfs, or else something in its place, gets the plan's number: what is opened next has to lie above it.
    """
    plan = scope.plan
    proc = None
    if "pid" in scope.new or not (scope.facts.wait_for_start or scope.is_labelled):
        plan.at("", "keep the plan's number free")
        plan.call("dup3", plan.control, scope.inherited["plan"], O_CLOEXEC)
    else:
        proc = open_proc(plan)
    if scope.linux.get("sysctl") and "pid" not in scope.new:
        plan.at("/linux/sysctl", "make a private procfs with all kernel parameters")
        scope.parameters = open_proc(plan, whole=True)
    return proc


def _meet_hooks(scope: Scope) -> None:
    """Where runc has them: after the mounts and in the cgroups, before anything turns readonly or is masked, so that
    a hook can still change the root file system; the old root is there, with the hooks in it."""
    hooks = scope.spec.get("hooks") or {}
    if not any(hooks.get(kind) for kind in ("prestart", "createRuntime", "createContainer")):
        return
    scope.meet_cgroups()
    scope.plan.at("/hooks", "wait for the host to run the hooks")
    scope.plan.sync(SYNC_HOOKS)


def _close_all(scope: Scope) -> None:
    """All that the plan opened, but the private procfs: nothing of the host is held while waiting for `start`."""
    plan, number = scope.plan, scope.inherited["plan"]
    plan.at("", "close what is not needed any more")
    plan.call("close_range", number + 1 if scope.facts.wait_for_start else number, LAST_DESCRIPTOR, 0)
    if "cgroup" in scope.inherited:
        plan.call("close", scope.inherited["cgroup"])


def _wait_for_start(scope: Scope, proc: Reg) -> None:
    """Opening the FIFO for writing blocks until `start` reads it: through our procfs, because an O_PATH descriptor
    has to be opened anew. From then on `start` is told of failures; its end-of-file is the successful execve."""
    plan = scope.plan
    plan.at("", "wait for start")
    plan.call("close", plan.control)
    fifo = plan.open("fifo", "openat", proc, f"self/fd/{scope.inherited['fifo']}", O_WRONLY | O_CLOEXEC)
    plan.channel(fifo)
    plan.close(proc)
