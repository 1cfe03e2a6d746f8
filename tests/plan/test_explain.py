"""A plan in words: decoded calls, folded branches, and the same steps as are encoded."""

from __future__ import annotations

import json

import pytest
from plan.cases import CASES, compile_case

from ocirt.plan import kernel as k
from ocirt.plan.decode import SIGNATURES, arguments
from ocirt.plan.explain import documents, folds, plan_lines, step_call, unclear_names
from ocirt.plan.notation import bits, quoted
from ocirt.plan.step import Buffer, Field, Label, Plan, Reg, Slot, Vector
from ocirt.plan.syscalls import MACHINES
from ocirt.plan.tags import FD_PASSWD, SYNC_READY


def small_plan() -> Plan:
    """One of everything that the text has a way of saying."""
    plan = Plan("x86_64", control=3)
    plan.at("", "close what leaked")
    plan.call("close_range", 5, k.LAST_DESCRIPTOR, 0)
    plan.at("/linux/namespaces", "make namespaces")
    plan.clone(k.CLONE_NEWNS | k.CLONE_NEWPID)
    plan.at("/root/path", "open /r")
    how = k.OPEN_HOW.pack(k.O_PATH, 0, k.RESOLVE_IN_ROOT)
    root = plan.open("the r", "openat2", k.AT_FDCWD, "/r", how, k.OPEN_HOW.size)
    exists, made = Label(), Label()
    target = plan.open("target", "openat2", root, "a", how, k.OPEN_HOW.size, ignore=(k.ENOENT,), ok=exists)
    plan.call("mkdirat", root, "a", 0o755, ignore=(k.EEXIST,))
    plan.open(target, "openat2", root, "a", how, k.OPEN_HOW.size)
    plan.place(exists)
    plan.at("/linux/devices", "make a device")
    plan.call("mknodat", target, "null", k.S_IFCHR | 0o666, k.makedev(1, 3), ignore=(k.EEXIST,), ok=made)
    status = Buffer(k.STATX_SIZE)
    plan.call("statx", target, "null", k.AT_SYMLINK_NOFOLLOW, k.STATX_BASIC_STATS, status)
    plan.expect(Field(status, k.STATX_MODE_AT), k.S_IFCHR, mask=k.S_IFMT, width=2, errno=k.ENODEV)
    plan.place(made)
    plan.at("/process/cwd", "enter /srv")
    other = Label()
    plan.call("chdir", "/srv", fail=other)
    plan.place(other)
    plan.call("prctl", k.PR_CAPBSET_DROP, 21, 0, 0, 0)
    plan.at("", "tell the host")
    plan.sync(SYNC_READY)
    plan.at("/process/args", 'exec "sh"')
    plan.call("execve", "/bin/sh", Vector(["sh", "-c", 'echo "hi"\n']), Vector(["A=1", Slot("HOME=", 9)]))
    return plan


GOLDEN = r"""
always             close what leaked
   0  close_range(5, ~0U, 0)
/linux/namespaces  make namespaces
   1  clone3(CLONE_NEWNS|CLONE_NEWPID, -1)
/root/path         open /r
   2  $the-r = openat2(AT_FDCWD, "/r", {flags=O_PATH, resolve=RESOLVE_IN_ROOT}, 24)
   3  $target = openat2($the-r, "a", {flags=O_PATH, resolve=RESOLVE_IN_ROOT}, 24)   ENOENT ignored; then → step 6
      … 2 steps if it does not exist
/linux/devices     make a device
   6  mknodat($target, "null", S_IFCHR|0666, makedev(1, 3))                         EEXIST ignored; then → step 9
      … 2 steps if it exists already
/process/cwd       enter /srv
   9  chdir("/srv")                                                                 else → step 10
  10  prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)
always             tell the host
  11  sync(SYNC_READY)
/process/args      exec "sh"
  12  execve("/bin/sh", ["sh", "-c", "echo \"hi\"\n"], ["A=1", "HOME=…" (the host fills it in)])
"""

