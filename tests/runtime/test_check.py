"""check: every problem at once, where it stands, and what was probably meant."""

from __future__ import annotations

import copy
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from full_config import FULL
from jsonschema import Draft202012Validator
from support import Bundle, Runtime, default_config

from ocirt.config.load import load
from ocirt.config.schema import ERROR, WARNING, Problem, meant, schema, schema_problems
from ocirt.errors import ConfigError
from ocirt.runtime.check import Repaired, check
from ocirt.runtime.check_host import host_problems

CONFIGS = Path(__file__).parents[1] / "configs"


def found(bundle: Bundle) -> dict[str | None, Problem]:
    """pointer → problem; each pointer has one."""
    bundle.write()
    problems = check(str(bundle.path)).problems
    by_pointer = {problem.pointer: problem for problem in problems}
    assert len(by_pointer) == len(problems), [str(problem) for problem in problems]
    return by_pointer


def test_a_good_bundle_has_no_problem(bundle: Bundle) -> None:
    report = check(str(bundle.path))
    assert report.ok
    assert report.problems == []
    assert report.summary() == f"{bundle.path}/config.json: ok: 0 errors, 0 warnings"


def test_eight_mistakes_are_eight_problems_in_one_run(bundle: Bundle) -> None:
    config = bundle.config
    config["ociVersion"] = "one"
    config["process"]["user"]["uid"] = "root"
    config["process"]["cwd"] = "tmp"
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILES", "soft": 1, "hard": 1}]
    config["process"]["env"].append("NOVALUE")
    config["root"]["readonly"] = 1
    del config["mounts"][2]["destination"]
    config["linux"]["namespaces"][0]["type"] = "pids"
    problems = found(bundle)
    assert {pointer: problem.message for pointer, problem in problems.items()} == {
        "/ociVersion": 'expected a version such as 1.3.0, got "one"',
        "/process/user/uid": 'expected an integer, got "root"',
        "/process/cwd": 'expected an absolute path, got "tmp"',
        "/process/rlimits/0/type": 'unknown resource limit "RLIMIT_NOFILES"',
        "/process/env/2": 'expected NAME=value, got "NOVALUE"',
        "/root/readonly": "expected true or false, got 1",
        "/mounts/2/destination": "expected a value: this property is required, got nothing",
        "/linux/namespaces/0/type": 'unknown namespace type "pids"',
    }
    assert {problem.level for problem in problems.values()} == {ERROR}
    assert problems["/process/rlimits/0/type"].hint == "did you mean RLIMIT_NOFILE?"
    assert problems["/linux/namespaces/0/type"].hint == "did you mean pid?"
    assert (problems["/process/cwd"].expected, problems["/process/cwd"].got) == ("an absolute path", '"tmp"')


def test_each_problem_has_the_line_and_the_column_of_its_value(bundle: Bundle) -> None:
    bundle.config["process"]["cwd"] = "wrong-cwd"
    bundle.config["mounts"][4]["options"].append(["wrong-option"])
    bundle.config["hostname"] = {"wrong": "hostname"}
    problems = found(bundle)
    lines = (bundle.path / "config.json").read_text().splitlines()
    for pointer, text in {"/process/cwd": '"wrong-cwd"', "/hostname": '"hostname": {'}.items():
        assert text in lines[problems[pointer].line - 1]
        name = f'"{pointer.rpartition("/")[2]}":'
        assert lines[problems[pointer].line - 1][problems[pointer].column - 1 :].startswith(name)
    option = problems["/mounts/4/options/3"].line
    assert lines[option - 1].strip() == "["
    assert "wrong-option" in lines[option]
    order = [(problem.line, problem.column) for problem in check(str(bundle.path)).problems]
    assert order == sorted(order)


