"""The examples of docs/library.md are run, in their order, and print what is said here."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from support import REPOSITORY, Bundle

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("traces")]

PRINTED = ["hello\n 0\n", "3\n", "create /process/args/0 2\n", "[0, 0, 0]\n"]


def test_examples(
    bundle: Bundle, shared_rootfs: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the state is when nobody says it: an ordinary user's folder, for the test's sake.
    monkeypatch.setattr("ocirt.library.container.own_folder", lambda name: str(root))
    bundle.config["process"]["args"] = ["/bin/cat"]
    bundle.write()
    examples = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / "docs/library.md").read_text(), re.M | re.S)
    assert len(examples) == len(PRINTED)
    names: dict[str, object] = {"bundle": bundle.path, "rootfs": shared_rootfs}
    for example, expected in zip(examples, PRINTED, strict=True):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(example, "docs/library.md", "exec"), names)
        assert out.getvalue().replace("\n\n", "\n") == expected.replace("\n\n", "\n")
