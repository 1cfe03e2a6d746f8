"""The examples of docs/sandbox.md run as they stand there."""

from __future__ import annotations

import re

import pytest

from tests.support import REPOSITORY

TEXT = (REPOSITORY / "docs" / "sandbox.md").read_text()


@pytest.mark.root
def test_the_examples_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 5
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "docs/sandbox.md", "exec"), names)
    assert capsys.readouterr().out == "b'2\\n'\nb'1\\n'\n"


def test_the_table_has_every_keyword() -> None:
    from ocirt.sandbox.client import _KEYWORDS

    for name in (*_KEYWORDS, "argv", "stdin"):
        assert f"| `{name}` |" in TEXT
