"""A bundle whose files do not fit is refused, and neither its root file system nor the host is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_bundles import LATE, MOUNTS, PROGRAMS, ROOTS, BadBundle, link, mount
from bad_checks import VERBS, one_line, one_log_entry, placed_at, refused, same
from support import Bundle, Runtime, traces, tree_of

pytestmark = pytest.mark.root
all_verbs = pytest.mark.parametrize("verb", VERBS)


def cases(table: list[BadBundle]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", table, ids=[case.name for case in table])


@all_verbs
@cases(PROGRAMS)
def test_a_program_that_cannot_run_is_refused_at_create(
    runtime: Runtime, bundle: Bundle, outside: Path, case: BadBundle, verb: str
) -> None:
    case.spoil(bundle, outside)
    refused(runtime, bundle.write(), verb, case.pointer, case.words)


@pytest.mark.parametrize("verb", ["run", "run --detach"])
@cases(LATE)
def test_a_program_that_the_kernel_does_not_execute_is_refused_by_run(
    runtime: Runtime, bundle: Bundle, outside: Path, case: BadBundle, verb: str
) -> None:
    case.spoil(bundle, outside)
    refused(runtime, bundle.write(), verb, case.pointer, case.words)


@cases(LATE)
def test_a_program_that_the_kernel_does_not_execute_is_refused_by_start(
    runtime: Runtime, bundle: Bundle, outside: Path, case: BadBundle
) -> None:
    case.spoil(bundle, outside)
    bundle.write()
    before = traces(runtime.root, bundle.rootfs)
    assert runtime("create", "--bundle", bundle.path, "late").code == 0
    log = bundle.path / "log.json"
    done = runtime("--log", log, "--log-format", "json", "start", "late")
    line = one_line(done, case.words)
    placed_at(line, bundle.path / "config.json", case.pointer)
    one_log_entry(log, line)
    assert runtime.state("late")["status"] == "stopped"
    assert runtime("delete", "late").code == 0
    same(before, traces(runtime.root, bundle.rootfs))


@all_verbs
@cases(ROOTS)
def test_a_root_that_is_no_directory_is_refused(
    runtime: Runtime, bundle: Bundle, outside: Path, case: BadBundle, verb: str
) -> None:
    case.spoil(bundle, outside)
    refused(runtime, bundle.write(), verb, case.pointer, case.words)


@all_verbs
@cases(MOUNTS)
def test_a_mount_that_fails_is_named(
    runtime: Runtime, bundle: Bundle, outside: Path, case: BadBundle, verb: str
) -> None:
    before = tree_of(outside)
    case.spoil(bundle, outside)
    refused(runtime, bundle.write(), verb, case.pointer, case.words)
    assert tree_of(outside) == before


@pytest.mark.parametrize("target", ["{}", "../../../../../../../../../../..{}"], ids=["absolute", "upwards"])
def test_a_destination_through_a_link_out_of_the_root_stays_inside(
    runtime: Runtime, bundle: Bundle, outside: Path, target: str
) -> None:
    """The link points to a folder of the host; inside the root there is one with the same path."""
    before = tree_of(outside)
    inside = bundle.rootfs / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    link("way", target, mount("/way/new", type="tmpfs", options=["size=4k"]))(bundle, outside)
    done = runtime.sh(bundle, f"mount | grep ' {outside}/new type tmpfs ' && touch /way/new/x && ls {outside}")
    assert (done.code, done.out.split("\n")[-2]) == (0, "new"), done
    assert tree_of(outside) == before
    assert [path.name for path in inside.iterdir()] == ["new"]


@pytest.mark.parametrize("target", ["{}/absent", "../../../../../../../../..{}/absent"], ids=["absolute", "upwards"])
@all_verbs
def test_a_destination_through_a_dangling_link_changes_nothing_on_the_host(
    runtime: Runtime, bundle: Bundle, outside: Path, target: str, verb: str
) -> None:
    before = tree_of(outside)
    link("way", target, mount("/way/new", type="tmpfs"))(bundle, outside)
    words = ("mount tmpfs on /way/new", "dangling symlink")
    refused(runtime, bundle.write(), verb, "/mounts/7", words)
    assert tree_of(outside) == before


def test_dev_as_a_link_out_of_the_root_leaves_the_host_alone(runtime: Runtime, bundle: Bundle, outside: Path) -> None:
    before = tree_of(outside)
    bundle.config["mounts"] = [one for one in bundle.config["mounts"] if not one["destination"].startswith("/dev")]
    link("dev", "{}")(bundle, outside)
    one_line(
        runtime("run", "--bundle", bundle.write().path, "dev"), ("/linux/devices: open /dev: ", "dangling symlink")
    )
    assert tree_of(outside) == before
