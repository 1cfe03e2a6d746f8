"""Both kinds of the executable do the same; the one with Python in it starts nothing and reads next to nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from init.running import need
from launchers import PACKAGES, PYTHON, VERBS, VERSION, build_launcher
from support import OCIRT, REPOSITORY, command

sys.path.insert(0, str(REPOSITORY / "ocirt" / "packaging"))
import embed
from hot import ROOTS
from picture import with_picture

PT_INTERP = 3


def cannot() -> str:
    """Why Python cannot be embedded here; empty if it can."""
    try:
        embed.library()
    except embed.CannotError as error:
        return str(error)
    return ""


embeds = pytest.mark.skipif(bool(cannot()), reason=f"Python cannot be embedded: {cannot()}")


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable without Python, beside the same package."""
    return build_launcher(tmp_path_factory.mktemp("launcher"))


@pytest.fixture(params=["installed", "launcher"])
def executable(request: pytest.FixtureRequest) -> Path:
    return Path(OCIRT) if request.param == "installed" else request.getfixturevalue("launcher")


# Both kinds.


@pytest.mark.parametrize("name", ["nobody", "é", "日本", "-"])
def test_arguments_arrive_as_they_are(executable: Path, name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [executable, "--root", tmp_path, "state", name],
        env={},
        capture_output=True,
        errors="surrogateescape",
        check=False,
    )
    assert done.returncode == 1
    assert f'"{name}"' in done.stderr


def test_a_relative_root_is_of_the_call(executable: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "state").mkdir(parents=True)
        done = command(executable, "--root", "state", "list", "--format", "json", cwd=tmp_path / name)
        assert (done.code, done.out) == (0, "[]\n")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_descriptor_becomes_dev_null(executable: Path, number: int, tmp_path: Path) -> None:
    words = f'exec {number}>&-; exec "$0" --root "$1" state nobody'
    done = subprocess.run(["/bin/sh", "-c", words, executable, tmp_path], env={}, capture_output=True, check=False)
    assert done.returncode == 1


