"""What docs/ tells users to copy: the tests use the same text."""

from __future__ import annotations

import re

from support import OCIRT, REPOSITORY


def blocks(document: str) -> dict[str, str]:
    """The code blocks of a document of docs/ that begin with a comment, by that comment."""
    text = (REPOSITORY / "docs" / document).read_text()
    found = re.findall(r"^```\w+\n# ([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def block(title: str) -> str:
    """One of them from docs/kubernetes.md, with the ocirt that is under test in place of the one that is installed."""
    return blocks("kubernetes.md")[title].replace("/usr/local/bin/ocirt", OCIRT)
