"""Runs the cells of a grid into a store: what is missing is crafted and evaluated.

A failing cell never stops a grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from robustcodec.errors import BadParameter, last_line
from robustcodec.execution.costs import Costs
from robustcodec.execution.here import Here
from robustcodec.execution.jobs import Evaluations, plan
from robustcodec.execution.scheduler import Executor, Scheduler
from robustcodec.execution.watching import Watcher
from robustcodec.execution.worker import Setting, Worker
from robustcodec.running.grid import Cell
from robustcodec.running.labels import labels
from robustcodec.running.provenance import provenance
from robustcodec.running.store import Result, Store
from robustcodec.scores.metrics import of_every_run


@dataclass
class Tally:
    """How a run went, in cells."""

    ran: int = 0
    skipped: int = 0
    failed: int = 0
    mistakes: int = 0  # of those that failed: by what was typed or given, not by what ran
    errors: dict[str, str] = field(default_factory=dict)  # cell, in words that tell it apart → last line of its error


class Runner:
    """Runs cells into a store. ``batch_size``: samples of one shape crafted together on a GPU, where no number depends
    on it beyond float noise; on a CPU samples are crafted one by one, and no bit does. ``metrics``: scores beside PSNR
    and MS-SSIM, such as ``lpips:net=squeeze``; cells that were done without them are scored again, from the clips
    already crafted. ``executor``: who does the work; None: this process. ``limit``: seconds of work that a cell may
    take; this process cannot end what it does itself. ``with_clips``: a cell is done only if its clips are there too,
    for who needs them beside its scores. ``clips``, ``queries``: crafted so far, and what they took.

    Raises :class:`MissingDependency` for a metric that cannot be computed here, :class:`BadParameter` for a limit
    without an executor that can keep it.
    """

    def __init__(
        self,
        store: Store,
        device: str = "cpu",
        batch_size: int = 1,
        metrics: Sequence[str] = (),
        executor: Executor | None = None,
        limit: float | None = None,
        with_clips: bool = False,
    ) -> None:
        self.store, self.device = store, torch.device(device)
        self.metrics = [metric.name for metric in of_every_run(metrics, device)]
        self._setting = Setting(tuple(metrics))
        self.executor = executor or Here(self._setting, device)
        if limit is not None and isinstance(self.executor, Here):
            raise BadParameter(f"limit={limit:g} s, but this process cannot end what it does itself; give an executor")
        self._batch_size = 1 if self.device.type == "cpu" else batch_size
        self._limit, self._with_clips = limit, with_clips
        self.clips = self.queries = 0
        self._told = 0  # how many of the store's damages the watcher has been told of

    def run(self, cells: Iterable[Cell], watcher: Watcher | None = None) -> Tally:
        """Run what is missing; failures are kept with their traceback and tried again by the next run.

        Raises :class:`UserError` before anything runs if a cell cannot be identified (a name, weights, data).
        """
        watcher, tally, cells = watcher or Watcher(), Tally(), list(cells)
        todo = [cell for cell in cells if not self.done(cell)]
        tally.skipped = len(cells) - len(todo)
        names = labels(cells)
        watcher.planned(len(cells), tally.skipped)
        costs = Costs.last(self.store.logged())
        crafts, evaluations = plan(todo, self.store, self._batch_size)
        for damage in self.store.damages[self._told :]:
            watcher.noted(damage)
        self._told = len(self.store.damages)

        def finish(job: Evaluations) -> None:
            if job.failure is None and not job.parts:  # another run in the same folder did it
                tally.skipped += 1
                return
            result = self._keep(job)
            if result.error is not None:
                assert job.failure is not None
                tally.failed += 1
                tally.mistakes += job.failure.mistake
                tally.errors[names[job.cell]] = last_line(result.error)
            else:
                tally.ran += 1
            watcher.cell_finished(result, job.seconds)

        scheduler = Scheduler(self.store, self.executor, watcher, costs, self.done, finish, self._limit)
        for job in evaluations:
            if job.failure is not None:
                finish(job)
        try:
            scheduler.run(crafts, [job for job in evaluations if job.failure is None])
        finally:
            self.clips += scheduler.clips
            self.queries += scheduler.queries
            if crafts or evaluations:
                self.store.log({"costs": costs.known()})
        return tally

    @cached_property
    def worker(self) -> Worker:
        """One in this process, for what is no grid: the executor's own, if it has one here."""
        return self.executor.worker if isinstance(self.executor, Here) else Worker(self._setting, str(self.device))

    def done(self, cell: Cell) -> bool:
        """True if the store holds this cell with every score of this runner, and its clips if those are wanted."""
        if not self.store.done(cell.id, self.metrics):
            return False
        return not self._with_clips or all(self.store.holds_clip(cell.craft_id(sample)) for sample in cell.samples())

    def _keep(self, job: Evaluations) -> Result:
        if job.failure is not None:
            result = Result(job.cell.id, job.cell, "error", provenance=provenance(self.device), error=job.failure.error)
        else:
            result, pictured = job.result()
            self.store.put_decoded(result.id, pictured)
        self.store.put(result)
        entry = {"cell": result.id, "what": str(job.cell), "status": result.status, "seconds": round(job.seconds, 2)}
        self.store.log(entry)
        return result
