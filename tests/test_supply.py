"""What a build takes from others: pinned, with hashes, and listed beside what is built."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import OCIRT, REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
RUN = PROJECT["project"]["dependencies"]


def extra(name: str) -> list[str]:
    """What an extra asks for, those included that it asks for by ours."""
    lines = [(line, re.fullmatch(r"ocirt\[(\w+)\]", line)) for line in EXTRAS[name]]
    return [one for line, own in lines for one in (extra(own[1]) if own else [line])]


ASKED = {
    "build": PROJECT["build-system"]["requires"],
    "run": RUN,
    "test": RUN + extra("test"),
    "test-engines": RUN + extra("test") + extra("engines"),
}
LINE = re.compile(r"([a-z0-9.-]+)==([0-9][A-Za-z0-9.+!-]*)((?: --hash=sha256:[0-9a-f]{64})+)")


def pinned(name: str) -> dict[str, str]:
    """Package → version. Each line is checked: a version, and hashes, and nothing else."""
    text = (REPOSITORY / "requirements" / f"{name}.txt").read_text().replace(" \\\n", "\n")
    lines = [re.sub(r"\s+#.*|^#.*", "", line).strip() for line in text.splitlines()]
    joined = re.sub(r"\n--hash", " --hash", "\n".join(line for line in lines if line))
    found = {}
    for line in joined.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        found[match[1]] = match[2]
    return found


def names(asked: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", one)[0].lower().replace("_", "-").replace(".", "-") for one in asked}


@pytest.mark.parametrize("name", ASKED)
def test_all_that_is_asked_for_has_a_version_and_hashes(name: str) -> None:
    found = pinned(name)
    assert names(ASKED[name]) <= set(found)
    for asked in ASKED[name]:
        least = re.search(r">=([0-9.]+)", asked)
        package = names([asked]).pop()
        if least:
            assert numbers(found[package]) >= numbers(least[1]), asked
        most = re.search(r"<([0-9.]+)", asked)
        if most:
            assert numbers(found[package]) < numbers(most[1]), asked


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"[0-9]+", version)]


def test_a_package_has_one_version_wherever_it_is_listed() -> None:
    versions: dict[str, set[str]] = {}
    for name in ASKED:
        for package, version in pinned(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_the_lists_are_what_make_installs_and_name_no_index() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    assert makefile.count("--require-hashes") == 2
    assert re.findall(r"pip install(?! --quiet --disable-pip-version-check\n)", makefile) == []
    for path in (REPOSITORY / "requirements").iterdir():
        assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", path.read_text()), path


def test_pip_refuses_a_package_with_another_hash(tmp_path: Path) -> None:
    """The lists are of use only with pip's own check: it has to be in force."""
    (tmp_path / "wheel").mkdir()
    wheel = tmp_path / "wheel" / "harmless-1-py3-none-any.whl"
    wheel.write_bytes(b"another one")
    lines = tmp_path / "list.txt"
    lines.write_text("harmless==1 --hash=sha256:" + "0" * 64 + "\n")
    words = [sys.executable, "-m", "pip", "install", "--isolated", "--no-index", "--find-links", tmp_path / "wheel"]
    words += ["--require-hashes", "--no-deps", "--target", tmp_path / "target", "-r", lines]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr


def sbom(output: Path) -> bytes:
    words = [sys.executable, REPOSITORY / "ocirt" / "packaging" / "sbom.py", OCIRT, output]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output.read_bytes()


def test_what_is_carried_is_listed_with_versions_licences_and_hashes(tmp_path: Path) -> None:
    content = sbom(tmp_path / "one.json")
    assert sbom(tmp_path / "two.json") == content
    found = json.loads(content)
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.5", 1)
    main = found["metadata"]["component"]
    assert (main["name"], main["type"], main["version"]) == (
        "ocirt",
        "application",
        PROJECT["project"].get("version", "0.1.0"),
    )
    components = {one["name"]: one for one in found["components"]}
    assert len(components) == len(found["components"])
    assert {"cpython", "libseccomp"} | names(RUN) <= set(components)
    assert not names(EXTRAS["test"]) & set(components)
    for name, one in components.items():
        assert one["type"] == "library"
        assert re.fullmatch(r"pkg:(pypi|generic)/[a-z0-9.-]+@[^@ ]+", one["purl"]), one
        assert one["version"]
        assert one["licenses"][0]["license"]["name"] not in ("", "NOASSERTION"), one
        if name != "cpython":
            (digest,) = one["hashes"]
            assert digest["alg"] == "SHA-256"
            assert re.fullmatch("[0-9a-f]{64}", digest["content"])
    references = [main["bom-ref"], *(one["bom-ref"] for one in found["components"])]
    assert len(set(references)) == len(references)
    assert found["dependencies"] == [{"ref": references[0], "dependsOn": references[1:]}]


def test_the_policy_says_how_to_report_without_an_address_that_nobody_reads() -> None:
    text = (REPOSITORY / "SECURITY.md").read_text()
    assert "private advisory" in text
    assert not re.search(r"[\w.]+@[\w.]+", text)
