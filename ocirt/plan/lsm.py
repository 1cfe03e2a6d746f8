"""AppArmor's profile and SELinux' label of the program: attributes of init's own, which count from the next execve on.

They are written through init's own procfs: in the container's, a mount or an image could catch them, and the program
would run unconfined (CVE-2019-16884).
"""

from __future__ import annotations

from ocirt.errors import ConfigError
from ocirt.plan.kernel import (
    ENOENT,
    O_CLOEXEC,
    O_WRONLY,
    OPEN_HOW,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
)
from ocirt.plan.step import Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.plan.scope import Scope
    from ocirt.plan.step import Reg

_FILE = OPEN_HOW.pack(O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)


def check(scope: Scope) -> None:
    """A profile or a label that nothing would enforce is an error, except AppArmor's name for none."""
    modules = scope.facts.security_modules
    profile = scope.process.get("apparmorProfile")
    if profile and profile != "unconfined" and "apparmor" not in modules:
        raise ConfigError(
            f'AppArmor is not enabled on this host, so nothing would enforce the profile "{profile}"',
            pointer="/process/apparmorProfile",
            hint="remove it, or boot with apparmor=1 security=apparmor",
        )
    if scope.process.get("selinuxLabel") and "selinux" not in modules:
        raise ConfigError(
            "SELinux is not enabled on this host, so nothing would enforce the label",
            pointer="/process/selinuxLabel",
            hint="remove it, or boot with selinux=1 security=selinux",
        )


def confine(scope: Scope, proc: Reg) -> None:
    plan = scope.plan
    profile = scope.process.get("apparmorProfile")
    if profile and "apparmor" in scope.facts.security_modules:
        plan.at("/process/apparmorProfile", f"confine the program by the AppArmor profile {profile}")
        found = Label()
        file = plan.open(
            "attribute",
            "openat2",
            proc,
            "self/attr/apparmor/exec",
            _FILE,
            OPEN_HOW.size,
            ignore=(ENOENT,),
            ok=found,
        )
        plan.open(file, "openat2", proc, "self/attr/exec", _FILE, OPEN_HOW.size)  # before Linux 5.8
        plan.place(found)
        change = f"exec {profile}"
        plan.call("write", file, change, len(change.encode()))
        plan.close(file)
    label = scope.process.get("selinuxLabel")
    if label:
        plan.at("/process/selinuxLabel", f"give the program the SELinux label {label}")
        _write(scope, proc, "self/attr/exec", label)


def label_keyring(scope: Scope, proc: Reg, *, begin: bool) -> None:
    """Keys that are made get the program's label, until that is taken back."""
    label = scope.process.get("selinuxLabel")
    if label:
        scope.plan.at("/process/selinuxLabel", "label the session keyring" if begin else "label other keys as usual")
        _write(scope, proc, "self/attr/keycreate", label if begin else "\n")


def _write(scope: Scope, proc: Reg, path: str, text: str) -> None:
    plan = scope.plan
    file = plan.open("attribute", "openat2", proc, path, _FILE, OPEN_HOW.size)
    plan.call("write", file, text, len(text.encode()))
    plan.close(file)
