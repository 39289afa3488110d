"""Workers in processes of their own: the same bytes as one process, and no cell that ends its own ends a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import echoing
import pytest

from robustcodec.execution import scheduler
from robustcodec.execution.children import READY, Child, listen
from robustcodec.execution.executors import Workforce
from robustcodec.execution.here import Here
from robustcodec.execution.processes import Processes
from robustcodec.execution.runner import Runner
from robustcodec.execution.worker import Setting
from robustcodec.registry import attacks
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

PLUGIN = """
import os, signal, sys, time
from dataclasses import dataclass
from robustcodec.interfaces import Attack
from robustcodec.registry import attacks

@attacks.register("test-unruly")
@dataclass(frozen=True)
class Unruly(Attack):
    access = "black"
    how: str = "hang"

    def run(self, oracle, x, threat, rng):
        print("noise on stdout")
        match self.how:
            case "hang":
                time.sleep(600)
            case "exit":
                os._exit(3)
            case "quit":
                sys.exit(4)
        return x
"""


@pytest.fixture
def unruly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack of an installed package, which other processes know too."""
    site = tmp_path / "site"
    meta = site / "unruly-1.dist-info"
    meta.mkdir(parents=True)
    (site / "unruly_attack.py").write_text(PLUGIN)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: unruly\nVersion: 1\n")
    (meta / "entry_points.txt").write_text(f"[{attacks.group}]\ntest-unruly = unruly_attack\n")
    monkeypatch.syspath_prepend(str(site))
    __import__("unruly_attack")


@pytest.fixture
def two() -> Iterator[Processes]:
    processes = Processes(Setting(threads=1), ("cpu", "cpu"))
    yield processes
    processes.close()


@pytest.mark.parametrize(("workers", "kind"), [(0, Here), (1, Processes), (2, Processes)])
def test_what_a_plugin_may_crash_is_another_process_unless_none_is_wanted(workers: int, kind: type) -> None:
    with Workforce(("cpu",), workers).hired(Setting(threads=1)) as executor:
        assert isinstance(executor, kind) and executor.slots == max(1, workers)


def files(folder: Path) -> dict[str, bytes]:
    """Of a run, but for its log, which holds times."""
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name != "log.jsonl"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def test_two_workers_of_which_one_is_killed_write_the_bytes_of_one_process(two: Processes, tmp_path: Path) -> None:
    tiny = ("bmshj2018-factorized.tiny-q1", "bmshj2018-hyperprior.tiny-q1")
    cells = [Cell(codec, "pgd:steps=3", data="photos:size=64", limit=3) for codec in tiny]
    cells += [Cell("jpeg:quality=50", "pgd:steps=3", access=f"transfer:{tiny[0]}", data="photos:size=64", limit=3)]

    def kill() -> None:
        busy: list[int] = []
        while not (busy and any(tmp_path.glob("several/crafted/*/*.safetensors"))):
            time.sleep(0.01)
            busy = sorted(two._busy)  # another one may not have started yet
        os.kill(two._children[busy[0]]._process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    several = Runner(Store(tmp_path / "several"), executor=two).run(cells)
    killer.join()
    one = Runner(Store(tmp_path / "one"), executor=Here(Setting(threads=1))).run(cells)
    assert not several.errors and not one.errors
    left, right = files(tmp_path / "several"), files(tmp_path / "one")
    assert left.keys() == right.keys() and len(right) == 3 + 6 + 3
    assert [name for name in right if left[name] != right[name]] == []


def test_a_cell_that_hangs_exits_or_quits_is_its_own_failure(
    unruly: None, two: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scheduler, "ATTEMPTS", 2)
    *bad, good = [
        Cell("jpeg:quality=50", f"test-unruly:{how}", data="photos:size=16", limit=1)
        for how in ("hang", "exit", "quit", "nothing")
    ]
    started = time.monotonic()
    tally = Runner(Store(tmp_path / "run"), executor=two, limit=6).run([*bad, good])
    assert tally.ran == 1 and tally.failed == 3 and time.monotonic() - started < 120
    hang, exited, left = (tally.errors[str(cell)] for cell in bad)
    assert hang == "given up while crafting: it took longer than 6 s (--cell-timeout)"
    assert exited == "its worker ended with exit code 3, 2 times" and left == "SystemExit: 4"
    assert "noise on stdout" not in capfd.readouterr().out


def test_a_child_answers_reports_and_says_how_it_ended() -> None:
    child = Child("echoing:echo", "> ")
    try:
        assert child.hear() == (True, READY)
        child.send("a")
        assert listen([child], 60) == [child]
        assert child.hear() == (False, "listening") and child.hear() == (True, "> a")
        assert listen([child], 0.01) == []
        child.send("die")
        assert child.hear() == (False, "listening")
        with pytest.raises(EOFError):
            child.hear()
        assert child.how_it_ended() == "was ended by SIGTERM"
    finally:
        child.end()


def test_a_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    program = (
        f"import sys, time; sys.path.insert(0, {str(Path(echoing.__file__).parent)!r})\n"
        "from robustcodec.execution.children import Child\n"
        "child = Child('echoing:echo', '')\n"
        "child.hear()\n"
        "print(child._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    raise AssertionError("the child lives on")
