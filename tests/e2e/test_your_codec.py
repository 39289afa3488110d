"""docs/howto/your-codec.md: the five ways in, run as they are written there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Type

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "your-codec.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^<!-- (run|file)(?:: (\S+))? -->\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MOST = 10  # lines of a user's own


def test_the_page_has_five_ways_of_few_lines_each() -> None:
    ways = PAGE.split("\n## ")[1:]
    assert len(ways) == 5 and all("<!-- run" in way for way in ways)
    for way in ways:
        blocks = re.findall(r"```\w+\n(.*?)^```", way, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines() if line.strip()]
        assert len(lines) <= MOST, way.splitlines()[0]


def test_they_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, robust: Type) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))  # this checkout
    for kind, name, text in BLOCKS:
        if name:
            (tmp_path / name).write_text(text, encoding="utf-8")
            if kind == "run":
                subprocess.run([sys.executable, name], check=True, capture_output=True)
        else:
            for line in text.splitlines():
                program, *words = shlex.split(line)
                done = robust(*words)
                assert program == "robustcodec" and done.code == 0, done.out + done.err
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"file", "weights", "process"}