UNFOLDED = r"""
   4  mkdirat($the-r, "a", 0755)                                                    EEXIST ignored
   5  $target = openat2($the-r, "a", {flags=O_PATH, resolve=RESOLVE_IN_ROOT}, 24)
"""


def test_the_text_of_a_small_plan() -> None:
    assert "\n".join(plan_lines(small_plan())) == GOLDEN.strip("\n")


def test_all_shows_what_is_folded() -> None:
    text = "\n".join(plan_lines(small_plan(), everything=True))
    assert UNFOLDED in text
    assert "  8  expect stx_mode & S_IFMT == S_IFCHR, or ENODEV" in text
    assert "…  " not in text and " steps if" not in text


def test_colour_changes_nothing_but_the_colour() -> None:
    coloured = "\n".join(plan_lines(small_plan(), colour=True))
    for escape in ("\033[1m", "\033[2m", "\033[0m"):
        assert escape in coloured
        coloured = coloured.replace(escape, "")
    assert coloured == GOLDEN.strip("\n")


def test_control_characters_of_a_configuration_do_not_reach_the_terminal() -> None:
    plan = Plan("x86_64", control=3)
    plan.at("/mounts/0\n", "mount \033[2J on /x\r")
    plan.call("chdir", "a\033b\tc\udcffd")
    lines = plan_lines(plan)
    assert all(line.isprintable() for line in lines), lines
    assert lines[1].endswith(r'chdir("a\x1bb\tc\xffd")')


@pytest.mark.parametrize("name", CASES)
def test_every_step_of_every_plan_is_shown_once_with_all(name: str) -> None:
    plan = compile_case(name).plan
    numbers = [int(line.split()[0]) for line in plan_lines(plan, everything=True) if line.startswith("  ")]
    assert numbers == list(range(len(plan.steps)))


@pytest.mark.parametrize("name", CASES)
def test_what_is_folded_and_what_is_shown_make_up_the_plan(name: str) -> None:
    plan = compile_case(name).plan
    covered: list[int] = []
    hidden = folds(plan.steps)
    for line in plan_lines(plan):
        if "  … " in line:
            end, when = hidden[len(covered)]
            assert line.strip().endswith(when)
            covered += range(len(covered), end)
        elif line.startswith("  "):
            covered.append(int(line.split()[0]))
    assert covered == list(range(len(plan.steps)))
    assert hidden, "nothing was folded"


@pytest.mark.parametrize("name", CASES)
def test_the_document_of_a_plan_is_json_and_has_each_argument(name: str) -> None:
    plan = compile_case(name).plan
    found = json.loads(json.dumps(documents(plan)))
    assert len(found) == len(plan.steps)
    for index, (shown, step) in enumerate(zip(found, plan.steps, strict=True)):
        assert set(shown) == {"index", "call", "args", "pointer", "doing", "result", "ignores", "ok", "fail"}
        assert (shown["index"], shown["call"], shown["pointer"]) == (index, step.call, step.pointer)
        assert len(shown["args"]) == len(step.args)
        assert all(isinstance(arg, str) and arg for arg in shown["args"])
        assert shown["ok"] == (step.ok.index if step.ok else None)
        assert shown["fail"] == (step.fail.index if step.fail else None)
        assert len(shown["ignores"]) == len(step.errnos)


@pytest.mark.parametrize("name", CASES)
def test_no_flag_or_structure_of_a_real_plan_is_left_as_a_bare_number(name: str) -> None:
    for step in compile_case(name).plan.steps:
        assert "0x" not in step_call(step), step_call(step)


def test_every_call_that_a_plan_can_hold_has_its_arguments_named() -> None:
    specials = {"clone3", "sync", "send descriptor", "report to", "load", "expect"}
    calls = {call for _, numbers in MACHINES.values() for call in numbers} | specials
    assert calls <= SIGNATURES.keys()


