"""Who `exec -u` makes somebody: exactly the number that was said, or nobody.

CVE-2026-30892 (GHSA-4vg2-xjqj-7chj): crun's `exec -u 1` was root. And of the same family CVE-2016-3697 (a number is
looked up as a name), CVE-2024-40635 and CVE-2026-46680 (a number that overflows is 0, or is looked up as a name).
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import Bundle, Done, Runtime

from ocirt.cli.process import id_of, request_of
from ocirt.config.read import Config
from ocirt.config.shape import PROCESS, check_shape
from ocirt.errors import Error, UsageError
from ocirt.library import documents

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 2**32 - 2
ABSENT = ("process", "tty", "user", "additional_gids", "cap", "no_new_privs", "cwd", "apparmor", "process_label", "env")
NUMBERS = {"0": (0, None), "1": (1, None), "1:2": (1, 2), "01": (1, None), "4294967294": (MOST, None), "0:0": (0, 0)}
"""What is said → the uid, and the gid if there is one."""
WRONG = (
    *(
        "",
        ":",
        ":1",
        "1:",
        "1:2:3",
        "-1",
        "+0",
        "+1",
        " 0",
        "0 ",
        "0\n",
        "1:-1",
        "1: 2",
        "name",
        "root",
        "0x1",
        "0b1",
        "1e3",
    ),
    *("4294967295", "4294967296", "4294967297", "18446744073709551616", str(2**63), str(2**63 - 1), "1:4294967296"),
    *("1_000", "1.0", "1,2", "\u0661", "\uff11", "\u00b2", "1\u0000", "0" * 11, "9" * 5000),
)


def exec_options(user: str) -> dict[str, object]:
    return {**dict.fromkeys(ABSENT), "user": user}


def who(user: str) -> tuple[int | None, int | None]:
    """Whom `exec --user` asks for."""
    changes = request_of(exec_options(user), ["true"]).process.get("user") or {}
    return changes.get("uid"), changes.get("gid")


@pytest.mark.parametrize(("user", "expected"), NUMBERS.items())
def test_cve_2026_30892_a_number_is_that_number(user: str, expected: tuple[int, int | None]) -> None:
    """CVE-2026-30892, GHSA-4vg2-xjqj-7chj. With `user["uid"] = 0` for one digit in cli/process.py, request_of, as
    crun's regression had it, "1" is (0, None)."""
    assert who(user) == expected


@pytest.mark.parametrize("user", [user for user in WRONG if user])
def test_cve_2026_30892_anything_else_is_an_error(user: str) -> None:
    """With int(text) alone in cli/process.py, id_of, these are somebody: "+0", " 0", "0 ", "1_000", the digits of other
    scripts, "-1"; and 2**32 only is an error because the configuration's check comes later."""
    with pytest.raises(UsageError) as error:
        request_of(exec_options(user), ["true"])
    assert error.value.message.startswith("--user: expected a number from 0 to 4294967294")


TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(string.digits + "+- :_x\u0661\n", max_size=13),
    st.integers(-(2**65), 2**65).map(str),
    st.tuples(st.integers(0, 2**33), st.integers(0, 2**33)).map(lambda pair: f"{pair[0]}:{pair[1]}"),
)


@given(TEXTS)
@example("1")
@example("00")
def test_cve_2026_30892_whatever_is_said_is_exact_or_an_error(user: str) -> None:
    """The judge is another than the parser: the digits are counted up one by one."""
    if not user:
        return  # then the user is the container's
    uid, colon, gid = user.partition(":")
    wanted = [uid, *([gid] if colon else [])]
    try:
        found = who(user)
    except UsageError:
        assert any(not plain(word) for word in wanted), f"{user!r} is refused"
        return
    assert [number for number in found if number is not None] == [valued(word) for word in wanted]


def plain(word: str) -> bool:
    return 0 < len(word) <= 10 and all(letter in string.digits for letter in word) and valued(word) <= MOST


def valued(word: str) -> int:
    value = 0
    for letter in word:
        value = 10 * value + string.digits.index(letter)
    return value


@given(TEXTS)
def test_cve_2026_30892_additional_groups_too(text: str) -> None:
    try:
        assert id_of(text, "--additional-gids") == valued(text)
    except UsageError:
        assert not plain(text)


USERS = st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.booleans(), st.none(), st.just(2.0))


