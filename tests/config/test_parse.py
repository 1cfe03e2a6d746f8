"""config.read.parse: JSON and nothing but JSON, and errors with line and column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import REPOSITORY

from ocirt.config.load import load
from ocirt.config.read import MAX_SIZE, absolute, parse, read_json
from ocirt.errors import ConfigError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    return refused.value


@given(JSON, st.sampled_from([None, 1, 4]), st.booleans())
def test_what_json_writes_is_read_as_it_was(value: object, indent: int | None, ascii_only: bool) -> None:
    assert parse(json.dumps(value, indent=indent, ensure_ascii=ascii_only)) == value


@pytest.mark.parametrize("path", sorted((REPOSITORY / "tests" / "configs").glob("*.json")), ids=lambda path: path.stem)
def test_what_engines_write_is_read_as_json_reads_it(path: Path) -> None:
    assert parse(path.read_text()) == json.loads(path.read_text())


@given(st.text(alphabet='{}[]",:\\ \n0123456789-+.eEtrufalsn\x00\ufeff', max_size=40))
def test_any_text_is_read_as_json_reads_it_or_refused_with_a_place(text: str) -> None:
    try:
        value = parse(text)
    except ConfigError as error:
        line, column = map(int, error.place.split(":"))
        assert 1 <= line <= text.count("\n") + 1
        assert 1 <= column <= len(text) + 1
    else:
        assert value == json.loads(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "1:1"),
        ("{", "1:2"),
        ('{"a": 1,}', "1:9"),
        ('{"a": 1\n "b": 2}', "2:2"),
        ('{"a": 1}\n\n  x', "3:3"),
        ('{"a": 1} {"a": 2}', "1:10"),
        ("[1, 2", "1:6"),
        ("{'a': 1}", "1:2"),
        ('{"a": 01}', "1:8"),
        ('{"a": "b\n"}', "1:9"),
        ('{"a": "\\x"}', "1:8"),
        ("// a comment\n{}", "1:1"),
    ],
)
def test_broken_json_is_refused_with_line_and_column(text: str, place: str) -> None:
    error = refusal(text)
    assert error.place == place
    assert error.message.startswith("not JSON")


@pytest.mark.parametrize(
    ("text", "pointer", "place"),
    [
        ('{"a": 1, "a": 1}', "", "1:10"),
        ('{"process": {\n  "user": {"uid": 0,\n "uid": 1000}}}', "/process/user", "3:2"),
        ('{"list": [{}, {"x": 1, "y": 2, "x": 3}]}', "/list/1", "1:32"),
        ('{"a~b/c": {"d": 1, "d": 2}}', "/a~0b~1c", "1:20"),
        ('{"a": 1, "\\u0061": 2}', "", "1:10"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_second_place(text: str, pointer: str, place: str) -> None:
    """The two runtimes that take a different one of them would disagree about what was checked."""
    error = refusal(text)
    assert (error.pointer, error.place) == (pointer, place)
    assert "stands twice" in error.message


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_numbers_that_json_does_not_have_are_refused(text: str) -> None:
    assert "is not a JSON number" in refusal(text).message


@pytest.mark.parametrize("depth", [2000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_that_no_stack_could_hold_is_refused(opening: str, depth: int) -> None:
    assert refusal(opening * depth).place


def test_nesting_that_is_closed_again_is_refused_too() -> None:
    assert "nested too deeply" in refusal("[" * 100_000 + "]" * 100_000).message


def test_a_number_of_many_digits_is_refused_or_read_whole() -> None:
    assert parse("1" + "0" * 100) == 10**100
    assert refusal("[" + "9" * 10_000 + "]").place


def test_a_byte_order_mark_is_refused() -> None:
    assert refusal('\ufeff{"a": 1}').place == "1:1"


def config(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "config.json").write_bytes(content)
    return tmp_path


def test_a_file_that_is_not_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not UTF-8") as refused:
        load(str(config(tmp_path, b'{\n\n"\xc3\xa4": "\xff"}')))
    assert refused.value.place == f"{tmp_path}/config.json:3:7"


def test_a_byte_order_mark_in_a_file_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(str(config(tmp_path, b'\xef\xbb\xbf{"ociVersion": "1.0.0"}')))
    assert refused.value.place == f"{tmp_path}/config.json:1:1"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = config(tmp_path, b"") / "config.json"
    with path.open("wb") as file:
        file.truncate(MAX_SIZE + 1)
    with pytest.raises(ConfigError, match="more than"):
        read_json(str(path))


@pytest.mark.parametrize("kind", ["folder", "fifo", "missing", "symlink to nothing"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    """A FIFO must not block."""
    import os

    path = tmp_path / "config.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink to nothing":
        path.symlink_to("nothing")
    with pytest.raises(ConfigError) as refused:
        read_json(str(path))
    assert refused.value.place == str(path)


def test_the_bundle_is_known_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert absolute(str(tmp_path / "link")) == str(tmp_path / "real")


def test_a_bundle_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "missing"):
        with pytest.raises(ConfigError, match="cannot open the bundle"):
            load(str(tmp_path / name))