def test_problems_of_all_kinds_come_in_one_run(bundle: Bundle) -> None:
    """The schema's, load's own, the compiler's, and the host's: none hides another."""
    config = bundle.config
    config["process"]["noNewPrivileges"] = "yes"
    config["process"]["rlimits"] = [
        {"type": "RLIMIT_CORE", "soft": 9, "hard": 1},
        {"type": "RLIMIT_CPU", "soft": 9, "hard": 9},
        {"type": "RLIMIT_CPU", "soft": 9, "hard": 9},
    ]
    config["linux"]["resources"]["pids"] = {"limit": -7}
    config["mounts"] += [
        {"destination": "/a", "type": "tmpfs", "options": ["idmap"]},
        {"destination": "/b", "source": "/does/not/exist", "options": ["bind"]},
        {"destination": "/c", "source": "/nor/does/this", "options": ["bind", "ro"]},
        {"destination": "/d", "type": "ramfs", "options": ["ro", "tmpcopyup"]},
        {"destination": "/"},
    ]
    problems = found(bundle)
    assert {pointer: problem.code for pointer, problem in problems.items()} == {
        "/process/noNewPrivileges": "schema",
        "/process/rlimits/0/soft": "config",
        "/process/rlimits/2/type": "config",
        "/linux/resources/pids/limit": "config",
        "/mounts/7/options/0": "config",
        "/mounts/8/source": "config",
        "/mounts/9/source": "config",
        "/mounts/10/options/1": "config",
        "/mounts/11/type": "config",
    }
    assert {problem.level for problem in problems.values()} == {ERROR}
    assert "/nor/does/this" in problems["/mounts/9/source"].message
    assert problems["/process/rlimits/2/type"].message == "RLIMIT_CPU is set twice, first at /process/rlimits/1"


def test_problems_of_a_profile_and_of_hooks_hide_none_of_the_others(bundle: Bundle) -> None:
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOWED",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99999},
            {"names": [], "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["chroot"],
                "action": "SCMP_ACT_KILL",
                "errnoRet": 1,
                "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQUAL"}],
            },
            {"names": ["getppid", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
        ],
    }
    bundle.config["hooks"] = {
        "prestart": [{"path": "relative"}, {"path": "/bin/sh", "timeout": 0}, {"path": "/bin/sh", "env": ["x"]}],
        "poststop": [{"path": "/does/not/exist"}],
    }
    assert {pointer: problem.level for pointer, problem in found(bundle).items()} == {
        "/linux/seccomp/defaultAction": ERROR,
        "/linux/seccomp/flags/0": ERROR,
        "/linux/seccomp/syscalls/0/errnoRet": ERROR,
        "/linux/seccomp/syscalls/1/names": ERROR,
        "/linux/seccomp/syscalls/3/names/1": WARNING,
        "/linux/seccomp/syscalls/2/errnoRet": ERROR,
        "/linux/seccomp/syscalls/2/args/0/index": ERROR,
        "/linux/seccomp/syscalls/2/args/0/op": ERROR,
        "/hooks/prestart/0/path": ERROR,
        "/hooks/prestart/1/timeout": ERROR,
        "/hooks/prestart/2/env/0": ERROR,
        "/hooks/poststop/0/path": ERROR,
    }


def test_a_pointer_in_a_message_counts_what_was_taken_out(bundle: Bundle) -> None:
    bundle.config["linux"]["namespaces"] = [
        {"type": kind} for kind in ("nonsense", "mount", "uts", "pid", "user", "pid")
    ]
    problems = found(bundle)
    assert set(problems) == {"/linux/namespaces/0/type", "/linux/namespaces/5/type", "/linux/uidMappings"}
    assert problems["/linux/namespaces/5/type"].message == "a second pid namespace, after /linux/namespaces/3"


MISSING: list[tuple[tuple[str, ...], str]] = [
    (("ociVersion",), "/ociVersion"),
    (("root",), "/root"),
    (("root", "path"), "/root/path"),
    (("process",), "/process"),
    (("process", "cwd"), "/process/cwd"),
    (("process", "args"), "/process/args"),
    (("process", "user"), "/process/user"),
    (("process", "user", "uid"), "/process/user/uid"),
    (("process", "user", "gid"), "/process/user/gid"),
    (("linux",), "/linux"),
]


