"""How fast a run goes, as it says itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robustcodec.execution import pace
from robustcodec.execution.pace import Notice, Pace, PaceCounter, lately
from robustcodec.files import HOST


def test_samples_per_minute_are_counted_by_device_over_what_is_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    counter = PaceCounter()
    now += 30
    counter.add("cuda:0", 10)
    counter.add("cuda:1", 4)
    counter.add("cuda:0", 5)
    assert counter.pace(100.0) == Pace(3, {"cuda:0": 30.0, "cuda:1": 8.0}, 100.0)
    now += 50
    counter.add("cuda:1", 2)
    assert counter.pace(10.0) == Pace(4, {"cuda:0": 15.0, "cuda:1": 6.0}, 10.0)
    now += 30  # 110 s after the beginning, 80 after the first units
    assert counter.pace(0.0) == Pace(4, {"cuda:1": 2.0}, 0.0)


def test_it_is_said_in_words() -> None:
    said = str(Pace(12, {"cuda:1": 8.25, "cpu": 1234.5}, 600))
    assert said == "12 units, cpu 1234 samples/min, cuda:1 8.2 samples/min, about 10 min left"


def test_a_folder_tells_of_all_runs_that_go_on_in_it(tmp_path: Path) -> None:
    assert lately(tmp_path / "none") is None
    mine = Notice(tmp_path)
    mine.put_up(Pace(3, {"cpu": 2.0}, 50.0))
    assert lately(tmp_path) == Pace(3, {"cpu": 2.0}, 50.0)
    (tmp_path / "node-7.12.json").write_text('{"units": 4, "rates": {"cpu": 1.0, "cuda": 9.0}, "left": 70.0}')
    (tmp_path / "node-8.1.json").write_text('{"units": 4, "ra')  # half copied
    assert lately(tmp_path) == Pace(7, {"cpu": 3.0, "cuda": 9.0}, 70.0)
    mine.take_down()
    elsewhere = tmp_path / "node-7.12.json"
    os.utime(elsewhere, (0, time.time() - 2 * pace.STALE))
    assert lately(tmp_path) is None and elsewhere.exists()  # nothing of another machine is deleted


def test_what_a_killed_run_of_this_machine_said_is_removed_by_the_next(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    killed, alive = (tmp_path / f"{HOST}.{pid}.json" for pid in (ended.pid, os.getppid()))
    for path in (killed, alive):
        path.write_text("{}")
    Notice(tmp_path)
    assert not killed.exists() and alive.exists()
