"""The installed `ocim`, with a store of its own and an image of busybox in it."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import OCIRT

APPLETS = "sh true echo cat sleep ls id env stty kill head printf test readlink touch rm mkdir hostname".split()


class Ocim:
    """Calls it. `folder`: for files of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = str(Path(OCIRT).parent / "ocim")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OCIM_ROOT": str(folder / "root"),
            "OCIM_RUN": str(folder / "run"),
            "OCIM_REGISTRIES": str(folder / "registries.toml"),
            "OCIM_DEBUG": "1",
        }

    def run(self, *words: str, input: str | bytes = b"", code: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            [self.path, *words], input=data, capture_output=True, env=self.environment, check=False, cwd=self.folder
        )
        assert code is None or done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done

    def __call__(self, *words: str, input: str | bytes = b"", code: int | None = 0) -> str:
        """What it prints, without the last newline."""
        return self.run(*words, input=input, code=code).stdout.decode().rstrip("\n")

    def error(self, *words: str, code: int = 1) -> str:
        """The one line that it says when it fails."""
        done = self.run(*words, code=code)
        lines = done.stderr.decode().splitlines()
        assert len(lines) == 1 and lines[0].startswith("ocim: "), lines
        return lines[0].removeprefix("ocim: ")

    def popen(self, *words: str, **how: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self.path, *words], env=self.environment, cwd=self.folder, **how)  # type: ignore[call-overload,no-any-return]


def root_tar() -> bytes:
    """A root file system."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in "bin dev etc proc sys tmp root".split():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        tar.add("/bin/busybox", "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, text in {
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/tmp:/bin/sh\n",
            "etc/group": "root:x:0:\nme:x:1000:\n",
        }.items():
            file = tarfile.TarInfo(name)
            file.size = len(text)
            tar.addfile(file, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture(scope="module")
def ocim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ocim]:
    """With the image box:1. What a test leaves is removed."""
    one = Ocim(tmp_path_factory.mktemp("ocim"))
    one("import", "--change", 'CMD ["sh"]', "--change", "LABEL a=b", "-", "box:1", input=root_tar())
    yield one
    left = one("ps", "-aq").split()
    if left:
        one("rm", "--force", "--volumes", *left)
