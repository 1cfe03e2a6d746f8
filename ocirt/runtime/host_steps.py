"""What the host does for a container, in order, for `explain`. Each step stands where init waits for it.

Made from what `create` itself works with: cgroups, their settings and rules, the compiled filter, the plan's meetings.
"""

from __future__ import annotations

from ocirt.cgroups.ownership import owner
from ocirt.cgroups.rules import ANY, DEFAULTS, container_rules
from ocirt.config.hooks import CONTAINER, Listed, listed
from ocirt.host.filters import is_cached
from ocirt.plan.explain import HostStep
from ocirt.plan.tags import FD_PASSWD, FD_TERMINAL, SYNC_COPY, SYNC_HOOKS, SYNC_MAKE, SYNC_READY
from ocirt.plan.wire import OP_CHANNEL, OP_CLONE, OP_SENDFD, OP_SYNC, OP_WAIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirt.cgroups.manager import Cgroups
    from ocirt.cgroups.rules import Rule
    from ocirt.cgroups.setting import Setting
    from ocirt.plan.facts import Facts
    from ocirt.plan.step import Plan, Step


def host_steps(spec: dict[str, Any], facts: Facts, cgroups: Cgroups, plan: Plan) -> list[HostStep]:
    """All of them; of those at the same place the first comes first."""
    return _HostSteps(spec, facts, cgroups, plan).steps


