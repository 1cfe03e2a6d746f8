"""Cases: files that are no JSON, or JSON that nobody can use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Text:
    """`spoil` turns the text of a good config.json into bad bytes; the message names `place`."""

    name: str
    spoil: Callable[[str], bytes]
    place: str
    words: tuple[str, ...]


def replaced(old: str, new: str) -> Callable[[str], bytes]:
    def spoil(text: str) -> bytes:
        assert text.count(old) == 1, (old, text.count(old))
        return text.replace(old, new).encode()

    return spoil


def whole(content: bytes) -> Callable[[str], bytes]:
    return lambda text: content


TEXTS = [
    Text("empty", whole(b""), "1:1", ("not JSON", "the file is empty")),
    Text("only spaces", whole(b" \n\t\n"), "1:1", ("not JSON", "the file is empty")),
    Text("not JSON at all", whole(b"ociVersion: 1.0.0\n"), "1:1", ("not JSON", "Expecting value")),
    Text("cut off", whole(b'{\n "ociVersion": "1.0.2",\n "root": {'), "3:11", ("not JSON",)),
    Text("a trailing comma", whole(b'{\n "ociVersion": "1.0.2",\n}'), "3:1", ("not JSON", "property name")),
    Text("no comma", whole(b'{\n "a": 1\n "b": 2\n}'), "3:2", ("not JSON", "',' delimiter")),
    Text("single quotes", whole(b"{\n 'a': 1}"), "2:2", ("not JSON", "double quotes")),
    Text("a comment", whole(b'{\n "a": 1 // why\n}'), "2:9", ("not JSON", "',' delimiter")),
    Text("two documents", whole(b'{"ociVersion": "1.0.2"}\n{}'), "2:1", ("not JSON", "Extra data")),
    Text("a control character in a string", whole(b'{\n "a": "b\nc"}'), "2:9", ("not JSON", "control character")),
    Text("an unknown escape", whole(b'{\n "a": "\\x"}'), "2:8", ("not JSON", "escape")),
    Text("an open string", whole(b'{\n "a": "b'), "2:7", ("not JSON", "Unterminated string")),
    Text("a byte order mark", lambda text: b"\xef\xbb\xbf" + text.encode(), "1:1", ("not JSON", "BOM")),
    Text("NaN", whole(b'{\n "a": NaN}'), "2:7", ("not usable JSON", "NaN is not a JSON number")),
    Text("Infinity", whole(b'{\n "a": [1,\n  -Infinity]}'), "3:3", ("-Infinity is not a JSON number",)),
    Text("thousands of digits", whole(b'{\n "a": ' + b"9" * 5000 + b"}"), "2:7", ("a number of 5000 digits",)),
    Text("too deep", whole(b"[" * 100_000), "1:", ("nested too deeply",)),
    Text("UTF-16", lambda text: text.encode("utf-16"), "1:1", ("not UTF-8",)),
    Text("Latin-1", whole(b'{\n "a": "\xfc"}'), "2:8", ("not UTF-8",)),
    Text("the document null", whole(b"null"), "1:1", ("expected an object", "got null")),
    Text("the document an array", whole(b"[]"), "1:1", ("expected an object", "got an empty array")),
    Text("the document a string", whole(b'"root"'), "1:1", ("expected an object", 'got "root"')),
    Text("a key twice", replaced('"ociVersion"', '"ociVersion": "1.0.2",\n "ociVersion"'), "3:2",
         (': the key "ociVersion" stands twice', "remove one")),
    Text("a nested key twice", replaced('"readonly"', '"readonly": false,\n  "readonly"'), "46:3",
         ('/root: the key "readonly" stands twice', "remove one")),
]  # fmt: skip
