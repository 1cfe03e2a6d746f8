"""config.locate: the line and column of each value in a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.config.load import load
from ocirt.config.locate import Places
from ocirt.errors import ConfigError
from ocirt.runtime.spec import default_spec

TEXT = """{
  "process": {
    "user": { "uid": 0,
              "gid": 1 },
    "args": [
      "sh",
      "-c"
    ]
  }, "a/b": {
    "c~d": [
      [], {"x":
      1}
    ]
  }
}"""


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        ("", (1, 1)),
        ("/process", (2, 3)),
        ("/process/user/uid", (3, 15)),
        ("/process/user/gid", (4, 15)),
        ("/process/args", (5, 5)),
        ("/process/args/0", (6, 7)),
        ("/process/args/1", (7, 7)),
        ("/a~1b", (9, 6)),
        ("/a~1b/c~0d", (10, 5)),
        ("/a~1b/c~0d/0", (11, 7)),
        ("/a~1b/c~0d/1/x", (11, 12)),
    ],
)
def test_a_value_is_found_by_its_pointer(pointer: str, place: tuple[int, int]) -> None:
    assert Places(TEXT).of(pointer) == place


@pytest.mark.parametrize(
    ("pointer", "place"), [("/process/cwd", (2, 3)), ("/process/args/7", (5, 5)), ("/linux/x/y", (1, 1))]
)
def test_for_a_value_that_is_missing_it_is_the_one_around(pointer: str, place: tuple[int, int]) -> None:
    assert Places(TEXT).of(pointer) == place


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 5000, '{"a" 1}'])
def test_text_that_is_no_json_has_no_places(text: str) -> None:
    assert Places(text).of("/a") == (0, 0)


def places_by_hand(
    value: Any, pointer: str = "", line: int = 1, depth: int = 0
) -> tuple[dict[str, tuple[int, int]], int]:
    """Where json.dumps(indent=1) puts each value: pointer → place, and the last line."""
    found = {pointer: (line, depth + 1)}
    if isinstance(value, list | dict) and value:
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            escaped = str(key).replace("~", "~0").replace("/", "~1")
            inner, line = places_by_hand(member, f"{pointer}/{escaped}", line + 1, depth + 1)
            found |= inner
        line += 1
    return found, line


@given(
    st.recursive(
        st.integers() | st.text(max_size=5) | st.none(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
        max_leaves=12,
    )
)
def test_every_value_of_any_document_is_found(value: Any) -> None:
    by_hand, _ = places_by_hand(value)
    places = Places(json.dumps(value, indent=1))
    for pointer, place in by_hand.items():
        assert places.of(pointer) == place


def test_an_error_of_a_bundle_has_file_line_column_and_pointer(tmp_path: Path) -> None:
    spec = default_spec()
    spec["process"]["user"]["uid"] = "abc"
    text = json.dumps(spec, indent=2)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(str(tmp_path))
    line = 1 + text[: text.index('"uid"')].count("\n")
    assert str(refused.value) == f'{tmp_path}/config.json:{line}:7: /process/user/uid: expected an integer, got "abc"'