def test_a_reader_that_is_gone_is_no_error(executable: Path, tmp_path: Path) -> None:
    """SIGPIPE is ignored, as Python has it."""
    reader, writer = os.pipe()
    os.close(reader)
    words = ["env", "--default-signal=PIPE", executable, "--root", tmp_path, "list"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_has_its_exit_code_and_no_traceback(executable: Path, tmp_path: Path) -> None:
    """Whenever it comes; `events` of what is not there ends at once, so it is asked of a file that nobody writes."""
    os.mkfifo(tmp_path / "resources")
    args = ["--root", str(tmp_path), "update", "--resources", str(tmp_path / "resources"), "nobody"]
    for delay in (0, 0.002, 0.005, 0.02, 0.1):
        with subprocess.Popen([executable, *args], env={}, stderr=subprocess.PIPE) as process:
            assert process.stderr
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            err = process.stderr.read()
        assert process.returncode in (1, 130, -2), err
        assert b"Traceback" not in err


def test_debug_has_the_modules_own_files(executable: Path, tmp_path: Path) -> None:
    """Those have line numbers, and can be changed."""
    need("strace", packages="strace")
    opened = traced(tmp_path, executable, "--debug", "--root", tmp_path, "state", "nobody")
    assert [path for path in opened if path.endswith("/ocirt/hot/main.bin")]
    assert [path for path in opened if "/ocirt/runtime/state" in path or "/ocirt/runtime/__pycache__/state" in path]


# With Python in it.


def traced(folder: Path, *words: str | Path) -> list[str]:
    """The files that a command opens and executes, or tries to."""
    record = folder / "strace"
    calls = "trace=open,openat,openat2,execve,stat,newfstatat,readlink,readlinkat,access,faccessat,faccessat2"
    command("strace", "-f", "-e", calls, "-o", record, *words, env={}, cwd=folder)
    return re.findall(
        r'(?:open|openat|openat2|execve|stat|at2?|access|link)\((?:AT_FDCWD, |\d+, )?"([^"]*)"', record.read_text()
    )


def interpreter(path: Path) -> bool:
    """Whether an executable is loaded by ld.so: the launcher is not."""
    image = path.read_bytes()
    at, size, count = (
        int.from_bytes(image[start : start + width], "little") for start, width in ((32, 8), (54, 2), (56, 2))
    )
    return PT_INTERP in [int.from_bytes(image[at + size * index :][:4], "little") for index in range(count)]


def test_the_build_embeds_python_where_it_can(launcher: Path) -> None:
    assert interpreter(Path(OCIRT)) == (not cannot())
    assert not interpreter(launcher)


@embeds
@pytest.mark.parametrize("verb", [verb for verb in ROOTS if verb not in ("create", "run", "list", "update")])
def test_a_hot_verb_executes_nothing_and_reads_nothing_of_pythons(verb: str, tmp_path: Path) -> None:
    need("strace", packages="strace")
    more = {"exec": ("nobody", "true"), "ps": ("--format", "json", "nobody")}.get(verb, ("nobody",))
    opened = traced(tmp_path, OCIRT, "--root", tmp_path / "state", verb, *more)
    assert [path for path in opened if path == OCIRT] == [OCIRT]
    libraries = ("ld.so.cache", "ld.so.preload", "libc.so.6", "libm.so.6")
    ours = [
        path
        for path in opened
        if not path.endswith(libraries) and path not in ("", "/dev/null", "/proc/self/exe", OCIRT)
    ]
    allowed = re.compile(r".*/ocirt/hot/[a-z]*\.bin$")
    assert [path for path in ours if not allowed.match(path) and not path.startswith(str(tmp_path))] == []


@embeds
def test_nothing_is_read_from_the_working_directory(tmp_path: Path) -> None:
    """Not even where modules are missing and are looked for."""
    need("strace", packages="strace")
    (tmp_path / "config.json").write_text('{"ociVersion": "1.0.0"')
    for args in (["create", "one"], ["run", "--bundle", ".", "one"]):
        opened = traced(tmp_path, OCIRT, "--root", tmp_path / "state", *args)
        assert "config.json" in opened or f"{tmp_path}/config.json" in opened
        assert {path for path in opened if path and not path.startswith("/")} <= {".", "config.json"}


@embeds
def test_the_builds_environment_is_not_in_it() -> None:
    assert b"PIP_BUILD_TRACKER" not in Path(OCIRT).read_bytes()


@embeds
def test_other_verbs_become_the_python_that_is_installed(tmp_path: Path) -> None:
    need("strace", packages="strace")
    assert PYTHON in traced(tmp_path, OCIRT, "--help")


# How it is made.


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that takes its picture."""
    need("gcc", packages="gcc")
    output = tmp_path_factory.mktemp("program") / "program"
    defines = [f'-DPYTHON="{PYTHON}"', f'-DVERSION="{VERSION}"', f"-DVERBS={VERBS}"]
    embed.link(["gcc"], output, defines)
    return output


def take_picture(program: Path, folder: Path, code: str, *, profiled: bool = False) -> subprocess.CompletedProcess[str]:
    """Have it execute some lines before the picture is taken; the Python that runs this writes them. profiled: have it
    learn first what rehearse() does with what they make."""
    import marshal

    head = marshal.dumps((compile(code, "test", "exec"), {}))
    (folder / "code").write_bytes(len(head).to_bytes(8, "little") + head)
    words: list[str | Path] = [program, folder / "code", folder / "picture"]
    if profiled:
        words.append(folder / "profile")
        # With the same kinds of files as stdin and stdout: Python starts in the same way then.
        subprocess.run([*words[:2], "", words[3]], env={}, capture_output=True, check=True)
    return subprocess.run(words, env={}, capture_output=True, text=True, check=False)


def finished(program: Path, folder: Path) -> Path:
    """The executable of that picture, beside the package."""
    (folder / "bin").mkdir()
    made = folder / "bin" / "made"
    made.write_bytes(with_picture(program.read_bytes(), (folder / "picture").read_bytes()))
    made.chmod(0o755)
    (folder / "lib" / VERSION).mkdir(parents=True)
    (folder / "lib" / VERSION / "site-packages").symlink_to(PACKAGES)
    return made


@embeds
def test_a_picture_that_depends_on_a_shared_library_is_refused(program: Path, tmp_path: Path) -> None:
    done = take_picture(program, tmp_path, "import mmap\ndef begin(argv, environment): pass")
    assert done.returncode == 1
    assert "something points to what is not in it" in done.stderr
    assert not (tmp_path / "picture").exists()


@embeds
def test_code_that_fails_is_shown(program: Path, tmp_path: Path) -> None:
    done = take_picture(program, tmp_path, "1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@embeds
def test_what_was_made_for_the_picture_is_there_at_each_start(program: Path, tmp_path: Path) -> None:
    """Objects of all sizes, changed and grown by a call, and threads, which have locks of before."""
    code = """
import posix, sys, _thread, _io
numbers = list(range(100_000))
names = {str(number): number for number in range(5000)}
lock = _thread.allocate_lock()
text = "x" * 1_000_000

def count(done):
    names["thread"] = sum(numbers)
    done.release()

def begin(argv, environment):
    numbers.append(1)
    names.update({str(number): -number for number in range(6000)})
    lock.acquire()
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(count, (done,))
    done.acquire()
    pid = posix.fork()
    if pid == 0:
        posix._exit(7)
    child = posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
    print(argv[3:], sorted(environment), names["thread"], names["5999"], len(text + "y"), lock.locked(), child)
    sys.stdout.flush()
    posix._exit(0)
"""
    done = take_picture(program, tmp_path, code)
    assert done.returncode == 0, done.stderr
    made = finished(program, tmp_path)
    for word in ("first", "second"):
        run = command(made, "state", word, env={"A": word})
        expected = (
            f"['{made}', 'state', '{word}'] [b'A={word}', b'LC_ALL=C', b'TZ=UTC0'] 4999950001 -5999 1000001 True 7\n"
        )
        assert (run.code, run.out, run.err) == (0, expected, "")


@embeds
@pytest.mark.parametrize("profiled", [True, False])
def test_what_calls_write_to_lies_together(program: Path, tmp_path: Path, profiled: bool) -> None:
    code = """
import posix
lists = [[number, str(number)] for number in range(20000)]
some = lists[::100]

def rehearse():
    for one in some:
        one[0] = 1

def begin(argv, environment):
    rehearse()
    where = sorted(id(one) for one in some)
    print(where[-10] - where[9], sum(one[0] for one in some), sum(number for number, _ in lists[1::100]), flush=True)
    posix._exit(0)
"""
    done = take_picture(program, tmp_path, code, profiled=profiled)
    assert (done.returncode, done.stderr) == (0, "")
    run = command(finished(program, tmp_path), "state", env={})
    distance, *sums = map(int, run.out.split())
    assert sums == [200, sum(range(1, 20000, 100))]
    assert (distance < 200_000) == profiled


@embeds
def test_a_rehearsal_that_fails_is_shown(program: Path, tmp_path: Path) -> None:
    (tmp_path / "picture").touch()
    code = "def begin(argv, environment): pass\ndef rehearse(): 1 / 0"
    with pytest.raises(subprocess.CalledProcessError):
        take_picture(program, tmp_path, code, profiled=True)


@embeds
def test_memory_is_used_again(program: Path, tmp_path: Path) -> None:
    """`events` and a `run` in the foreground last for days."""
    code = """
import posix, sys

def pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

def work():
    for number in range(1000):
        made = [bytes(size) for size in range(0, 1500, 11)]
        made += [{str(size): [size] * size} for size in range(0, 200, 7)]
        made[0] = bytearray(made[5])
        for _ in range(9):
            made[0] += made[0] + b"x"

def begin(argv, environment):
    found = []
    for _ in range(4):
        work()
        found.append(pages())
    print(found[3] - found[2])
    sys.stdout.flush()
    posix._exit(0)
"""
    assert take_picture(program, tmp_path, code).returncode == 0
    run = command(finished(program, tmp_path), "state")
    assert run.err == ""
    assert int(run.out) < 20  # a thousand times some 300 blocks


def test_a_picture_replaces_the_data_of_a_program(tmp_path: Path) -> None:
    need("gcc", packages="gcc")
    source = tmp_path / "program.c"
    source.write_text(
        "#include <stdio.h>\n"
        "extern char __data_start[], _end[];\n"
        "static int number = 1, later[100000];\n"
        "int main(int argc, char **argv) {\n"
        '    printf("%d %d\\n", number, later[99999]);\n'
        "    number = 2; later[99999] = 3;\n"
        "    unsigned long long start = (unsigned long long)__data_start;\n"
        '    FILE *file = argc > 1 ? fopen(argv[1], "w") : 0;\n'
        "    if (file) {\n"
        "        fwrite(&start, 8, 1, file);\n"
        "        fwrite(__data_start, 1, _end - __data_start, file);\n"
        "        fclose(file);\n"
        "    }\n"
        "}\n"
    )
    program = tmp_path / "program"
    subprocess.run(["gcc", "-no-pie", "-s", "-o", program, source], check=True)
    assert command(program, tmp_path / "picture").out == "1 0\n"
    made = tmp_path / "made"
    made.write_bytes(with_picture(program.read_bytes(), (tmp_path / "picture").read_bytes()))
    made.chmod(0o755)
    assert command(made).out == "2 3\n"


@pytest.mark.parametrize(("wish", "code"), [("0", 0), ("1", 1)])
def test_the_build_can_be_told_whether_to_embed(wish: str, code: int, tmp_path: Path) -> None:
    """With a Python that has no static library: it falls back, unless that is forbidden."""
    lines = f"""
import ocirt_build as b, embed, sys
from setuptools import Distribution
embed.library = lambda: (_ for _ in ()).throw(embed.CannotError("there is no library"))
command = b.BuildLauncher(Distribution())
command.build_dir = {str(tmp_path)!r}
command.run()
"""
    environment = {
        "PYTHONPATH": str(REPOSITORY / "ocirt" / "packaging"),
        "PATH": os.environ["PATH"],
        "OCIRT_EMBED": wish,
    }
    done = subprocess.run([sys.executable, "-c", lines], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "ocirt").exists() == (code == 0)
    if code:
        assert done.stderr.endswith("ocirt: Python cannot be embedded: there is no library\n")
    else:
        assert not interpreter(tmp_path / "ocirt")
