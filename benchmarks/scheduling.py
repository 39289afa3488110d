"""How well the scheduler keeps workers busy: simulated ones, whose work is a sleep as long as the real work took.

    python benchmarks/scheduling.py runs/default [--workers 1 2 4 8] [--faster 4]

The run folder must be finished: how long its work takes is read from its log, and simulated workers return its clips
and scores. Efficiency is the work divided by the time that passed and by the number of workers; planning, storing and
scheduling are real.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from robustcodec.execution.costs import Costs
from robustcodec.execution.jobs import Crafts, Evaluations
from robustcodec.execution.runner import Runner
from robustcodec.execution.scheduler import Lost, Queried
from robustcodec.execution.tasks import Answer, Task
from robustcodec.running.crafting import Made
from robustcodec.running.evaluating import Part
from robustcodec.running.store import Store


class Sleepers:
    """Workers that sleep as long as ``costs`` says, ``faster`` times as fast, and return what ``store`` holds."""

    def __init__(self, slots: int, store: Store, costs: Costs, faster: float) -> None:
        self.slots, self.work = slots, 0.0
        self._store, self._costs, self._faster = store, costs, faster
        self._awake: dict[int, tuple[float, Task, float]] = {}

    def idle(self) -> Sequence[int]:
        return [slot for slot in range(self.slots) if slot not in self._awake]

    def start(self, slot: int, task: Task) -> None:
        job = Crafts(task.cell) if task.crafts else Evaluations(task.cell)
        seconds = self._costs.per_sample(job) * len(task.samples) / self._faster
        self.work += seconds
        self._awake[slot] = time.monotonic() + seconds, task, seconds

    def wait(self, seconds: float, queried: Queried) -> Sequence[tuple[int, Answer | Lost]]:
        first = min((at for at, _, _ in self._awake.values()), default=0.0)
        time.sleep(min(seconds, max(0.0, first - time.monotonic())))
        ready = [slot for slot, (at, _, _) in self._awake.items() if at <= time.monotonic()]
        return [(slot, self._answer(*self._awake.pop(slot)[1:])) for slot in ready]

    def _answer(self, task: Task, seconds: float) -> Answer:
        if task.crafts:
            clips = [self._store.clip(task.cell.craft_id(sample)) for sample in task.samples]
            return Answer(Made(tuple(clip for clip in clips if clip is not None)), seconds)
        result = self._store.result(task.cell.id)
        assert result is not None
        wanted = {sample.id for sample in task.samples}
        rows = tuple(row for row in result.rows if row["sample"] in wanted)
        pictured = {sample.id: {"original": sample.load()} for sample in task.samples}
        return Answer(Part(rows, (), {}, pictured, result.provenance or {}), seconds)

    def give_up(self, slot: int) -> None:
        del self._awake[slot]

    def close(self) -> None: ...


def main() -> None:
    """A line per number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--faster", type=float, default=1.0, help="how many times as fast the work is; overhead is not")
    options = parser.parse_args()
    store = Store.existing(options.run)
    cells = [cell for cell in store.grid().check() if store.done(cell.id)]
    learned = [entry["costs"] for entry in store.logged() if "costs" in entry]
    if not learned:
        raise SystemExit(f"{options.run} says nothing of how long its work took; run its grid into a new folder")
    print("| workers | work (s) | passed (s) | efficiency |\n|---|---|---|---|")
    for workers in options.workers:
        with TemporaryDirectory() as folder:
            sleepers = Sleepers(workers, store, Costs(learned[-1]), options.faster)
            started = time.monotonic()
            Runner(Store(Path(folder)), executor=sleepers).run(cells)
            passed = time.monotonic() - started
        print(
            f"| {workers} | {sleepers.work:.1f} | {passed:.1f} | {sleepers.work / passed / workers:.1%} |", flush=True
        )


if __name__ == "__main__":
    main()
