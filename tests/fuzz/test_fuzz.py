"""The fuzz targets for two seconds each, so that they work when CI runs them for longer (run.sh)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fuzz.corpus import seeds
from fuzz.fuzz_config import Fuzzer, fuzz
from init.running import need

FOLDER = Path(__file__).parent


def test_the_decoder_has_no_finding(tmp_path: Path) -> None:
    need("clang", packages="clang libclang-rt-14-dev")
    program = tmp_path / "fuzz_decode"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fno-sanitize-recover=all"]
    flags.append("-fsanitize=fuzzer,address,undefined")
    subprocess.run(["clang", *flags, "-o", program, FOLDER / "fuzz_decode.c"], check=True)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, content in seeds().items():
        (corpus / name).write_bytes(content)
    done = subprocess.run(
        [program, "-max_total_time=2", "-max_len=131072", "-timeout=5", f"-artifact_prefix={tmp_path}/", corpus],
        capture_output=True,
        text=True,
        env={"ASAN_OPTIONS": "detect_leaks=0"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # It reaches the end of what it tests: the seeds alone cover that.
    assert "cov: " in done.stderr


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