@pytest.mark.parametrize("call", SIGNATURES)
def test_every_call_shows_whatever_its_arguments_are(call: str) -> None:
    """Also values that no compiler makes: explain must not fail where a plan is merely odd."""
    if call == "expect":
        return  # its five arguments have one shape, which the plan's method sees to
    odd = [0, -1, -100, 2**64 - 1, 3, "", "x", b"", bytes(3), bytes(64), Reg(1, "r"), Buffer(8), Vector(["a"])]
    for value in [*odd, Slot("A=", 3), Field(Buffer(8), 1)]:
        shown = arguments(call, (value,) * 6)
        assert len(shown) == 6 and all(isinstance(text, str) for text in shown)


@pytest.mark.parametrize(
    ("call", "args", "text"),
    [
        ("openat", (k.AT_FDCWD, "x", k.O_WRONLY | k.O_CLOEXEC), '(AT_FDCWD, "x", O_WRONLY|O_CLOEXEC)'),
        ("openat", (4, "x", 0), '(4, "x", O_RDONLY)'),
        (
            "open_tree",
            (Reg(0, "m"), "", k.OPEN_TREE_CLONE | k.OPEN_TREE_CLOEXEC | k.AT_EMPTY_PATH | k.AT_RECURSIVE),
            '($m, "", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH|AT_RECURSIVE)',
        ),
        (
            "mount_setattr",
            (Reg(0, "m"), "", k.AT_EMPTY_PATH, k.MOUNT_ATTR.pack(k.MOUNT_ATTR_NOATIME, k.MOUNT_ATTR__ATIME, 0, 0), 32),
            '($m, "", AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_NOATIME, attr_clr=MOUNT_ATTR__ATIME}, 32)',
        ),
        (
            "mount_setattr",
            (5, "", k.AT_RECURSIVE, k.MOUNT_ATTR.pack(0, 0, k.MS_PRIVATE, 7), 32),
            '(5, "", AT_RECURSIVE, {propagation=MS_PRIVATE, userns_fd=7}, 32)',
        ),
        (
            "fsmount",
            (5, k.FSMOUNT_CLOEXEC, k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID),
            "(5, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID)",
        ),
        ("fsconfig", (5, k.FSCONFIG_CMD_CREATE, 0, 0, 0), "(5, FSCONFIG_CMD_CREATE, NULL, NULL, 0)"),
        ("prctl", (k.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)"),
        (
            "prctl",
            (k.PR_CAP_AMBIENT, k.PR_CAP_AMBIENT_RAISE, 10, 0, 0),
            "(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0)",
        ),
        (
            "prlimit64",
            (0, 7, k.RLIMIT.pack(1024, 2**64 - 1), 0),
            "(0, RLIMIT_NOFILE, {rlim_cur=1024, rlim_max=RLIM_INFINITY}, NULL)",
        ),
        (
            "capset",
            (k.CAP_HEADER.pack(k.LINUX_CAPABILITY_VERSION_3, 0), k.CAP_DATA.pack(1, 33, 0, 0, 1 << 8, 0)),
            "({version=_LINUX_CAPABILITY_VERSION_3, pid=0},"
            " {effective=CAP_CHOWN, permitted=CAP_CHOWN|CAP_KILL|CAP_CHECKPOINT_RESTORE, inheritable=0})",
        ),
        ("setgroups", (2, b"\5\0\0\0\xe8\3\0\0"), "(2, [5, 1000])"),
        ("setgroups", (0, 0), "(0, NULL)"),
        ("mknodat", (5, "f", k.S_IFREG | 0o644, 0), '(5, "f", S_IFREG|0644, 0)'),
        ("mknodat", (5, "d", 0o060660, k.makedev(259, 70000)), '(5, "d", S_IFBLK|0660, makedev(259, 70000))'),
        ("umask", (0o22,), "(022)"),
        ("ioctl", (5, k.TIOCSWINSZ, k.WINSIZE.pack(24, 80, 0, 0)), "(5, TIOCSWINSZ, {ws_row=24, ws_col=80})"),
        (
            "ioctl",
            (5, k.TIOCGPTPEER, k.O_RDWR | k.O_NOCTTY | k.O_CLOEXEC),
            "(5, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC)",
        ),
        ("ioctl", (5, k.TIOCSPTLCK, bytes(4)), "(5, TIOCSPTLCK, &0)"),
        (
            "ioctl",
            (5, k.SIOCSIFFLAGS, k.IFREQ_FLAGS.pack(b"lo", k.IFF_UP)),
            '(5, SIOCSIFFLAGS, {ifr_name="lo", ifr_flags=IFF_UP})',
        ),
        ("unshare", (k.CLONE_NEWCGROUP,), "(CLONE_NEWCGROUP)"),
        ("send descriptor", (Reg(0, "p"), FD_PASSWD), "($p, FD_PASSWD)"),
        ("faccessat2", (k.AT_FDCWD, "/x", k.X_OK, k.AT_EACCESS), '(AT_FDCWD, "/x", X_OK, AT_EACCESS)'),
        ("close_range", (3, k.LAST_DESCRIPTOR, k.CLOSE_RANGE_CLOEXEC), "(3, ~0U, CLOSE_RANGE_CLOEXEC)"),
        ("socket", (k.AF_INET, k.SOCK_DGRAM | k.SOCK_CLOEXEC, 0), "(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, 0)"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalnum() else "",
)
def test_a_call_is_decoded_by_the_kernels_names(
    call: str, args: tuple[int | str | bytes | Reg, ...], text: str
) -> None:
    assert "(" + ", ".join(arguments(call, args)) + ")" == text


def test_bits_without_a_name_are_kept_in_hexadecimal() -> None:
    assert bits(0b1011, {1: "ONE", 2: "TWO", 3: "BOTH"}) == "ONE|TWO|0x8"
    assert bits(0, {1: "ONE"}) == "0"


def test_a_quoted_string_is_what_c_would_read() -> None:
    assert quoted('a"b\\c\n\x01ü') == r'"a\"b\\c\n\x01ü"'


def test_two_registers_of_one_name_at_one_time_are_told_apart_by_their_numbers() -> None:
    plan = Plan("x86_64", control=3)
    first = plan.open("mount", "fsopen", "tmpfs", 0)
    second = plan.open("mount", "fsopen", "proc", 0)
    plan.close(second, first)
    single = plan.open("single", "fsopen", "tmpfs", 0)
    plan.close(single)
    plan.open("single", "fsopen", "tmpfs", 0)
    assert unclear_names(plan.steps) == {"mount"}
    text = "\n".join(plan_lines(plan))
    assert f"$mount-{first.number} = " in text and f"close($mount-{second.number})" in text
    assert "$single = " in text


def test_a_branch_into_which_another_step_jumps_is_not_folded() -> None:
    plan = Plan("x86_64", control=3)
    middle, end = Label(), Label()
    plan.call("chdir", "/a", fail=middle)
    plan.call("chdir", "/b", ok=end, ignore=(k.ENOENT,))
    plan.call("chdir", "/c")
    plan.place(middle)
    plan.call("chdir", "/d")
    plan.place(end)
    plan.call("chdir", "/e")
    assert folds(plan.steps) == {}


def test_a_thousand_mounts_are_explained_in_no_time() -> None:
    plan = Plan("x86_64", control=3)
    for index in range(3000):
        done = Label()
        plan.at(f"/mounts/{index}", "mount")
        plan.call("chdir", "/a", ok=done, ignore=(k.ENOENT,))
        plan.call("mkdirat", k.AT_FDCWD, "/a", 0o755)
        plan.place(done)
        plan.call("chdir", "/")
    assert sum("… 1 step " in line for line in plan_lines(plan)) == 3000
