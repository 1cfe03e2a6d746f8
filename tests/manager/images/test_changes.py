"""--change: what Docker's Dockerfile reference says of each instruction."""

from __future__ import annotations

from typing import Any

import pytest

from ocirt.manager.errors import GrammarError
from ocirt.manager.images.changes import applied

BASE = {"Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "WorkingDir": "/w"}


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ('CMD ["a", "b c"]', "Cmd", ["a", "b c"]),
        ("CMD a  'b c' $A", "Cmd", ["/bin/sh", "-c", "a  'b c' $A"]),
        ("cmd [not json", "Cmd", ["/bin/sh", "-c", "[not json"]),
        ('ENTRYPOINT ["a"]', "Entrypoint", ["a"]),
        ("ENV B=2", "Env", ["PATH=/bin", "A=1", "B=2"]),
        ("ENV A=2 B=$A C=\"x y\" D='$A' E=a\\ b", "Env", ["PATH=/bin", "A=2", "B=1", "C=x y", "D=$A", "E=a b"]),
        ("ENV B the rest of it", "Env", ["PATH=/bin", "A=1", "B=the rest of it"]),
        ("ENV PATH=$PATH:/x", "Env", ["A=1", "PATH=/bin:/x"]),
        ("ENV B=${A}x${Z}${Z:-z}${A:+y}", "Env", ["PATH=/bin", "A=1", "B=1xzy"]),
        ("ENV B=", "Env", ["PATH=/bin", "A=1", "B="]),
        ("EXPOSE 80 443/udp 8000-8001", "ExposedPorts", {"80/tcp": {}, "443/udp": {}, "8000/tcp": {}, "8001/tcp": {}}),
        ('LABEL a=b "c d"=e', "Labels", {"a": "b", "c d": "e"}),
        ("ONBUILD RUN x $A", "OnBuild", ["RUN x $A"]),
        ("STOPSIGNAL SIGINT", "StopSignal", "SIGINT"),
        ("STOPSIGNAL 9", "StopSignal", "9"),
        ("USER 1000:$A", "User", "1000:1"),
        ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/a b"]', "Volumes", {"/a b": {}}),
        ("WORKDIR x/../y", "WorkingDir", "/w/y"),
        ("WORKDIR //x", "WorkingDir", "/x"),
        ("WORKDIR ../../..", "WorkingDir", "/"),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        ("HEALTHCHECK CMD a b", "Healthcheck", {"Test": ["CMD-SHELL", "a b"]}),
        (
            'HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1.5s --retries=3 CMD ["a"]',
            "Healthcheck",
            {
                "Test": ["CMD", "a"],
                "Interval": 90_000_000_000,
                "Timeout": 500_000_000,
                "StartPeriod": 1_500_000_000,
                "Retries": 3,
            },
        ),
    ],
)
def test_a_change(change: str, key: str, value: Any) -> None:
    before = {key: list(value) if isinstance(value, list) else value for key, value in BASE.items()}
    assert applied(BASE, [change])[key] == value
    assert before == BASE


def test_an_entry_point_takes_the_images_command_away() -> None:
    assert applied(BASE, ['ENTRYPOINT ["a"]'])["Cmd"] is None
    assert applied(BASE, ['CMD ["b"]', 'ENTRYPOINT ["a"]'])["Cmd"] == ["b"]
    assert applied(BASE, ['ENTRYPOINT ["a"]', 'CMD ["b"]'])["Cmd"] == ["b"]


def test_an_images_own_shell_runs_lines() -> None:
    assert applied({"Shell": ["/bin/ash", "-ec"]}, ["CMD x"])["Cmd"] == ["/bin/ash", "-ec", "x"]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "RUN rm -rf /",
        "FROM x",
        "ADD a b",
        "CMD",
        "ENV",
        "ENV A",
        "ENV =x",
        "ENV A=1 B",
        'ENV A="x',
        "EXPOSE 0",
        "EXPOSE 65536",
        "EXPOSE 2-1",
        "EXPOSE 80/icmp",
        "EXPOSE http",
        "STOPSIGNAL now please",
        'VOLUME [""]',
        "ONBUILD ONBUILD RUN x",
        "ONBUILD FROM x",
        "HEALTHCHECK x",
        "HEALTHCHECK CMD",
        "HEALTHCHECK --interval=1 CMD x",
        "HEALTHCHECK --interval=999999999999h CMD x",
        "HEALTHCHECK --retries=-1 CMD x",
        "HEALTHCHECK --what=1s CMD x",
        "HEALTHCHECK --interval=1s NONE",
    ],
)
def test_what_is_no_change(wrong: str) -> None:
    with pytest.raises(GrammarError):
        applied(BASE, [wrong])


def test_nothing_of_the_hosts_environment_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s")
    assert applied({}, ["ENV A=x$SECRET"])["Env"] == ["A=x"]
