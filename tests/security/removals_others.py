"""The same as removals.py, for crun's and youki's history and for the attack surface.

usage: tests/isolate .venv/bin/python tests/security/removals_others.py [--both] [WORD...]    (without.py says more)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from removals import Edit, Removal

_PATHS, _PROCESS, _CLI = "ocirt/plan/paths.py", "ocirt/plan/process.py", "ocirt/cli/process.py"
_CREDENTIALS, _ENTER, _VERIFY_ENTER = "ocirt/plan/credentials.py", "ocirt/plan/enter.py", "ocirt/plan/verify_enter.py"
_RESOLVE = Edit(
    _PATHS,
    "IN_ROOT = OPEN_HOW.pack(O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)",
    "IN_ROOT = OPEN_HOW.pack(O_PATH | O_CLOEXEC, 0, 0)",
)
_PATH_TESTS = "test_crun_paths.py::test_cve_"
_USER_TESTS = "test_crun_users.py::test_cve_2026_30892_"
_ROOTFS_TESTS = (
    "test_surface_rootfs.py::test_cve_2024_9676_a_passwd_of_any_kind_is_not_waited_for_and_not_read_to_its_end"
)
_NEIGHBOUR_TESTS = "test_surface_neighbour.py::test_"
_KIND = Edit(
    "ocirt/host/passwd.py",
    '        if posix.fstat(passwd).st_mode & 0o170000 != 0o100000:\n            return b"/"\n',
    "",
)

REMOVALS: dict[str, Removal] = {
    "a mount target through a link (CVE-2019-18837)": Removal(
        (
            f"{_PATH_TESTS}2019_18837_a_mount_target_that_is_a_link_is_in_the_root",
            f"{_PATH_TESTS}2019_18837_a_mount_target_that_is_a_link_is_in_the_root",
            f"{_PATH_TESTS}2019_18837_a_chain_of_links",
            f"{_PATH_TESTS}2019_18837_a_bound_file_over_a_link_to_a_file_of_the_host",
        ),
        (_RESOLVE,),
    ),
    "a device behind a link (CVE-2025-24965)": Removal(
        (f"{_PATH_TESTS}2025_24965_no_device_is_made_behind_a_link",),
        (_RESOLVE,),
    ),
    "a tmpfs's content behind a link (CVE-2025-24965)": Removal(
        (f"{_PATH_TESTS}2025_24965_a_tmpfs_is_filled_from_the_image_only",),
        (_RESOLVE,),
    ),
    "whatever is in the place of a device (CVE-2025-24965)": Removal(
        (f"{_PATH_TESTS}2025_24965_nothing_is_written_through_a_link_in_the_images_dev",),
        (
            Edit(
                "ocirt/plan/devices.py",
                "        expect_device(plan, status, major, minor)\n        plan.place(made)",
                "        plan.place(made)",
            ),
        ),
    ),
    "a working directory before the pivot (CVE-2025-24965)": Removal(
        (f"{_PATH_TESTS}2025_24965_no_working_directory_is_made_behind_a_link",),
        (
            Edit(
                "ocirt/plan/compile.py",
                "    rootfs.pivot(scope)\n",
                "    plan.call('fchdir', scope.root)\n"
                "    scope.process['cwd'] = scope.process['cwd'].lstrip('/')\n"
                "    process.enter_directory(scope)\n"
                "    rootfs.pivot(scope)\n",
            ),
            Edit(
                _PROCESS,
                '    cwd = "/" + "/".join(parts_of(scope.process["cwd"]))\n'
                '    plan.at("/process/cwd", f"enter {cwd}")\n    scope.entered',
                '    cwd = scope.process["cwd"]\n    plan.at("/process/cwd", f"enter {cwd}")\n    scope.entered',
            ),
            Edit(
                _PROCESS,
                '        folder = "/" + "/".join(parts[:depth])\n',
                '        folder = "/".join(parts[:depth])\n',
            ),
        ),
    ),
    "one digit is root (CVE-2026-30892)": Removal(
        (
            f"{_USER_TESTS}a_number_is_that_number",
            f"{_USER_TESTS}whatever_is_said_is_exact_or_an_error",
            f"{_USER_TESTS}in_a_container_a_number_is_that_number",
        ),
        (
            Edit(
                _CLI,
                '        user["uid"] = id_of(uid, "--user")\n',
                '        user["uid"] = 0 if len(uid) == 1 else id_of(uid, "--user")\n',
            ),
        ),
    ),
    "int() reads numbers (CVE-2026-30892)": Removal(
        (
            f"{_USER_TESTS}anything_else_is_an_error",
            f"{_USER_TESTS}anything_else_is_an_error",
            f"{_USER_TESTS}anything_else_is_an_error",
            f"{_USER_TESTS}whatever_is_said_is_exact_or_an_error",
            f"{_USER_TESTS}in_a_container_anything_else_runs_nothing",
        ),
        (
            Edit(
                _CLI,
                "    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > MOST_ID:\n",
                "    if not text.strip().lstrip('+-').replace('_', '').isdigit():\n",
            ),
        ),
    ),
    "--cap is inheritable (CVE-2022-27650)": Removal(
        (
            "test_crun_capabilities.py::test_cve_2022_27650_nothing_is_inheritable_in_an_exec",
            "test_crun_capabilities.py::test_cve_2022_27650_a_file_with_inheritable_capabilities_gives_none",
        ),
        (
            Edit(
                _CLI,
                'dict.fromkeys(("bounding", "permitted", "effective")',
                'dict.fromkeys(("bounding", "permitted", "effective", "inheritable")',
            ),
        ),
    ),
    "what is permitted is inheritable (CVE-2025-27612)": Removal(
        (
            "test_crun_capabilities.py::test_cve_2022_27650_nothing_is_inheritable_in_a_container",
            "test_youki_capabilities.py::test_cve_2025_27612_a_process_object_gets_no_inheritable_capability_that_it_does_not_name",
            "test_youki_capabilities.py::test_cve_2025_27612_without_capabilities_in_the_object_they_are_the_containers_and_none_is_inheritable",
        ),
        (
            Edit(
                _CREDENTIALS,
                '    inheritable = _granted(scope, "inheritable", scope.possible & bounding)\n',
                "    inheritable = permitted & bounding\n",
            ),
        ),
    ),
    "no capset (CVE-2022-27650)": Removal(
        ("test_crun_capabilities.py::test_cve_2022_27650_the_callers_own_inheritable_ones_do_not_stay",),
        (Edit(_CREDENTIALS, "    capset(scope, effective, permitted | scope.raised, inheritable)\n", ""),),
    ),
    "the bounding set stays (youki#3434)": Removal(
        (
            "test_youki_capabilities.py::test_youki_3434_without_capabilities_in_the_configuration_the_bounding_set_is_empty",
            "test_youki_capabilities.py::test_youki_3434_in_an_exec_too",
            "test_youki_capabilities.py::test_youki_3434_a_setuid_program_and_one_with_capabilities_get_none",
        ),
        (Edit("ocirt/plan/scope.py", "    credentials.drop_bounding(scope)\n", ""),),
    ),
    "any id (crun 1.20, 1.28)": Removal(
        (
            "test_crun_names.py::test_crun_1_28_an_id_is_one_file_name_of_plain_letters",
            "test_crun_names.py::test_crun_1_20_no_verb_takes_a_path_for_an_id",
        ),
        (
            Edit(
                "ocirt/state/store.py",
                "    if not 0 < len(container_id) <= 255 or not _LETTERS",
                "    return\n    if not 0 < len(container_id) <= 255 or not _LETTERS",
            ),
        ),
    ),
    "dots in a cgroupsPath (crun 1.28)": Removal(
        (
            "test_crun_names.py::test_crun_1_28_a_cgroups_path_stays_below_where_it_counts_from",
            "test_crun_names.py::test_crun_1_28_no_folder_is_made_outside_of_the_hierarchies",
        ),
        (Edit("ocirt/config/check.py", '    if ".." in cgroups_path.split("/"):\n', "    if False:\n"),),
    ),
    "any unit name (crun 1.28)": Removal(
        ("test_crun_names.py::test_crun_1_28_a_unit_of_systemds_has_a_folder_below_its_slice",),
        (Edit("ocirt/cgroups/systemd/unit.py", "    if wrong:\n        allowed", "    if False:\n        allowed"),),
    ),
    "dots in exec --cgroup (crun 1.29)": Removal(
        (
            "test_crun_names.py::test_crun_1_29_a_cgroup_of_an_exec_is_below_the_containers",
            "test_crun_names.py::test_crun_1_29_an_exec_cannot_be_put_above_its_container",
        ),
        (Edit("ocirt/cgroups/below.py", '        if ".." in parts:\n', "        if False:\n"),),
    ),
    "getcwd (CVE-2024-21626 in crun)": Removal(
        (
            "test_crun_directory.py::test_cve_2024_21626_a_working_directory_outside_of_the_root_is_refused",
            "test_crun_directory.py::test_cve_2024_21626_that_of_an_exec_too",
            "test_crun_directory.py::test_cve_2024_21626_a_folder_that_is_gone_is_refused_in_an_exec",
        ),
        (
            Edit(
                _PROCESS,
                '    plan.call("getcwd", where, PATH_MAX)\n'
                '    plan.expect(Field(where, 0), ord("/"), width=1, errno=ENOENT)\n',
                "",
            ),
        ),
    ),
    "descriptors stay (surface)": Removal(
        (
            "test_surface_container.py::test_a_program_has_nothing_of_the_hosts",
            "test_surface_container.py::test_an_exec_has_nothing_of_the_hosts",
        ),
        (
            Edit(
                _PROCESS,
                '    scope.plan.call("close_range", scope.plan.control, LAST_DESCRIPTOR, CLOSE_RANGE_CLOEXEC)\n',
                "",
            ),
        ),
    ),
    "init is not hidden (surface)": Removal(
        (
            "test_surface_container.py::test_a_waiting_init_shows_nothing_to_an_exec",
            f"{_NEIGHBOUR_TESTS}a_container_that_is_made_in_the_same_pid_namespace_cannot_be_looked_into",
        ),
        (
            Edit(
                "ocirt/plan/namespaces.py",
                '    if facts.unprivileged:\n        return\n    if "pid"',
                '    return\n    if "pid"',
            ),
        ),
    ),
    "an exec is not hidden (CVE-2016-9962)": Removal(
        (f"{_NEIGHBOUR_TESTS}cve_2016_9962_an_exec_cannot_be_looked_into",),
        (
            Edit(
                _ENTER,
                '    scope.plan.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)\n',
                '    scope.plan.call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)\n',
            ),
        ),
    ),
    "an exec is seen with the host's root (CVE-2016-9962)": Removal(
        (f"{_NEIGHBOUR_TESTS}cve_2016_9962_with_cap_sys_ptrace_nothing_of_the_host_is_in_an_exec",),
        (
            Edit(
                _ENTER,
                "    if entrance.namespaces & CLONE_NEWUSER:\n        _enter_user_namespace",
                "    if True:\n        _enter_user_namespace",
            ),
            Edit(_ENTER, "    namespaces.be_root(scope, pointer)\n\n\ndef _meet_host", "\n\ndef _meet_host"),
            Edit(_ENTER, '    scope.joined = {"user": pointer}\n', ""),
        ),
    ),
    "whatever passwd is (CVE-2024-9676)": Removal(
        (f"{_ROOTFS_TESTS}", f"{_ROOTFS_TESTS}"),
        (_KIND,),
    ),
    "all of passwd (CVE-2024-9676)": Removal(
        (f"{_ROOTFS_TESTS}",),
        (Edit("ocirt/host/passwd.py", "MAX_SIZE = 1 << 20\n", "MAX_SIZE = 1 << 30\n"),),
    ),
    "the host's passwd (CVE-2024-9676)": Removal(
        (f"{_ROOTFS_TESTS}",),
        (_RESOLVE,),
    ),
}

if __name__ == "__main__":
    import without

    if "OCIRT_ALONE" not in os.environ:
        without.alone()
    os.chdir(without.REPOSITORY)
    without.REMOVALS = REMOVALS
    sys.exit(without.main(sys.argv[1:]))
