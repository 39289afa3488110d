"""A run on a disk that is full: it says so, and goes on where it was when there is room; really, on a small one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustcodec.errors import DiskFull
from robustcodec.execution.runner import Runner
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

CELLS = [Cell("jpeg:quality=20", attack, data="photos:size=16", limit=2) for attack in ("noise", "square:queries=2")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Of 8 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def results(run: Path) -> dict[str, bytes]:
    paths = [path for path in run.rglob("*") if path.is_file() and path.name != "log.jsonl"]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in paths}


def test_a_full_disk_is_said_and_costs_no_byte(disk: Path, tmp_path: Path) -> None:
    Runner(Store(tmp_path / "whole")).run(CELLS)
    full = 0
    for kilobytes in range(8, 200, 8):
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)
        try:
            tally = Runner(Store(disk / "run")).run(CELLS)
        except DiskFull as error:
            assert "the disk is full" in str(error) and "run the same command again" in str(error)
            full += 1
        else:
            assert not tally.errors
            break
    assert full > 2 and results(disk / "run") == results(tmp_path / "whole")
