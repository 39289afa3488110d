"""A run that is killed at any moment and resumed ends with the same bytes as one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from terminal import Type

GRID = """
[[block]]
codec = ["bmshj2018-factorized:weights=random", "bmshj2018-hyperprior:weights=random"]
attack = ["pgd:steps=4", "noise"]
data = ["photos:size=96"]
limit = 3
"""


def start(grid: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "robustcodec", "run", str(grid), "--out", str(out), "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=out.parent)


def kill_when(moment: Callable[[], bool], grid: Path, out: Path) -> None:
    with start(grid, out) as process:
        deadline = time.monotonic() + 240
        while process.poll() is None and not moment():
            assert time.monotonic() < deadline, "the moment to kill at never came"
            time.sleep(0.005)
        assert process.poll() is None, "the run ended before the moment to kill it came"
        os.kill(process.pid, signal.SIGKILL)


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a run folder but the log, which holds times, and what saves time, which holds times of files."""
    paths = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file()}
    return {k: p.read_bytes() for k, p in paths.items() if k != "log.jsonl" and not k.startswith("cache/")}


def test_kill_dash_nine_at_three_moments(tmp_path: Path, robust: Type) -> None:
    """The run that was never killed is this process's own, so nothing may depend on the process either: three cells
    are of processes that were killed.
    """
    grid, killed, whole = tmp_path / "grid.toml", tmp_path / "killed", tmp_path / "whole"
    grid.write_text(GRID)

    def crafted() -> int:
        return len(list(killed.glob("crafted/*/*.safetensors")))

    def cells() -> int:
        return len(list(killed.glob("cells/*.json")))

    kill_when(lambda: crafted() >= 2, grid, killed)  # inside a cell's crafting
    assert cells() == 0
    kill_when(lambda: cells() >= 1, grid, killed)  # between cells
    kill_when(lambda: cells() >= 3, grid, killed)  # later, in evaluation or crafting
    done = robust("run", grid, "--out", killed, "--device", "cpu")
    assert done.code == 0 and "1 cell ran, 3 were done before, 0 failed" in done.out + done.err
    assert robust("run", grid, "--out", whole, "--device", "cpu").code == 0
    left, right = contents(killed), contents(whole)
    assert left.keys() == right.keys() and len([k for k in right if k.startswith("cells/")]) == 4
    assert [k for k in right if left[k] != right[k]] == []
