"""config.locate: the line of each value in a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.config.load import load
from ocirt.config.locate import line_of
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
    ("pointer", "line"),
    [
        ("", 1),
        ("/process", 2),
        ("/process/user/uid", 3),
        ("/process/user/gid", 4),
        ("/process/args", 5),
        ("/process/args/0", 6),
        ("/process/args/1", 7),
        ("/a~1b", 9),
        ("/a~1b/c~0d", 10),
        ("/a~1b/c~0d/1/x", 11),
    ],
)
def test_a_value_is_found_by_its_pointer(pointer: str, line: int) -> None:
    assert line_of(TEXT, pointer) == line


@pytest.mark.parametrize(("pointer", "line"), [("/process/cwd", 2), ("/process/args/7", 5), ("/linux/x/y", 1)])
def test_for_a_value_that_is_missing_it_is_the_one_around(pointer: str, line: int) -> None:
    assert line_of(TEXT, pointer) == line


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 5000, '{"a" 1}'])
def test_text_that_is_no_json_has_no_lines(text: str) -> None:
    assert line_of(text, "/a") == 0


def lines_by_hand(value: Any, pointer: str = "", line: int = 1) -> tuple[dict[str, int], int]:
    """Where json.dumps(indent=1) puts each value: pointer → line, and the last line."""
    found = {pointer: line}
    if isinstance(value, list | dict) and value:
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            escaped = str(key).replace("~", "~0").replace("/", "~1")
            inner, line = lines_by_hand(member, f"{pointer}/{escaped}", line + 1)
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
    lines, _ = lines_by_hand(value)
    text = json.dumps(value, indent=1)
    for pointer, line in lines.items():
        assert line_of(text, pointer) == line


def test_an_error_of_a_bundle_has_file_line_and_pointer(tmp_path: Path) -> None:
    spec = default_spec()
    spec["process"]["user"]["uid"] = "abc"
    text = json.dumps(spec, indent=2)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(str(tmp_path))
    line = 1 + text[: text.index('"uid"')].count("\n")
    assert str(refused.value) == f'{tmp_path}/config.json:{line}: /process/user/uid: expected an integer, got "abc"'
