"""What a display learns of a run."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from robustcodec.running.grid import Cell
from robustcodec.running.store import Result


class Watcher(Protocol):
    """What a display learns of a run.

    ``queried``: with the damage of each sample, ``(N,)``, on the device of the run. To read its values waits until that
    has done all that it was told: not with every query.
    """

    def cell_started(self, cell: Cell) -> None: ...
    def sample_done(self, cell: Cell, done: int, total: int) -> None: ...
    def queried(self, damage: Tensor) -> None: ...
    def cell_finished(self, result: Result, seconds: float) -> None: ...


class Silent:
    """A watcher that shows nothing."""

    def cell_started(self, cell: Cell) -> None: ...
    def sample_done(self, cell: Cell, done: int, total: int) -> None: ...
    def queried(self, damage: Tensor) -> None: ...
    def cell_finished(self, result: Result, seconds: float) -> None: ...
