"""CVE-2021-43784: a length that was cut to 16 bits on its way to init, so that what was a string became more commands.

ocirt's plan has 32-bit offsets and no lengths but of slots (init/wire.h), and its own bounds; what the kernel or the
specification bounds is refused first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import Bundle, Runtime

pytestmark = pytest.mark.root
SIZES = (65_536, 65_536 + 9)
"""Of which 16 bits leave 0 and 9."""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", ["an argument", "a variable"])
def test_cve_2021_43784_long_strings_arrive_whole(runtime: Runtime, bundle: Bundle, size: int, where: str) -> None:
    """The kernel takes 128 KiB of each (execve(2)). What follows them in the plan is still what it was."""
    text = "X=a" + "b" * (size - 4) + "c"
    process = bundle.config["process"]
    process["env"] = ["PATH=/bin", *([text] if where == "a variable" else []), "AFTER=1"]
    script = "test $AFTER = 1 && " + ('printf %s "X=$X"' if where == "a variable" else 'printf %s "$1"')
    process["args"] = ["/bin/sh", "-c", script, "sh", *([text] if where == "an argument" else [])]
    done = runtime("run", "-b", bundle.write().path, "c")
    assert (done.code, done.err) == (0, "")
    assert done.out == text


def place(config: dict[str, Any], where: str, text: str) -> None:
    """`text` as the value at a JSON pointer."""
    *folders, name = where[1:].split("/")
    for folder in folders:
        config = config[int(folder)] if isinstance(config, list) else config[folder]
    if isinstance(config, list):
        config[int(name)] = text
    else:
        config[name] = text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "where",
    [
        "/process/cwd",
        "/hostname",
        "/domainname",
        "/root/path",
        "/mounts/0/destination",
        "/mounts/0/source",
        "/mounts/0/type",
        "/mounts/1/options/0",
        "/linux/cgroupsPath",
        "/linux/maskedPaths/0",
        "/linux/readonlyPaths/0",
        "/linux/namespaces/0/path",
        "/linux/namespaces/0/type",
        "/process/apparmorProfile",
    ],
)
def test_cve_2021_43784_long_strings_are_refused_where_they_are(
    runtime: Runtime, bundle: Bundle, size: int, where: str, nothing_left: None
) -> None:
    place(bundle.config, where, "/" + "proc/1/ns/../" * (size // 13) + "a" * (size % 13 - 1 + 13))
    done = runtime("run", "-b", bundle.write().path, "c")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert where in done.err or where.rpartition("/")[0] in done.err
    assert not (runtime.root / "c").exists()


@pytest.mark.parametrize("kind", ["uidMappings", "gidMappings"])
def test_cve_2021_43784_a_long_list_of_mappings_is_refused(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    """It was a map of 64 KiB that became an unbounded user namespace: a line of the maps has some 20 bytes."""
    linux = bundle.config["linux"]
    linux["namespaces"].append({"type": "user"})
    one = [{"containerID": 0, "hostID": 100000, "size": 1}]
    many = [{"containerID": number, "hostID": 100000 + number, "size": 1} for number in range(4000)]
    linux |= {"uidMappings": one, "gidMappings": one, kind: many}
    done = runtime("run", "-b", bundle.write().path, "c")
    assert (done.code, done.out) == (1, "")
    assert f"/linux/{kind}: 4000 mappings are more than 340" in done.err


def test_cve_2021_43784_a_plan_has_a_bound(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    bundle.config["process"]["env"] += [f"V{number}={'x' * 120_000}" for number in range(40)]
    done = runtime("run", "-b", bundle.write().path, "c")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
