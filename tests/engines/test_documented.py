"""The files that docs/kubernetes.md gives to copy are well-formed, and speak of each other by the right names."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import yaml
from engines.documented import blocks

FILES = blocks("kubernetes.md")
PLUGINS = {
    "/etc/containerd/config.toml of containerd 1.x": (2, "io.containerd.grpc.v1.cri"),
    "/etc/containerd/config.toml of containerd 2.x": (3, "io.containerd.cri.v1.runtime"),
}


@pytest.fixture(scope="module")
def runtime_class() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILES["runtimeclass.yaml"] + FILES["the end of runtimeclass.yaml"])
    return found


@pytest.mark.parametrize(("title", "version", "plugin"), [(title, *rest) for title, rest in PLUGINS.items()])
def test_containerd(title: str, version: int, plugin: str, runtime_class: dict[str, Any]) -> None:
    config = tomllib.loads(FILES[title])
    assert config["version"] == version
    runtimes = config["plugins"][plugin]["containerd"]["runtimes"]
    assert set(runtimes) == {"runc", runtime_class["handler"]}
    assert runtimes["ocirt"]["options"] == {"BinaryName": "/usr/local/bin/ocirt"}
    assert {one["runtime_type"] for one in runtimes.values()} == {"io.containerd.runc.v2"}


def test_crio(runtime_class: dict[str, Any]) -> None:
    runtimes = tomllib.loads(FILES["/etc/crio/crio.conf.d/50-ocirt.conf"])["crio"]["runtime"]["runtimes"]
    assert set(runtimes) == {runtime_class["handler"]}
    assert runtimes["ocirt"]["runtime_path"] == "/usr/local/bin/ocirt"


def test_the_pod_names_the_runtime_class(runtime_class: dict[str, Any]) -> None:
    pod = yaml.safe_load(FILES["pod.yaml"])
    assert (runtime_class["kind"], pod["kind"]) == ("RuntimeClass", "Pod")
    assert pod["spec"]["runtimeClassName"] == runtime_class["metadata"]["name"]
    assert pod["spec"]["containers"][0]["command"][0] == "echo"
