"""A codec's own process that is killed while a run goes on costs no result."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import robustcodec
from robustcodec.zoo import _server

SERVER = Path(__file__).parents[2] / "docs" / "howto" / "serve_numpy.py"
GRID = f"""
[[block]]
codec = ["process:command={sys.executable} {SERVER}"]
attack = ["random-search:queries=40", "spsa:queries=40"]
data = ["photos:size=64"]
limit = 1
"""
KILLS = 10


def cells(grid: Path, out: Path) -> dict[str, bytes]:
    run = robustcodec.run(grid, out)
    assert run.errors == {}
    return {p.name: p.read_bytes() for p in (out / "cells").iterdir()}


def kill(done: threading.Event, killed: list[int]) -> None:
    """Again and again, at random moments after a fresh process has answered what the last one was asked."""
    moments, last, since = random.Random(0), 0, 0
    while not done.is_set() and len(killed) < KILLS:
        time.sleep(0.001)
        for server in list(_server._servers.values()):
            process = server._process
            if process is None or not process.usable:
                continue
            if process.pid != last:
                last, since = process.pid, server._number
            elif last not in killed and server._number >= since + 3:
                time.sleep(moments.uniform(0, 0.01))
                os.kill(last, signal.SIGKILL)
                killed.append(last)


def test_a_codec_process_killed_ten_times_loses_no_result(tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(GRID)
    undisturbed = cells(grid, tmp_path / "undisturbed")
    done, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=kill, args=(done, killed))
    killer.start()
    try:
        disturbed = cells(grid, tmp_path / "disturbed")
    finally:
        done.set()
        killer.join()
    assert len(killed) == len(set(killed)) == KILLS
    assert disturbed == undisturbed and len(disturbed) == 2
