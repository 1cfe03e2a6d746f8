"""explain: what `create` would do with a bundle on this host, without doing any of it."""

from __future__ import annotations

import posix

from ocirt.cgroups.layout import detect
from ocirt.cgroups.manager import Cgroups
from ocirt.config.load import load
from ocirt.config.read import placed
from ocirt.errors import ConfigError, ContainerError, Error, UsageError, printable
from ocirt.host.facts import CAP_SYS_ADMIN, gather, permitted_capabilities
from ocirt.plan.compile import compile_plan
from ocirt.plan.encode import encode
from ocirt.plan.explain import Style, documents, plan_lines, sections
from ocirt.plan.verify import verify
from ocirt.runtime.host_steps import host_steps, own_rules, rule_text
from ocirt.state.store import check_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirt.cgroups.setting import Setting
    from ocirt.config.read import Config
    from ocirt.plan.facts import Facts
    from ocirt.plan.scope import Compiled


class Prepared:
    """A bundle's plan for this host, and what the host would do beside it.

    size     bytes of the encoded plan
    """

    __slots__ = ("cgroups", "compiled", "config", "facts", "size")

    def __init__(self, config: Config, facts: Facts, cgroups: Cgroups, compiled: Compiled, size: int) -> None:
        self.config = config
        self.facts = facts
        self.cgroups = cgroups
        self.compiled = compiled
        self.size = size


def prepare(config: Config, manager: str = "cgroupfs") -> Prepared:
    """Compile, verify and encode, as `create` does before anything exists. Errors have no place yet.

    manager: who would make the cgroups; systemd is asked where.
    """
    container_id = id_for(config.bundle)
    layout = detect()
    permitted = permitted_capabilities()
    if not permitted & CAP_SYS_ADMIN:
        from ocirt.host.rootless import give_user_namespace

        give_user_namespace(config)
    linux = config.spec.get("linux") or {}
    cgroups = Cgroups.chosen(manager, layout, config.spec, container_id)
    warnings = cgroups.limit(linux.get("resources") or {})
    descriptors: dict[str, int] = {}
    try:
        facts = gather(
            config,
            container_id,
            layout,
            cgroups,
            permitted=permitted,
            wait_for_start=True,
            descriptors=descriptors,
            cached=False,
        )
    finally:
        for fd in descriptors.values():
            posix.close(fd)
    compiled = compile_plan(config, facts)
    _look_at_rare(linux, container_id, facts)
    compiled.warnings[:0] = warnings
    verify(compiled.plan)
    try:
        cgroups.plan()
    except ContainerError as error:  # this very container may be running: the plan is worth reading all the same
        compiled.warnings.append(str(error))
    return Prepared(config, facts, cgroups, compiled, len(encode(compiled.plan).content))


def _look_at_rare(linux: dict[str, Any], container_id: str, facts: Facts) -> None:
    """Raise what `create` would for network devices and classes of service."""
    if linux.get("intelRdt"):
        from ocirt.host.resctrl import Resctrl, mount_point

        Resctrl(linux["intelRdt"], container_id, mount_point())
    if linux.get("netDevices"):
        from ocirt.host.netdevices import NetDevices

        NetDevices(linux["netDevices"], facts.shared).close()


def id_for(bundle: str) -> str:
    """The id that `ocirt run BUNDLE/` gives the container: the folder's name, if it can be one."""
    name = bundle.rpartition("/")[2]
    try:
        check_id(name)
    except UsageError:
        return "container"
    return name


class Explanation:
    """What `explain` found, as text or as a document."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.plan = prepared.compiled.plan
        self.host = host_steps(prepared.config.spec, prepared.facts, prepared.cgroups, self.plan)
        self.warnings = prepared.config.warnings + prepared.compiled.warnings

    def document(self) -> dict[str, Any]:
        """The object of --json."""
        prepared = self.prepared
        made = prepared.cgroups.made
        return {
            "bundle": prepared.config.bundle,
            "rootfs": prepared.facts.rootfs,
            "machine": prepared.facts.machine,
            "bytes": prepared.size,
            "sections": sections(self.plan),
            "steps": documents(self.plan),
            "host": [step.document() for step in self.host],
            "warnings": self.warnings,
            "cgroups": [
                {
                    "hierarchy": name or "unified",
                    "path": path,
                    "create": [folder for folder in made if (path + "/").startswith(folder + "/")],
                }
                for name, _, _, _, path in prepared.cgroups.places
            ],
            "limits": [
                {"pointer": setting.pointer, "file": f"{setting.folder}/{setting.file}", "value": setting.value}
                for setting in self._settings()
            ],
            "devices": [rule_text(rule) for rule in own_rules(prepared.config.spec.get("linux") or {})],
        }

    def lines(self, *, everything: bool, colour: bool) -> list[str]:
        """The text: a header, the plan with what the host does in between, warnings."""
        prepared, style = self.prepared, Style(colour=colour)
        count = len(self.plan.steps)
        shown = [
            f"{style.bold}bundle{style.end}  {printable(prepared.config.bundle)}",
            f"{style.bold}rootfs{style.end}  {printable(prepared.facts.rootfs)}",
            f"{style.bold}plan{style.end}    {count} steps, {prepared.size} bytes, for {prepared.facts.machine}",
            *plan_lines(self.plan, everything=everything, colour=colour, host=self.host),
        ]
        if self.warnings:
            shown.append("")
            shown += [f"{style.warn}warning{style.end}: {printable(warning)}" for warning in self.warnings]
        return shown

    def _settings(self) -> list[Setting]:
        resources = self.prepared.cgroups.resources
        return [*resources.early, *resources.late, *resources.unified] if resources else []


def explain(bundle: str, manager: str = "cgroupfs") -> Explanation:
    """Raises Error, as `create` would. Makes nothing, and needs no state directory. manager: as `create` has it."""
    from ocirt.runtime.check import counted  # which needs `prepare`

    try:
        config = load(bundle)
    except ConfigError as error:
        raise counted(error, bundle) from None
    try:
        return Explanation(prepare(config, manager))
    except Error as error:
        if error.pointer is None:
            raise
        raise counted(placed(error, config.path, config.text), bundle) from None
