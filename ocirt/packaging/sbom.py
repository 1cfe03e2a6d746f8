"""What is in dist/ocirt, as a CycloneDX 1.5 document: `make dist` writes it beside the executable.

usage: sbom.py EXECUTABLE OUTPUT, by dist.py's own Python. The same build gives the same bytes: there is no
time and no serial number in it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
import re
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1]
PYTHON_LICENCE = "Python-2.0.1"


def installed() -> list[Distribution]:
    """What ocirt asks for, and what that asks for, without extras; in the order of their names."""
    found: dict[str, Distribution] = {}
    left = ["ocirt"]
    while left:
        name = left.pop()
        if name in found:
            continue
        found[name] = distribution(name)
        for line in found[name].requires or ():
            asked, _, marker = line.partition(";")
            if "extra" not in marker and _holds(marker):
                left.append(re.split(r"[^A-Za-z0-9._-]", asked.strip())[0].lower().replace("_", "-"))
    return [found[name] for name in sorted(found) if name != "ocirt"]


def _holds(marker: str) -> bool:
    """Of the markers that packages have for older Pythons and other systems."""
    version = re.search(r'python_version\s*<\s*["\']3\.(\d+)', marker)
    if version:
        return sys.version_info < (3, int(version[1]))
    return "win32" not in marker and "Windows" not in marker


def component(one: Distribution) -> dict[str, Any]:
    """A Python package, with a digest of what is installed of it."""
    name, version = one.metadata["Name"].lower().replace("_", "-"), one.version
    digest = hashlib.sha256()
    for file in sorted(one.files or (), key=str):
        if file.hash and "dist-info" not in str(file) and "__pycache__" not in str(file) and ".." not in file.parts:
            digest.update(f"{file} {file.hash.mode}={file.hash.value}\n".encode())
    purl = f"pkg:pypi/{name}@{version}"
    return _component(name, version, _licence(one), purl, digest.hexdigest())


def _licence(one: Distribution) -> str:
    """Its SPDX expression or, of older packages, what it says instead."""
    metadata: dict[str, Any] = one.metadata.json
    for field in ("license_expression", "license"):
        text = metadata.get(field) or ""
        if text and "\n" not in text:
            return str(text)
    classifiers = [line for line in metadata.get("classifier") or () if line.startswith("License ::")]
    return classifiers[0].rpartition(":: ")[2] if classifiers else "NOASSERTION"


def _component(name: str, version: str, licence: str, purl: str, sha256: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version}
    found["licenses"] = [{"license": {"name": licence}}]
    found["purl"] = purl
    if sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return found


def native() -> list[dict[str, Any]]:
    """CPython, and the libraries that are carried, by their Debian packages where there are any."""
    version = platform.python_version()
    found = [_component("cpython", version, PYTHON_LICENCE, f"pkg:generic/cpython@{version}", "")]
    for soname, name, licence in (("libseccomp.so.2", "libseccomp", "LGPL-2.1-only"), ("libffi.so.8", "libffi", "MIT")):
        path = _path_of(soname)
        if path:
            version = _debian_version(path) or path.name.partition(".so.")[2]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found.append(_component(name, version, licence, f"pkg:generic/{name}@{version}", digest))
    return found


def _path_of(soname: str) -> Path | None:
    try:
        ctypes.CDLL(soname)
    except OSError:
        return None
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.partition("/")[1] + line.partition("/")[2])
        if path.name.startswith(soname.partition(".so")[0] + ".so"):
            return path
    return None


def _debian_version(path: Path) -> str:
    words = ["dpkg-query", "--search", f"*/{path.name}"]
    try:
        owner = subprocess.run(words, capture_output=True, text=True, check=True).stdout.partition(": ")[0]
        words = ["dpkg-query", "--show", "--showformat=${Version}", owner.partition(",")[0]]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def document(executable: Path) -> dict[str, Any]:
    """The whole of it."""
    version = (SOURCE / "__init__.py").read_text().partition('__version__ = "')[2].partition('"')[0]
    main = _component(
        "ocirt",
        version,
        "Apache-2.0",
        f"pkg:generic/ocirt@{version}",
        hashlib.sha256(executable.read_bytes()).hexdigest(),
    )
    main["type"] = "application"
    components = [*native(), *map(component, installed())]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": main},
        "components": components,
        "dependencies": [{"ref": main["bom-ref"], "dependsOn": [one["bom-ref"] for one in components]}],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(document(Path(sys.argv[1])), indent=2) + "\n")
