"""Cases: hooks that are refused before anything is made."""

from __future__ import annotations

from typing import Any

from bad_values import Case, put


def hook(**properties: Any) -> dict[str, Any]:
    return {"path": "/bin/true", **properties}


def case(name: str, kind: str, value: Any, at: str, *words: str) -> Case:
    """`value` as the hooks of a kind; the message points to `at` below it."""
    return Case(name, put("/hooks", {kind: value}), f"/hooks/{kind}{at}", words)


TYPES = [
    Case("hooks a list", put("/hooks", []), "/hooks", ("expected an object", "got an empty array")),
    Case("hooks a word", put("/hooks", "none"), "/hooks", ("expected an object",)),
    case("one kind an object", "poststop", {}, "", "expected an array"),
    case("a hook a path", "createRuntime", ["/bin/true"], "/0", "expected an object", 'got "/bin/true"'),
    case("a hook null", "prestart", [hook(), None], "/1", "expected a value"),
    case("no path", "createContainer", [{"args": ["x"]}], "/0/path", "this property is required"),
    case("path a number", "startContainer", [hook(path=1)], "/0/path", "expected a string"),
    case("path with NUL", "startContainer", [hook(path="/a\0b")], "/0/path", "without NUL"),
    case("a hook's args a string", "poststart", [hook(args="a b")], "/0/args", "expected an array"),
    case("args with a number", "poststart", [hook(args=["a", 1])], "/0/args/1", "expected a string"),
    case("a hook's env an object", "prestart", [hook(env={"A": "1"})], "/0/env", "expected an array"),
    case("env with null", "prestart", [hook(env=[None])], "/0/env/0", "expected a value"),
    case("timeout in quotes", "prestart", [hook(timeout="1")], "/0/timeout", "expected an integer"),
    case("timeout true", "prestart", [hook(timeout=True)], "/0/timeout", "expected an integer"),
    case("timeout with a fraction", "poststop", [hook(timeout=1.5)], "/0/timeout", "expected an integer"),
    case("timeout 0", "poststop", [hook(timeout=0)], "/0/timeout", "an integer from 1 to 2147483647", "got 0"),
    case("timeout negative", "poststop", [hook(timeout=-1)], "/0/timeout", "got -1"),
    case("timeout huge", "poststop", [hook(timeout=2**31)], "/0/timeout", "an integer from 1"),
]
MEANING = [
    case("relative path", "prestart", [hook(path="bin/true")], "/0/path", 'expected an absolute path, got "bin/true"'),
    case("empty path", "poststop", [hook(), hook(path="")], "/1/path", "expected an absolute path"),
    case(
        "a hook's env without =", "createRuntime", [hook(env=["A=1", "B"])], "/0/env/1", 'expected NAME=value, got "B"'
    ),
    case("a hook's env without a name", "createRuntime", [hook(env=["=1"])], "/0/env/0", "expected NAME=value"),
]