class _HostSteps:
    """The steps in the making."""

    def __init__(self, spec: dict[str, Any], facts: Facts, cgroups: Cgroups, plan: Plan) -> None:
        self.spec = spec
        self.linux: dict[str, Any] = spec.get("linux") or {}
        self.facts = facts
        self.cgroups = cgroups
        self.plan = plan
        self.steps: list[HostStep] = []
        self.listed = listed(spec) if spec.get("hooks") else []
        self.clone = self._first(lambda step: step.op == OP_CLONE)
        listed_kinds = {one["type"] for one in self.linux.get("namespaces") or ()}
        self.own = listed_kinds.difference(facts.joined, facts.shared)
        self.maps_ids = "user" in self.own
        self.cgroups_made = not facts.attached_late or self.maps_ids or "user" in facts.joined
        self._before_init()
        self._while_it_goes_on()
        self._where_it_waits()
        self._afterwards()

    def _first(self, wanted: Callable[[Step], bool]) -> int:
        """The first such step; as many as there are, if there is none."""
        return next((index for index, step in enumerate(self.plan.steps) if wanted(step)), len(self.plan.steps))

    def _after(self, index: int) -> int:
        """The first step after this one that is about something else."""
        steps = self.plan.steps
        here = steps[index].pointer, steps[index].doing
        while index < len(steps) and (steps[index].pointer, steps[index].doing) == here:
            index += 1
        return index

    def _add(
        self, before: int, pointer: str, doing: str, actions: Sequence[str] = (), *, operation: str = "create"
    ) -> None:
        self.steps.append(HostStep(operation, before, pointer, doing, actions))

    def _before_init(self) -> None:
        if self.facts.seccomp:
            self._filter()
        self._add(0, "", "note what is about to be made, so that delete --force can undo it at any instant")
        if self.cgroups_made:
            self._make_cgroups(0)
        uid = owner(self.spec, self.own, self.facts.joined) if self.facts.pure_v2 else 0
        if uid and self.cgroups.places:
            doing = f"give the cgroup to the user {uid}, but not its limits"
            self._add(0, "/linux/cgroupsPath", doing, [f"chown {uid} {self.cgroups.unified()}"])

    def _filter(self) -> None:
        assert self.facts.seccomp
        seccomp = self.linux["seccomp"]
        rules = seccomp.get("syscalls") or ()
        names = sum(len(rule["names"]) for rule in rules)
        count = len(self.facts.seccomp.program) // 8
        self._add(
            0,
            "/linux/seccomp",
            "take the filter from the cache" if is_cached(self.spec, self.facts.machine) else "compile the profile",
            [f"{seccomp['defaultAction']} but for {names} names in {len(rules)} rules: {count} instructions"],
        )

    def _manager(self, before: int, when: str, operation: str = "create") -> None:
        for pointer, doing, details in self.cgroups.steps(when):
            self._add(before, pointer, doing, details, operation=operation)

    def _make_cgroups(self, before: int) -> None:
        if self.cgroups.made:
            self._add(
                before, "/linux/cgroupsPath", "make the cgroups", [f"mkdir {folder}" for folder in self.cgroups.made]
            )
        if self.cgroups.resources:
            self._settings(before, self.cgroups.resources.early)

    def _settings(self, before: int, settings: Sequence[Setting]) -> None:
        for one in settings:
            value = one.value.replace("\n", "; ")
            self._add(before, one.pointer, "set a limit", [f"{one.folder}/{one.file} ← {value}"])

    def _while_it_goes_on(self) -> None:
        """As soon as there is a pid."""
        at = self.clone + 1
        if self.maps_ids:
            from ocirt.host.idmap import steps

            for name, action in steps(self.linux, unprivileged=self.facts.unprivileged):
                self._add(at, f"/linux/{name}", "map the ids of the user namespace", [action])
        limits = self.spec["process"].get("rlimits")
        if limits and (self.maps_ids or "user" in self.facts.joined):
            from ocirt.host.limits import raised

            for index, _, hard in raised(limits):
                action = f"prlimit PID {limits[index]['type']} ← {hard if hard >= 0 else 'unlimited'}"
                self._add(at, f"/process/rlimits/{index}", "raise a limit, as the container's root may not", [action])
        score = self.spec["process"].get("oomScoreAdj")
        if score is not None:
            self._add(at, "/process/oomScoreAdj", "set the OOM score", [f"/proc/PID/oom_score_adj ← {score}"])
        if self.facts.attached_late:
            if not self.cgroups_made:
                self._make_cgroups(at)
            self._manager(at, "attach")
            joined = [f"{path}/cgroup.procs ← PID" for _, _, _, _, path in self.cgroups.places]
            doing = "put init into the cgroups, while it goes on" if joined else "leave init in our own cgroups"
            self._add(at, "/linux/cgroupsPath", doing, joined)
        self._rare(at)

    def _rare(self, at: int) -> None:
        rdt = self.linux.get("intelRdt")
        if rdt:
            name = rdt.get("closID") or self.facts.container_id
            lines = [rdt.get("l3CacheSchema"), rdt.get("memBwSchema"), *(rdt.get("schemata") or ())]
            actions = [f"{name}/schemata ← {line}" for line in lines if line] + [f"{name}/tasks ← PID"]
            if rdt.get("enableMonitoring"):
                actions.append(f"{name}/mon_groups/{self.facts.container_id}/tasks ← PID")
            self._add(at, "/linux/intelRdt", "put init into the class of service", actions)
        for name, device in (self.linux.get("netDevices") or {}).items():
            pointer = "/linux/netDevices/" + name.replace("~", "~0").replace("/", "~1")
            inside = (device or {}).get("name") or name
            self._add(at, pointer, "move the network device inside, with its addresses", [f"{name} → {inside}, up"])

    def _where_it_waits(self) -> None:
        for index, step in enumerate(self.plan.steps):
            tag = step.args[-1] if step.op in (OP_SYNC, OP_SENDFD) else None
            if step.op == OP_SYNC and isinstance(tag, int) and tag >= SYNC_MAKE:
                doing = "make what the symlink at the destination points to"
                self._add(index, f"/mounts/{tag - SYNC_MAKE}", doing)
            elif step.op == OP_SYNC and isinstance(tag, int) and tag >= SYNC_COPY:
                doing = "copy what the mount is going to hide into it"
                self._add(index + 1, f"/mounts/{tag - SYNC_COPY}", doing)
            elif step.op == OP_SYNC and tag == SYNC_HOOKS:
                self._hooks(index, "create")
            elif step.op == OP_SENDFD and tag == FD_TERMINAL:
                self._add(self._after(index), "/process/terminal", "keep the terminal's master, for the console socket")
            elif step.op == OP_SENDFD and tag == FD_PASSWD:
                uid = self.spec["process"]["user"]["uid"]
                self._add(self._after(index), step.pointer, f"look for user {uid} in that file: HOME is what it says")

    def _hooks(self, before: int, operation: str, *kinds: str) -> None:
        for hook in self.listed:
            if hook.operation == operation and (not kinds or hook.kind in kinds):
                where = "in the container's namespaces" if hook.namespaces == CONTAINER else ""
                doing = f"run the {hook.kind} hook {where}".rstrip()
                self._add(before, hook.pointer, doing, [_command(hook)], operation=operation)

    def _afterwards(self) -> None:
        ready = self._first(lambda step: step.op == OP_SYNC and step.args[0] == SYNC_READY)
        passwd = self._first(lambda step: step.op == OP_SENDFD and step.args[-1] == FD_PASSWD)
        late = self._after(passwd) if passwd < len(self.plan.steps) else ready + 1  # creation.py: _set_limits
        self._manager(late, "limits")
        if self.cgroups.resources:
            self._settings(late, [*self.cgroups.resources.late, *self.cgroups.resources.unified])
        rules = [rule_text(rule) for rule in own_rules(self.linux)]
        if self.cgroups.places:
            self._add(
                late,
                "/linux/resources/devices",
                "put the device rules in force: init has made its nodes",
                ["deny a *:* rwm", *rules, "allow the default devices"],
            )
        self._add(ready + 1, "", "write the pid file, send the terminal: create is done")
        waits = self._first(lambda step: step.op == OP_CHANNEL)
        self._hooks(self._after(waits), "start", "prestart", "startContainer")
        self._add(self._after(waits), "", "let init go on", operation="start")
        if self.facts.seccomp and self.facts.seccomp.listens:
            path = self.linux["seccomp"]["listenerPath"]
            fetched = self._first(lambda step: step.op == OP_WAIT)
            self._add(
                fetched, "/linux/seccomp/listenerPath", "send the listener to the agent", [path], operation="start"
            )
        self._hooks(len(self.plan.steps), "start", "poststart")
        folders = [f"rmdir {folder}" for folder in reversed(self.cgroups.made)]
        end = len(self.plan.steps)
        self._manager(end, "delete", "delete")
        if self.cgroups.places:
            self._add(end, "/linux/cgroupsPath", "end what is left, remove the cgroups", folders, operation="delete")
        self._hooks(end, "delete")


def _command(hook: Listed) -> str:
    """What is executed, and for how long at most."""
    args = hook.hook.get("args") or [hook.hook["path"]]
    timeout = hook.hook.get("timeout")
    words = " ".join([hook.hook["path"], *args[1:]])
    return f"{words} (at most {timeout} s)" if timeout else words


def own_rules(linux: dict[str, Any]) -> list[Rule]:
    """The configuration's device rules, after the initial deny-all and before the defaults."""
    rules = container_rules((linux.get("resources") or {}).get("devices") or ())
    return [rule for rule in rules[: len(rules) - len(DEFAULTS)] if rule.allow or not rule.everything]


def rule_text(rule: Rule) -> str:
    """As the kernel's devices.allow has it."""
    major, minor = ("*" if number == ANY else str(number) for number in (rule.major, rule.minor))
    return f"{'allow' if rule.allow else 'deny'} {rule.type} {major}:{minor} {rule.access}"
