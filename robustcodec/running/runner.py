"""Runs the cells of a grid into a store: what is missing is crafted and evaluated.

A failing cell never stops a grid.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from robustcodec.errors import RobustCodecError, StoreError, UserError
from robustcodec.running.codecs import Codecs
from robustcodec.running.crafting import Crafting
from robustcodec.running.evaluating import Evaluation
from robustcodec.running.grid import Cell
from robustcodec.running.provenance import provenance
from robustcodec.running.store import Result, Store
from robustcodec.running.watching import Silent, Watcher
from robustcodec.scores.metrics import of_every_run


@dataclass
class Tally:
    """How a run went, in cells."""

    ran: int = 0
    skipped: int = 0
    failed: int = 0
    mistakes: int = 0  # of those that failed: by what was typed or given, not by what ran
    errors: dict[str, str] = field(default_factory=dict)  # cell, as text → last line of its error


class Runner:
    """Runs cells into a store. ``batch_size``: samples of one shape crafted together on a GPU, where no number depends
    on it beyond float noise; on a CPU samples are crafted one by one, and no bit does. ``metrics``: scores beside PSNR
    and MS-SSIM, such as ``lpips:net=squeeze``; cells that were done without them are scored again, from the clips
    already crafted.

    Raises :class:`MissingDependency` for a metric that cannot be computed here.
    """

    def __init__(self, store: Store, device: str = "cpu", batch_size: int = 1, metrics: Sequence[str] = ()) -> None:
        self.store, self.device = store, torch.device(device)
        self.metrics = {metric.name: metric for metric in of_every_run(metrics, device)}
        self.codecs = Codecs(self.device)
        self.crafting = Crafting(store, self.codecs, batch_size)
        self.evaluation = Evaluation(store, self.codecs, self.metrics)

    def run(self, cells: Iterable[Cell], watcher: Watcher | None = None) -> Tally:
        """Run what is missing; failures are kept with their traceback and tried again by the next run.

        Raises :class:`UserError` before anything runs if a cell cannot be identified (a name, weights, data).
        """
        watcher, tally, cells = watcher or Silent(), Tally(), list(cells)
        done = [self.done(cell) for cell in cells]
        for cell, skip in zip(cells, done, strict=True):
            if skip:
                tally.skipped += 1
                continue
            watcher.cell_started(cell)
            started = time.perf_counter()
            result, mistake = self._result(cell, watcher)
            self.store.put(result)
            seconds = time.perf_counter() - started
            self.store.log(
                {"cell": result.id, "what": str(cell), "status": result.status, "seconds": round(seconds, 2)}
            )
            if result.error is not None:
                tally.failed += 1
                tally.mistakes += mistake
                tally.errors[str(cell)] = result.error.strip().splitlines()[-1]
            else:
                tally.ran += 1
            watcher.cell_finished(result, seconds)
        return tally

    def done(self, cell: Cell) -> bool:
        """True if the store holds this cell with every score of this runner."""
        return self.store.done(cell.id, self.metrics)

    def _result(self, cell: Cell, watcher: Watcher) -> tuple[Result, bool]:
        """What came of a cell, and whether it failed by what was typed or given."""
        try:
            return self.evaluation.run(cell.resolved, self.crafting.run(cell.resolved, watcher)), False
        except StoreError:  # the disk, not the cell
            raise
        except RobustCodecError as error:
            return self._failure(cell, str(error)), isinstance(error, UserError)
        except Exception:  # attacks, codecs and defenses are anyone's code: one bad cell must not cost the others
            return self._failure(cell, traceback.format_exc()), False

    def _failure(self, cell: Cell, error: str) -> Result:
        return Result(cell.id, cell, "error", provenance=provenance(self.device), error=error)
