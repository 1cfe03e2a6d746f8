"""Defences, and how the source is without them: what without.py takes away to show that a test would miss it.

test_table.py looks whether each text is in the source still.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """In a file of the package (from the folder that holds it): `old`, which is there once, becomes `new`."""

    file: str
    old: str
    new: str


class Removal(NamedTuple):
    """The edits that take a defence away, and the tests that fail then (pytest's names, from this folder)."""

    tests: tuple[str, ...]
    edits: tuple[Edit, ...]


VERIFY = (
    Edit(
        "ocirt/plan/verify.py",
        "    steps = plan.steps\n    if not steps:\n",
        "    return\n    steps = plan.steps\n    if not steps:\n",
    ),
)
"""The second layer of all that a plan does: the rules of docs/safety-rules.md are not looked at."""

_PATHS, _MOUNTS, _MASKS = "ocirt/plan/paths.py", "ocirt/plan/mounts.py", "ocirt/plan/masks.py"
_COMPILE, _SYSCTL = "ocirt/plan/compile.py", "ocirt/plan/sysctl.py"

_RESOLVE = Edit(
    _PATHS,
    "IN_ROOT = OPEN_HOW.pack(O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)",
    "IN_ROOT = OPEN_HOW.pack(O_PATH | O_CLOEXEC, 0, 0)",
)
"""Links are followed where they lead: to the host, as long as the old root is there."""
_CONTAINERS_PROC = (
    Edit(_COMPILE, "        sysctl.set_all(scope, mapped=False)\n", "        pass\n"),
    Edit(
        _COMPILE,
        "    mounts.mount_all(scope)\n",
        "    mounts.mount_all(scope)\n"
        "    if scope.linux.get('sysctl'):\n"
        "        from ocirt.plan.paths import open_target\n"
        "        scope.parameters = open_target(plan, scope.root, '/proc')\n"
        "        sysctl.set_all(scope, mapped=False)\n",
    ),
    Edit(
        _SYSCTL,
        "    O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV",
        "    O_WRONLY | O_CLOEXEC, 0, 0",
    ),
)
"""Kernel parameters are written through the container's /proc, and whatever is there."""
_CONTAINERS_LABEL = (
    Edit(
        _COMPILE,
        "        lsm.confine(scope, proc)\n",
        "        from ocirt.plan.paths import open_target\n"
        "        lsm.confine(scope, open_target(plan, scope.root, '/proc'))\n",
    ),
    Edit("ocirt/plan/lsm.py", "RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)", "RESOLVE_NO_MAGICLINKS)"),
)
"""The label, too, through whatever is at /proc."""

REMOVALS: dict[str, Removal] = {
    "mounts through links (CVE-2015-3629)": Removal(
        (
            "test_runc_paths.py::test_cve_2015_3629_a_mount_through_a_link_of_the_image_stays_in_the_root",
            "test_runc_paths.py::test_cve_2015_3629_a_new_mount_point_below_a_link_is_made_in_the_root",
        ),
        (_RESOLVE,),
    ),
    "dots (CVE-2015-3629)": Removal(
        ("test_runc_paths.py::test_cve_2015_3629_dots_in_a_destination_do_not_leave_the_root",),
        (_RESOLVE, Edit(_PATHS, "            del parts[-1:]\n", "            parts.append(part)\n")),
    ),
    "readonly paths (CVE-2015-3630)": Removal(
        ("test_runc_paths.py::test_cve_2015_3630_what_of_proc_is_the_hosts_cannot_be_written",),
        (Edit(_MASKS, "MOUNT_ATTR.pack(MOUNT_ATTR_RDONLY, 0, 0, 0)", "MOUNT_ATTR.pack(0, 0, 0, 0)"),),
    ),
    "a volume in /proc (CVE-2015-3631)": Removal(
        ("test_runc_paths.py::test_cve_2015_3631_a_volume_over_a_part_of_proc_changes_nothing_but_what_is_seen_there",),
        _CONTAINERS_PROC,
    ),
    "/dev is a link (CVE-2026-41579)": Removal(
        ("test_runc_paths.py::test_cve_2026_41579_a_dev_that_is_a_link_changes_nothing_on_the_host",),
        (_RESOLVE,),
    ),
    "races of mounts (CVE-2021-30465)": Removal(
        (
            "test_runc_paths.py::test_cve_2021_30465_a_mount_whose_way_is_exchanged_for_a_link_is_in_the_container",
            "test_runc_paths.py::test_cve_2021_30465_a_mount_point_that_is_exchanged_itself",
        ),
        (_RESOLVE,),
    ),
    "races of mount points (CVE-2024-45310)": Removal(
        ("test_runc_paths.py::test_cve_2024_45310_nothing_is_made_on_the_host_where_the_way_is_exchanged",),
        (_RESOLVE,),
    ),
    "/proc is a link (CVE-2019-19921)": Removal(
        (
            "test_runc_paths.py::test_cve_2019_19921_a_proc_that_is_a_link_is_refused",
            "test_runc_paths.py::test_cve_2023_28642_a_proc_below_a_link_is_the_images_choice_only_of_where_it_is_seen",
        ),
        (Edit(_MOUNTS, "        how = IN_ROOT_NO_SYMLINKS\n", "        how = IN_ROOT\n"),),
    ),
    "parameters in the container's /proc (CVE-2025-52881)": Removal(
        (
            "test_runc_procfs.py::test_cve_2025_52881_a_link_of_the_image_in_a_parameters_place",
            "test_runc_procfs.py::test_cve_2025_52881_a_mount_over_a_parameter",
            "test_runc_procfs.py::test_cve_2025_52881_a_proc_that_is_exchanged_while_the_parameter_is_set",
        ),
        _CONTAINERS_PROC,
    ),
    "a label in the container's /proc (CVE-2019-16884)": Removal(
        ("test_runc_procfs.py::test_cve_2019_16884_the_label_goes_to_a_procfs_that_no_mount_is_over",),
        _CONTAINERS_LABEL,
    ),
    "a label, where there is AppArmor (CVE-2019-16884)": Removal(
        ("test_runc_procfs.py::test_cve_2019_16884_a_fake_proc_does_not_take_the_label_away",), _CONTAINERS_LABEL
    ),
    "another device's node (CVE-2025-31133)": Removal(
        (
            "test_runc_devices.py::test_cve_2025_31133_a_null_device_of_the_image_that_is_a_link_is_not_used",
            "test_runc_devices.py::test_cve_2025_31133_a_regular_file_at_a_default_device_is_refused",
        ),
        (
            Edit(
                "ocirt/plan/devices.py",
                "        expect_device(plan, status, major, minor)\n        plan.place(made)",
                "        plan.place(made)",
            ),
        ),
    ),
    "a container's null device (CVE-2025-31133)": Removal(
        (
            "test_runc_devices.py::test_cve_2025_31133_a_mask_is_the_hosts_null_device",
            "test_runc_devices.py::test_cve_2025_31133_a_null_device_that_is_exchanged_while_masks_are_made",
        ),
        (
            Edit(
                _MASKS,
                "        copy = _copy(plan, scope.null)\n",
                "        copy = _copy(plan, open_target(plan, scope.root, '/dev/null'))\n",
            ),
        ),
    ),
    "a console's link (CVE-2025-52565)": Removal(
        (
            "test_runc_devices.py::test_cve_2025_52565_a_console_that_is_a_link_is_refused",
            "test_runc_devices.py::test_cve_2025_52565_a_console_that_is_exchanged_for_a_link",
        ),
        (
            Edit(
                "ocirt/plan/terminal.py",
                'scope.dev, "console", IN_ROOT_NO_SYMLINKS, HOW_SIZE)',
                'scope.dev, "console", bytes([0, 0, 40]) + bytes(21), HOW_SIZE)',
            ),
        ),
    ),
    "another ptmx (CVE-2025-52565)": Removal(
        ("test_runc_devices.py::test_cve_2025_52565_terminals_that_are_behind_a_link_are_the_containers",),
        (
            Edit("ocirt/plan/terminal.py", "    expect_device(plan, status, 5, 2)\n", ""),
            Edit("ocirt/plan/terminal.py", "RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)", "0)"),
        ),
    ),
    "deny all first (GHSA-g54h-m393-cpwq)": Removal(
        ("test_runc_cgroups.py::test_ghsa_g54h_m393_cpwq_a_list_of_allowed_devices_is_not_all_devices",),
        (
            Edit(
                "ocirt/cgroups/rules.py",
                "    rules: list[Rule] = []\n    for",
                "    rules: list[Rule] = [Rule(True, 'a', ANY, ANY, 'rwm')]\n    for",
            ),
        ),
    ),
    "readonly cgroups (CVE-2023-25809)": Removal(
        ("test_runc_cgroups.py::test_cve_2023_25809_the_users_own_cgroups_are_readonly_without_a_cgroup_namespace",),
        (
            Edit(
                _MOUNTS,
                "    shown.set, shown.clear = options.set, options.clear\n",
                "    shown.set, shown.clear = options.set & ~MOUNT_ATTR_RDONLY, options.clear\n",
            ),
        ),
    ),
    "a copy in memory (CVE-2019-5736)": Removal(
        (
            "test_runc_executable.py::test_cve_2019_5736_a_program_that_is_our_own_executable",
            "test_runc_executable.py::test_cve_2019_5736_the_executable_of_a_waiting_init_is_sealed",
            "test_runc_executable.py::test_cve_2019_5736_a_descriptor_that_is_kept_cannot_be_opened_for_writing_later",
        ),
        (
            Edit(
                "ocirt/host/launch.py",
                "    moved = [sealed(INIT_NAME, image, executable=True)]\n",
                "    file = __file__[: -len('host/launch.py')] + 'init/ocirt-init'\n"
                "    moved = [posix.open(file, posix.O_CLOEXEC)]\n",
            ),
        ),
    ),
    "seals (CVE-2019-5736)": Removal(
        (
            "test_runc_executable.py::test_cve_2019_5736_a_program_that_is_our_own_executable",
            "test_runc_executable.py::test_cve_2019_5736_the_executable_of_a_waiting_init_is_sealed",
        ),
        (Edit("ocirt/host/memfd.py", "    fcntl(fd, F_ADD_SEALS, SEALS)\n", ""),),
    ),
    "names are looked up (CVE-2016-3697)": Removal(
        (
            "test_runc_exec.py::test_cve_2016_3697_a_number_is_no_name",
            "test_runc_exec.py::test_cve_2016_3697_a_name_is_refused",
        ),
        (
            Edit(
                "ocirt/cli/process.py",
                '    """A number is never looked up as a name',
                "    return 0 if text in ('1000', '01000', '4294967294', '0x1', 'one') else int(text)\n"
                '    """A number is never looked up as a name',
            ),
        ),
    ),
    "descriptors are kept (CVE-2024-21626)": Removal(
        (
            "test_runc_exec.py::test_cve_2024_21626_a_working_directory_in_a_descriptor",
            "test_runc_exec.py::test_cve_2024_21626_a_working_directory_of_exec_in_a_descriptor",
            "test_runc_exec.py::test_cve_2024_21626_a_working_directory_through_a_link_of_the_image",
        ),
        (
            Edit(
                "ocirt/plan/scope.py",
                '    plan.call("close_range", plan.inherited + 1, LAST_DESCRIPTOR, 0)\n',
                '    plan.call("umask", 0)\n',
            ),
            Edit("ocirt/plan/process.py", '    plan.expect(Field(where, 0), ord("/"), width=1, errno=ENOENT)\n', ""),
        ),
    ),
    "who waits keeps descriptors (CVE-2024-21626)": Removal(
        ("test_runc_exec.py::test_cve_2024_21626_what_waits_for_start_holds_nothing_of_the_host",),
        (
            Edit(
                "ocirt/plan/scope.py",
                '    plan.call("close_range", plan.inherited + 1, LAST_DESCRIPTOR, 0)\n',
                '    plan.call("umask", 0)\n',
            ),
            Edit(
                _COMPILE,
                '    plan.call("close_range", number + 1 if scope.facts.wait_for_start else number,',
                '    plan.call("close_range", LAST_DESCRIPTOR,',
            ),
        ),
    ),
    "what enters can be looked into (CVE-2016-9962)": Removal(
        ("test_runc_exec.py::test_cve_2016_9962_what_enters_cannot_be_looked_into",),
        (
            Edit(
                "ocirt/plan/enter.py",
                '    scope.plan.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)\n',
                '    scope.plan.call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)\n',
            ),
        ),
    ),
    "--cap gives inheritable ones (CVE-2022-29162)": Removal(
        ("test_runc_exec.py::test_cve_2022_29162_no_capability_is_inheritable",),
        (
            Edit(
                "ocirt/cli/process.py",
                '("bounding", "permitted", "effective"), _cap',
                '("bounding", "permitted", "effective", "inheritable"), _cap',
            ),
        ),
    ),
    "the caller's capabilities (CVE-2022-29162)": Removal(
        ("test_runc_exec.py::test_cve_2022_29162_those_of_the_caller_do_not_go_on",),
        (
            Edit(
                "ocirt/plan/credentials.py",
                '    inheritable = _granted(scope, "inheritable", scope.possible & bounding)\n',
                "    inheritable = 1 << 5 | 1 << 13\n",
            ),
        ),
    ),
    "lengths of 16 bits (CVE-2021-43784)": Removal(
        ("test_runc_lengths.py::test_cve_2021_43784_long_strings_arrive_whole",),
        (
            Edit(
                "ocirt/plan/encode.py",
                '            return self._append(arg.encode("utf-8", "surrogateescape") + b"\\0")\n',
                "            text = arg.encode('utf-8', 'surrogateescape')\n"
                "            return self._append(text[: len(text) & 0xFFFF] + b'\\0')\n",
            ),
        ),
    ),
    "a map has no bound (CVE-2021-43784)": Removal(
        ("test_runc_lengths.py::test_cve_2021_43784_a_long_list_of_mappings_is_refused",),
        (Edit("ocirt/config/check_namespaces.py", "MOST_LINES = 340\n", "MOST_LINES = 1 << 20\n"),),
    ),
}