@pytest.mark.parametrize(("path", "pointer"), MISSING, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_missing_is_one_problem_and_hides_none(bundle: Bundle, path: tuple[str, ...], pointer: str) -> None:
    bundle.config["mounts"].append({"destination": "/x", "source": "/does/not/exist", "options": ["bind"]})
    place = bundle.config
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    if path[0] == "linux":
        del bundle.config["hostname"]  # which needs one of the namespaces
    assert set(found(bundle)) == {pointer, "/mounts/7/source"}


@pytest.mark.parametrize("name", ["height", "width"])
def test_a_missing_part_of_an_optional_value_hides_nothing(bundle: Bundle, name: str) -> None:
    """What is around it is taken out of the copy, since it cannot be good without."""
    bundle.config["process"]["consoleSize"] = {"height": 1, "width": 2}
    del bundle.config["process"]["consoleSize"][name]
    bundle.config["process"]["args"] = []
    assert set(found(bundle)) == {f"/process/consoleSize/{name}", "/process/args"}


def test_null_for_an_array_or_an_object_is_a_warning(bundle: Bundle) -> None:
    bundle.config["hooks"] = None
    bundle.config["linux"]["maskedPaths"] = None
    bundle.config["process"]["rlimits"] = None
    report = check(str(bundle.write().path))
    assert report.ok
    assert [(problem.level, problem.pointer) for problem in report.problems] == [
        (WARNING, "/process/rlimits"),
        (WARNING, "/linux/maskedPaths"),
        (WARNING, "/hooks"),
    ]
    assert all(problem.got == "null" for problem in report.problems)


@pytest.mark.parametrize("pointer", ["/hostname", "/process/cwd", "/process/terminal", "/process/user/uid"])
def test_null_for_anything_else_is_an_error(bundle: Bundle, pointer: str) -> None:
    place: Any = bundle.config
    *parents, last = pointer.split("/")[1:]
    for name in parents:
        place = place[name]
    place[last] = None
    problems = found(bundle)
    assert set(problems) == {pointer}
    assert problems[pointer].level == ERROR


@pytest.mark.parametrize(
    ("path", "name", "near"),
    [
        ((), "Mounts", "mounts"),
        ((), "anotations", "annotations"),
        (("process",), "noNewPriviliges", "noNewPrivileges"),
        (("process",), "capabilites", "capabilities"),
        (("linux",), "maskedPath", "maskedPaths"),
        (("linux", "resources"), "hugePageLimits", "hugepageLimits"),
        (("mounts", "0"), "optoins", "options"),
    ],
)
def test_a_property_that_is_nearly_a_known_one_is_a_warning(
    bundle: Bundle, path: tuple[str, ...], name: str, near: str
) -> None:
    place: Any = bundle.config
    for part in path:
        place = place[int(part)] if part.isdigit() else place[part]
    place.pop(near, None)
    place[name] = None
    problem = found(bundle)["/".join(("", *path, name))]
    assert (problem.level, problem.hint) == (WARNING, f"did you mean {near}?")


def test_a_property_that_nobody_knows_is_ignored_as_the_specification_demands(bundle: Bundle) -> None:
    bundle.config["com.example.extension"] = {"cwd": 7}
    bundle.config["annotations"] = {"mount": "x", "cdw": "y"}
    bundle.config["linux"]["resources"]["unified"] = {}
    bundle.config["process"]["zzz"] = [1]
    assert found(bundle) == {}


def test_an_unknown_capability_is_a_warning_with_a_guess(bundle: Bundle) -> None:
    bundle.config["process"]["capabilities"]["bounding"] = ["CAP_CHWON", "CAP_KILL"]
    problem = found(bundle)["/process/capabilities/bounding/0"]
    assert (problem.level, problem.hint) == (WARNING, "did you mean CAP_CHOWN?")


def test_what_this_host_lacks_is_told_all_at_once(bundle: Bundle) -> None:
    config = bundle.config
    config["process"]["args"] = ["/bin/no-such-program"]
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2**62}]
    config["mounts"] += [
        {"destination": "/a", "type": "tmpsf"},
        {"destination": "/b", "source": "/does/not/exist", "options": ["rbind"]},
    ]
    problems = found(bundle)
    assert {pointer: (problem.level, problem.code) for pointer, problem in problems.items()} == {
        "/process/args/0": (WARNING, "host"),
        "/process/rlimits/0/hard": (ERROR, "host"),
        "/mounts/7/type": (WARNING, "host"),
        "/mounts/8/source": (ERROR, "config"),
    }
    most = Path("/proc/sys/fs/nr_open").read_text().strip()
    limit = problems["/process/rlimits/0/hard"]
    assert (limit.expected, limit.got) == (f"at most {most}", str(2**62))
    assert problems["/mounts/7/type"].hint == "did you mean tmpfs?"


