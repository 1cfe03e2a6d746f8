"""The fuzz targets for two seconds each, so that they work when CI runs them for longer (run.sh)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from fuzz.corpus import seeds
from fuzz.fuzz_config import Fuzzer, fuzz
from init.running import need
from support import REPOSITORY

from ocirt.plan.encode import encode
from ocirt.plan.step import Plan

FOLDER = Path(__file__).parent


def compiled(target: str, folder: Path, source: Path = FOLDER) -> Path:
    need("clang", packages="clang libclang-rt-14-dev")
    program = folder / target
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fno-sanitize-recover=all"]
    flags.append("-fsanitize=fuzzer,address,undefined")
    subprocess.run(["clang", *flags, "-o", program, source / f"{target}.c"], check=True)
    return program


def fuzzed(program: Path, tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, content in seeds().items():
        (corpus / name).write_bytes(content)
    return subprocess.run(
        [program, "-max_len=131072", "-timeout=20", f"-artifact_prefix={tmp_path}/", *flags, corpus],
        capture_output=True,
        text=True,
        env={"ASAN_OPTIONS": "detect_leaks=0"},
        check=False,
    )


@pytest.mark.parametrize("target", ["fuzz_decode", "fuzz_init"])
def test_init_has_no_finding(target: str, tmp_path: Path) -> None:
    done = fuzzed(compiled(target, tmp_path), tmp_path, "-max_total_time=2")
    assert done.returncode == 0, done.stderr[-4000:]
    # It reaches the end of what it tests: the seeds alone cover that.
    assert "cov: " in done.stderr


def test_the_fuzzer_sees_a_write_to_where_no_memory_was_mapped(tmp_path: Path) -> None:
    """What it once found: WAIT wrote wherever its register said. The check is taken out again."""
    source = tmp_path / "tests" / "fuzz"
    shutil.copytree(REPOSITORY / "ocirt" / "init", tmp_path / "ocirt" / "init")
    source.mkdir(parents=True)
    shutil.copy(FOLDER / "fuzz_init.c", source)
    init = tmp_path / "ocirt" / "init" / "init.c"
    text = init.read_text()
    assert "if (!address || address != words_at)" in text
    init.write_text(text.replace("if (!address || address != words_at)", "if (!address)"))
    astray = Plan("x86_64", control=3)
    astray.wait(astray.load("words", 0x1000), astray.load("value", 1), 5)
    corpus = tmp_path / "one"
    corpus.write_bytes(encode(astray).content + b"x\1\0")  # of an odd size: it does not go ahead
    done = subprocess.run(
        [compiled("fuzz_init", tmp_path, source), corpus],
        capture_output=True,
        text=True,
        env={"ASAN_OPTIONS": "detect_leaks=0"},
        check=False,
    )
    assert done.returncode != 0
    assert "caused by a WRITE memory access" in done.stderr  # where, only a symbolizer could say


def test_configurations_end_in_an_error_or_a_plan(tmp_path: Path) -> None:
    fuzzer = fuzz(2, 20240607, tmp_path)
    assert not fuzzer.findings, "\n\n".join(fuzzer.findings[:3])
    assert fuzzer.outcomes["plan"] > 20
    assert fuzzer.outcomes["ConfigError"] > 20


def test_the_fuzzer_sees_an_exception_that_is_no_error_of_ours() -> None:
    fuzzer = Fuzzer(1)
    fuzzer.try_one = lambda text: 1 // 0  # type: ignore[assignment,method-assign,return-value]
    fuzzer.step()
    assert "ZeroDivisionError" in fuzzer.findings[0]
