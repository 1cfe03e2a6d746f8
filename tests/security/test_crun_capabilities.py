"""No capability is inheritable that nobody asked for, and without capabilities in the configuration there are none at
all.

CVE-2022-27650 (GHSA-wr4f-w546-m398, crun's exec; the same as CVE-2022-29162 in runc): what is inheritable, a file
of the image with inheritable capabilities turns into permitted ones (capabilities(7)).
"""

from __future__ import annotations

import os
import shutil
import struct
from typing import TYPE_CHECKING

import pytest
from security.rights import CAP_CHOWN, NOTHING, SHOW, SOME, begin, capabilities
from support import OCIRT, Bundle, Runtime, command

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root


@pytest.fixture
def container(runtime: Runtime, bundle: Bundle) -> Iterator[Runtime]:
    """The container c, with some capabilities, of which none is inheritable."""
    bundle.config["process"]["capabilities"] = {key: list(SOME) for key in ("bounding", "permitted", "effective")}
    shutil.copy(bundle.rootfs / "bin/busybox", bundle.rootfs / "bin/busybox-inherits")
    # VFS_CAP_REVISION_2 with CAP_CHOWN inheritable, and effective if it comes to be permitted (linux/capability.h)
    lent = struct.pack("<IIIII", 0x02000000 | 1, 0, CAP_CHOWN, 0, 0)
    os.setxattr(bundle.rootfs / "bin/busybox-inherits", "security.capability", lent)
    yield from begin(runtime, bundle)


@pytest.mark.parametrize(
    "flags",
    [(), ("-u", "1000"), ("--cap", "CAP_SYS_PTRACE"), ("--cap", "CAP_CHOWN", "-u", "1000:1000"), ("--no-new-privs",)],
    ids=" ".join,
)
def test_cve_2022_27650_nothing_is_inheritable_in_an_exec(container: Runtime, flags: tuple[str, ...]) -> None:
    """GHSA-wr4f-w546-m398. With "inheritable" in the tuple of cli/process.py, request_of, beside "bounding", CapInh
    is 0x80000 (CAP_SYS_PTRACE) with --cap."""
    found = capabilities(container("exec", *flags, "c", *SHOW))
    assert (found["CapInh"], found["CapAmb"]) == (0, 0)


def test_cve_2022_27650_a_file_with_inheritable_capabilities_gives_none(container: Runtime) -> None:
    """As another user, who has none of their own. With the same line changed, and --cap CAP_CHOWN, the image's
    program has CAP_CHOWN, permitted and effective."""
    for flags in ((), ("--cap", "CAP_CHOWN")):
        found = capabilities(container("exec", "-u", "1000", *flags, "c", "/bin/busybox-inherits", *SHOW[1:]))
        assert {name: found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == NOTHING


def test_cve_2022_27650_nothing_is_inheritable_in_a_container(container: Runtime, bundle: Bundle) -> None:
    """With all that is permitted made inheritable in plan/credentials.py, set_capabilities, CapInh is not 0."""
    found = capabilities(container.sh(bundle, " ".join(SHOW), "d"))
    assert found["CapPrm"] and found["CapInh"] == 0


def test_cve_2022_27650_the_callers_own_inheritable_ones_do_not_stay(container: Runtime) -> None:
    """Of whoever calls ocirt. Without the capset of plan/credentials.py, set_capabilities (and `verify`), they do."""
    call = (OCIRT, "--root", container.root, "exec", "c", *SHOW)
    found = capabilities(command("setpriv", "--inh-caps=+kill,+chown", *call))
    assert (found["CapInh"], found["CapAmb"]) == (0, 0)