def rule(spec: dict[str, Any], rootfs: Path) -> list[tuple[str, str | None, str]]:
    return [(one.level, one.pointer, one.message) for one in host_problems(default_config() | spec, str(rootfs))]


def test_a_hook_of_the_host_must_be_an_executable_file(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    hooks = {
        "prestart": [{"path": "/bin/sh"}, {"path": "/no/hook"}],
        "poststop": [{"path": str(tmp_path / "text")}, {"path": str(tmp_path)}],
        "startContainer": [{"path": "/in/the/container"}],
        "poststart": None,
    }
    assert rule({"hooks": hooks}, bundle.rootfs) == [
        (ERROR, "/hooks/prestart/1/path", "/no/hook: No such file or directory"),
        (ERROR, "/hooks/poststop/0/path", f"{tmp_path}/text: not an executable file"),
        (ERROR, "/hooks/poststop/1/path", f"{tmp_path}: not an executable file"),
    ]


def test_an_agent_that_does_not_listen_yet_is_a_warning(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    for there in (None, "file", "socket"):
        if there == "file":
            path.touch()
        elif there == "socket":
            path.unlink()
            with socket.socket(socket.AF_UNIX) as agent:
                agent.bind(str(path))
        problems = {pointer: problem.level for pointer, problem in found(bundle).items()}
        assert problems == ({} if there == "socket" else {"/linux/seccomp/listenerPath": WARNING})


def test_processors_and_memory_nodes_must_be_there(bundle: Bundle) -> None:
    there = Path("/sys/devices/system/cpu/online").read_text().strip()
    assert rule({"linux": {"resources": {"cpu": {"cpus": there, "mems": "0"}}}}, bundle.rootfs) == []
    assert rule({"linux": {"resources": {"cpu": {"cpus": "0,6000"}}}}, bundle.rootfs) == [
        (ERROR, "/linux/resources/cpu/cpus", f"expected some of the processors {there}, got 0,6000")
    ]
    assert [one[1] for one in rule({"linux": {"memoryPolicy": {"nodes": "900"}}}, bundle.rootfs)] == [
        "/linux/memoryPolicy/nodes"
    ]


def test_an_unknown_sysctl_is_a_warning_in_both_spellings(bundle: Bundle) -> None:
    settings = {"kernel.shmmax": "1", "kernel/shmmax": "1", "net.ipv4.conf.lo.no": "1", "net/ipv4/conf/lo.1/no": "1"}
    assert rule({"linux": {"sysctl": settings}}, bundle.rootfs) == [
        (WARNING, "/linux/sysctl/net.ipv4.conf.lo.no", "there is no /proc/sys/net/ipv4/conf/lo/no on this host"),
        (
            WARNING,
            "/linux/sysctl/net~1ipv4~1conf~1lo.1~1no",
            "there is no /proc/sys/net/ipv4/conf/lo.1/no on this host",
        ),
    ]


@pytest.mark.parametrize(
    ("args", "env", "mounts", "is_there"),
    [
        (["/bin/true"], [], [], True),
        (["/bin/no"], [], [], False),
        (["/link"], [], [], False),
        (["bin/true"], [], [], True),
        (["true"], ["PATH=/no:/bin"], [], True),
        (["true"], ["PATH=/bin", "PATH=/no"], [], False),
        (["/usr/no"], [], [{"destination": "/usr"}], True),
        (["/usr/no"], [], [{"destination": "usr/../usr/"}], True),
        (["/usr/no"], [], [{"destination": "/us"}], False),
    ],
)
def test_a_program_that_is_nowhere_is_a_warning(
    bundle: Bundle, args: list[str], env: list[str], mounts: list[dict[str, Any]], is_there: bool
) -> None:
    """A link out of the root leads to nothing there; what a mount covers cannot be known."""
    (bundle.rootfs / "link").symlink_to(Path("/../../..") / bundle.path / "config.json")
    config = default_config(args=args, env=env)
    problems = rule({"process": config["process"], "mounts": mounts}, bundle.rootfs)
    assert [(level, pointer) for level, pointer, _ in problems] == ([] if is_there else [(WARNING, "/process/args/0")])


@pytest.mark.parametrize("verb", ["create", "run", "explain"])
def test_other_verbs_name_the_first_problem_and_count_the_others(bundle: Bundle, runtime: Runtime, verb: str) -> None:
    bundle.config["process"]["cwd"] = "tmp"
    bundle.config["process"]["args"] = []
    bundle.config["mounts"].append({"destination": "/b", "source": "/does/not/exist", "options": ["bind"]})
    bundle.config["mounts"].append({"destination": "/c", "type": "tmpfs", "options": ["size=1", 2]})
    words = {"explain": [bundle.path]}.get(verb, ["--bundle", bundle.path, "c"])
    first, *others = [problem for problem in check(str(bundle.write().path)).problems if problem.level == ERROR]
    done = runtime(verb, *words)
    assert done.code == 1
    assert done.err.endswith(f" (and {len(others)} more: ocirt check {bundle.path})\n")
    assert len(others) == 3
    named = next(problem for problem in (first, *others) if problem.pointer == "/mounts/8/options/1")
    assert f"{bundle.path}/config.json:{named.line}:{named.column}: {named.pointer}: {named.message} (" in done.err


def test_what_only_the_host_refuses_is_counted_too(bundle: Bundle, runtime: Runtime) -> None:
    for name in ("/b", "/c"):
        bundle.config["mounts"].append({"destination": name, "source": f"/no{name}", "options": ["bind"]})
    done = runtime("create", "--bundle", bundle.write().path, "c")
    assert (
        "/mounts/7/source: /no/b: No such file or directory (a bind mount's source must exist on the host; and 1 more: "
        in done.err
    )


def test_a_single_problem_counts_no_others(bundle: Bundle, runtime: Runtime) -> None:
    bundle.config["process"]["cwd"] = "tmp"
    assert "more" not in runtime("create", "--bundle", bundle.write().path, "c").err


def test_very_many_problems_are_counted_up_to_a_point(bundle: Bundle, runtime: Runtime) -> None:
    bundle.config["process"]["env"] = ["x"] * 200
    assert "(and at least 49 more: " in runtime("create", "--bundle", bundle.write().path, "c").err


def test_what_is_no_json_has_a_line_and_a_column(bundle: Bundle) -> None:
    (bundle.path / "config.json").write_text('{\n "ociVersion": "1.0.0",\n "root": }\n')
    report = check(str(bundle.path))
    (problem,) = report.problems
    assert not report.ok
    assert (problem.line, problem.column) == (3, 10)
    assert report.place(problem) == f"{bundle.path}/config.json:3:10: "
    assert problem.message.startswith("not JSON")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "expected an object, got an empty array"),
        ("null", "expected an object, got null"),
        ('"x"', 'expected an object, got "x"'),
        ('{"a": 1, "a": 2}', 'the key "a" stands twice'),
        ('{"a": NaN}', "NaN is not"),
        ("[" * 100000, "nested too deeply"),
        ('{"x": ' + "[" * 700 + "]" * 700 + "}", "nested too deeply"),
        ('{"ociVersion": "\\ud800", "x": "\\u0000"}', "expected a version"),
    ],
    ids=lambda text: text[:12],
)
def test_whatever_the_text_is_check_answers(bundle: Bundle, text: str, message: str) -> None:
    (bundle.path / "config.json").write_text(text)
    report = check(str(bundle.path))
    assert not report.ok
    assert any(message in problem.message for problem in report.problems), [str(p) for p in report.problems]
    assert all(str(problem).isprintable() for problem in report.problems)


