"""CONTRIBUTING.md: its package installs, its codec keeps its promises, its commands put it onto a board.

`.ci/run` does the same on the published board, from an empty environment.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import blocks

from robustcodec.boards.board import RESULTS
from robustcodec.boards.entry import Entry
from robustcodec.boards.founding import found

TABLE = {
    "title": "Small",
    "about": "For tests.",
    "data": {"name": "photos:size=48", "limit": 2, "pictures": True},
    "ranking": {"threat": "psnr:36", "anchor": ["webp:quality={0,60}"]},
    "protocol": [{"of": "bare", "attack": ["noise", "pgd:steps=3"], "threat": ["psnr:36"]}],
}


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with what the document shows, a small board in the place of the published one, and the commands."""
    folder = tmp_path_factory.mktemp("contributing")
    for block in blocks("CONTRIBUTING.md"):
        if block.kind == "file":
            path = folder / block.told
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    (commands,) = [b.text.splitlines() for b in blocks("CONTRIBUTING.md") if "mycodec" in b.text and b.kind == "sh"]
    found(TABLE, folder / "leaderboards" / "photos-quick")
    return folder, commands


def test_the_commands_as_written_add_a_row(away: tuple[Path, list[str]]) -> None:
    folder, (install, *commands) = away
    assert shlex.split(install)[:4] == ["python3", "-m", "pip", "install"] and len(commands) == 2
    source, site = folder / "source", folder / "site"
    shutil.copytree(folder / "mycodec", source)  # without a network: what an installation needs is here already
    offline = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline], check=True, capture_output=True)
    path = os.pathsep.join([str(site), *sys.path])  # this checkout, whatever else is installed
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "robustcodec"
        done = subprocess.run(
            [sys.executable, "-m", "robustcodec", *words],
            cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    entry = Entry.read(folder / "leaderboards" / "photos-quick" / RESULTS / "block-means.json")
    assert entry.kind == "bare" and entry.measured_by == "A. Person" and all(c["passed"] for c in entry.checks)
    assert "| block-means |" in (folder / "leaderboards" / "photos-quick" / "README.md").read_text()