@given(USERS, USERS)
@example(2**32 - 1, 0)
@example(True, 0)
@example(1.0, 0)
def test_cve_2026_30892_a_user_in_a_process_object_or_from_the_library_is_a_number_of_the_kernels(
    uid: object, gid: object
) -> None:
    """process.user of config.json and of `exec --process`, and the library's exec(user=…)."""
    right = type(uid) is int and type(gid) is int and 0 <= uid <= MOST and 0 <= gid <= MOST
    process = {"args": ["true"], "cwd": "/", "user": {"uid": uid, "gid": gid}}
    try:
        check_shape(process, PROCESS, ("process",))
    except Error:
        assert not right
    else:
        assert right
    if gid is None:
        return  # the library's word for: the container's own
    own = {"args": ["true"], "cwd": "/", "user": {"uid": 7, "gid": 8}}
    try:
        request = documents.request_of(["true"], None, None, None, (uid, gid))  # type: ignore[arg-type]
        applied = request.applied_to(Config({"ociVersion": "1.3.0", "process": own}, "", "/bundle"))
    except Error:
        assert not right
    else:
        assert right
        assert (applied.spec["process"]["user"]["uid"], applied.spec["process"]["user"]["gid"]) == (uid, gid)


# And what the kernel says of the process


@pytest.fixture
def container(runtime: Runtime, bundle: Bundle) -> Iterator[Runtime]:
    """The container c, whose passwd and group would like to make root of everybody."""
    users = [*NUMBERS, *(user for user in WRONG if user.isprintable() and 0 < len(user) < 100)]
    names = {name.partition(":")[0] for name in users} | {"1", "1000"}
    (bundle.rootfs / "etc/passwd").write_text("".join(f"{name}:x:0:0::/:/bin/sh\n" for name in sorted(names)))
    (bundle.rootfs / "etc/group").write_text("".join(f"{name}:x:0:\n" for name in sorted(names)))
    bundle.config["process"]["args"] = ["/bin/sleep", "1000"]
    bundle.config["process"]["user"] = {"uid": 77, "gid": 88}
    bundle.write()
    assert runtime("run", "--detach", "-b", bundle.path, "c").code == 0
    yield runtime
    runtime("delete", "--force", "c")


def ids(done: Done) -> dict[str, list[int]]:
    assert done.code == 0, done.err
    return {line.split(":")[0]: [int(word) for word in line.split()[1:]] for line in done.out.splitlines()}


SHOW = ("/bin/grep", "-E", "^(Uid|Gid|Groups):", "/proc/self/status")


@pytest.mark.root
def test_cve_2026_30892_in_a_container_a_number_is_that_number(container: Runtime) -> None:
    """With the regression of above in cli/process.py, `exec -u 1` has the uid 0 here too."""
    for user, (uid, gid) in NUMBERS.items():
        found = ids(container("exec", "-u", user, "c", *SHOW))
        assert found == {"Uid": [uid] * 4, "Gid": [88 if gid is None else gid] * 4, "Groups": []}, user


@pytest.mark.root
def test_cve_2026_30892_in_a_container_anything_else_runs_nothing(container: Runtime) -> None:
    for user in WRONG:
        if "\0" in user:
            continue
        done = container("exec", f"--user={user}", "c", *SHOW)
        if user:
            assert (done.code, done.out) == (255, ""), user
        else:
            assert ids(done)["Uid"] == [77] * 4, "the container's own user, not root"


@pytest.mark.root
def test_cve_2026_30892_in_a_process_object(container: Runtime, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    for uid in (0, 1, MOST):
        file.write_text(json.dumps({"args": SHOW, "cwd": "/", "user": {"uid": uid, "gid": uid}}))
        assert ids(container("exec", "-p", file, "c")) == {"Uid": [uid] * 4, "Gid": [uid] * 4, "Groups": []}
    for wrong in ("-1", "4294967295", "4294967296", "18446744073709551616", '"0"', "0.0", "1e0", "true", "null", "[0]"):
        user = '{"uid": %s, "gid": 1}' % wrong
        file.write_text('{"args": ["/bin/true"], "cwd": "/", "user": %s}' % user)
        done = container("exec", "-p", file, "c")
        assert (done.code, done.out) == (255, ""), wrong
        assert "user/uid" in done.err