def test_the_first_error_is_in_the_words_of_create(bundle: Bundle) -> None:
    """Where the schema finds what load finds, both say the same."""
    for path, value in {
        ("process", "cwd"): "x",
        ("process", "args"): [],
        ("process", "terminal"): "x",
        ("process", "env"): ["x"],
        ("process", "user"): {"uid": -1, "gid": 0},
        ("root", "path"): 5,
        ("root", "readonly"): None,
        ("linux", "maskedPaths"): ["x"],
        ("linux", "namespaces"): [{"type": "mount"}, {}],
    }.items():
        config = copy.deepcopy(bundle.config)
        config[path[0]][path[1]] = value
        (bundle.path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError) as caught:
            load(str(bundle.path))
        first = check(str(bundle.path)).problems[0]
        assert (first.pointer, first.message) == (caught.value.pointer, caught.value.message)


def test_a_thousand_problems_are_told_in_reasonable_time(bundle: Bundle) -> None:
    bundle.config["process"]["env"] = ["x"] * 200
    bundle.config["mounts"] += [{"destination": "/x", "source": "/no", "options": ["bind"]}] * 40
    assert len(found(bundle)) == 240


def test_taking_out_keeps_the_way_back_to_the_original_pointers() -> None:
    spec = {"a": [0, 1, 2, 3], "b": [{"c": [0, 1]}, {"c": [0, 1]}], "process": {"args": ["", "x"]}}
    repaired = Repaired(spec, {"/a/1", "/b/0/c", "/process/args/0"})
    assert repaired.spec == {"a": [0, 2, 3], "b": [{"c": [0, 1]}], "process": {"args": ["sh"]}}
    assert repaired.original("/a/1") == "/a/2"
    assert repaired.original("/b/0/c/1") == "/b/1/c/1"
    assert spec["a"] == [0, 1, 2, 3]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_the_configurations_of_engines_are_valid(path: Path) -> None:
    """Captured from engines: at most nulls are wrong with them, and no property of theirs looks like a slip."""
    spec = json.loads(path.read_text())
    assert [str(problem) for problem in schema_problems(spec) if problem.level == ERROR] == []
    assert [str(problem) for problem in schema_problems(spec) if "unknown property" in problem.message] == []


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema())))
    assert references == set(schema()["$defs"])


