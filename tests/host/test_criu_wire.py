"""CRIU's messages: by bytes that protobuf's own encoder makes, and by what a damaged one gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import Error
from ocirt.host.criu_wire import DUMP, NOTIFY, OPTIONS, REQUEST, RESPONSE, VERSION, decode, encode

# Made with `protoc --encode` of the same messages in text form.
BYTES = [
    ({"type": VERSION}, "080a"),
    ({"type": NOTIFY, "notify_success": True}, "08061801"),
    ({"type": DUMP, "opts": {"images_dir_fd": 7, "pid": 300, "leave_running": True}}, "08011207" + "080710ac021801"),
    ({"type": DUMP, "opts": {"images_dir_fd": -1}}, "0801120b" + "08ffffffffffffffffff01"),
    ({"type": DUMP, "opts": {"log_file": "dump.log"}}, "0801120a5208" + b"dump.log".hex()),
    ({"type": DUMP, "opts": {"external": ["a", "b"]}}, "08011208" + "aa020161aa020162"),
    ({"type": DUMP, "opts": {"inherit_fd": [{"key": "p", "fd": 4}]}}, "08011208" + "da01050a01701004"),
    ({"type": DUMP, "opts": {"pid": None, "external": []}}, "08011200"),
]


@pytest.mark.parametrize(("message", "content"), BYTES)
def test_a_request_is_what_protobuf_makes(message: dict[str, Any], content: str) -> None:
    assert encode(message).hex() == content


def test_an_answer_is_read_and_what_nobody_knows_is_skipped() -> None:
    content = "0802" + "1001" + "2203" + "08ac02" + "98060a" + "a2060161" + "a906" + "00" * 8 + "ad06" + "00" * 4
    assert decode(bytes.fromhex(content)) == {"type": 2, "success": True, "restore": {"pid": 300}}
    assert decode(bytes.fromhex("080110003801")) == {"type": 1, "success": False, "cr_errno": 1}
    assert decode(bytes.fromhex("38ffffffffffffffffff01")) == {"cr_errno": -1}
    assert decode(b"") == {}


@pytest.mark.parametrize("content", ["08", "0a", "2205", "0bff", "2a0108", "4a0a61", "ff" * 12, "0a0161"])
def test_a_damaged_answer_is_an_error(content: str) -> None:
    with pytest.raises(Error, match="criu has sent something unknown"):
        decode(bytes.fromhex(content))


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_are_an_error(content: bytes) -> None:
    try:
        decode(content)
    except Error:
        pass


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.booleans(),
)
def test_what_is_written_is_read_again(number: int, text: str, switch: bool) -> None:
    message = {"type": DUMP, "opts": {"pid": number, "log_file": text, "leave_running": switch}}
    assert decode(encode(message), REQUEST) == message


def test_no_two_fields_have_one_number() -> None:
    for fields in (OPTIONS, REQUEST, RESPONSE):
        numbers = [number for number, _ in fields.values()]
        assert len(numbers) == len(set(numbers))