def test_a_full_configuration_is_valid_and_each_of_its_values_is_checked() -> None:
    """FULL has every property of the Linux part: a value of the wrong type is found at each."""
    assert [str(problem) for problem in schema_problems(FULL)] == []
    for pointer in leaves(FULL, ""):
        spoiled = copy.deepcopy(FULL)
        place: Any = spoiled
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        place[int(last) if isinstance(place, list) else last] = {"neither": "this"}
        assert [problem.pointer for problem in schema_problems(spoiled) if problem.level == ERROR] == [pointer]


@pytest.mark.parametrize(
    ("pointer", "value", "where", "message"),
    [
        (
            "/linux/resources/blockIO",
            {"weightDevice": [{"major": 8, "minor": 0}]},
            "/weightDevice/0",
            "expected weight, leafWeight or both, got nothing",
        ),
        ("/linux/resources/rdma", {"mlx5_1": {}}, "/mlx5_1", "expected hcaHandles, hcaObjects or both, got nothing"),
        (
            "/linux/intelRdt",
            {"memBwSchema": "0=5"},
            "/memBwSchema",
            'expected a single line that begins with MB:, got "0=5"',
        ),
        (
            "/linux/seccomp",
            {"defaultAction": "SCMP_ACT_LOG", "listenerMetadata": "m"},
            "/listenerPath",
            "expected a value: this property is required, got nothing",
        ),
        (
            "/process/ioPriority",
            {"class": "IOPRIO_CLASS_BE"},
            "/priority",
            "expected a value: this property is required, got nothing",
        ),
        (
            "/mounts",
            [{"destination": "/x", "uidMappings": []}],
            "/0/gidMappings",
            "expected a value: this property is required, got nothing",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("/") else "",
)
def test_what_the_specification_says_of_several_values_is_in_the_schema(
    pointer: str, value: Any, where: str, message: str
) -> None:
    spec = json.loads(json.dumps(FULL))
    place = spec
    *parents, last = pointer.split("/")[1:]
    for name in parents:
        place = place[name]
    place[last] = value
    assert [(one.pointer, one.message) for one in schema_problems(spec)] == [(pointer + where, message)]


def leaves(value: Any, pointer: str) -> list[str]:
    if isinstance(value, dict):
        names = [(name.replace("~", "~0").replace("/", "~1"), member) for name, member in value.items()]
        return [leaf for name, member in names for leaf in leaves(member, f"{pointer}/{name}")]
    if isinstance(value, list):
        return [leaf for index, member in enumerate(value) for leaf in leaves(member, f"{pointer}/{index}")]
    return [pointer]


@pytest.mark.parametrize(
    ("word", "near"), [("shard", "did you mean shared?"), ("SHARED", "did you mean shared?"), ("x", "")]
)
def test_a_guess_is_only_made_for_what_is_near(word: str, near: str) -> None:
    assert meant(word, ["shared", "private"]) == near
