"""Live displays of long work, and the choice of a device."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robustcodec.errors import UserError
from robustcodec.running.grid import Cell
from robustcodec.running.store import Result

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 0.2  # between two damages that are shown: each waits for the device


def choose_device(name: str) -> str:
    """``auto`` is CUDA where there is one; raises :class:`UserError` for a device that is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name!r} cannot be used ({reason}); expected auto, cpu or cuda") from None
    return name


def report_console(stderr: bool = False) -> Console:
    """A console for tables: as wide as the terminal, or 120 columns where there is none (a pipe, a log)."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=120)


def progress_bar(console: Console) -> Progress:
    """A bar per task with what the task notes in its field ``note``, time elapsed and time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class RunDisplay:
    """Cells done, failed and running, the current damage, and the time left. A watcher of :class:`Runner`."""

    def __init__(self, console: Console, cells: int, done: int) -> None:
        self.progress = progress_bar(console)
        self.cells = self.progress.add_task("cells", total=cells, completed=done, note="")
        self.current = self.progress.add_task("", total=1, note="", visible=False)
        self.failed, self.queries, self.shown = 0, 0, 0.0
        self.console = console

    def __enter__(self) -> RunDisplay:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def cell_started(self, cell: Cell) -> None:
        self.queries = 0
        total = len(cell.samples())
        self.progress.reset(self.current, total=total, description=str(cell), visible=True, note="")

    def sample_done(self, cell: Cell, done: int, total: int) -> None:
        self.progress.update(self.current, completed=done, total=total)

    def note(self, text: str) -> None:
        """Say what is going on now that is no cell."""
        self.progress.reset(self.current, total=None, description=text, visible=True, note="")

    def queried(self, damage: Tensor) -> None:
        self.queries += 1
        now = time.monotonic()
        if now - self.shown > SECONDS:
            self.shown = now
            self.progress.update(self.current, note=f"query {self.queries}, damage {float(damage.mean()):.3g}")

    def cell_finished(self, result: Result, seconds: float) -> None:
        self.failed += result.status == "error"
        self.progress.update(self.cells, advance=1, note=f"{self.failed} failed" if self.failed else "")
        if result.error is not None:
            line = result.error.strip().splitlines()[-1]
            self.console.print(f"failed: {result.cell}: {line}", markup=False, highlight=False)


class OneAttack(RunDisplay):
    """A single cell, of a command that shows what came of it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, 1, 0)

    def cell_finished(self, result: Result, seconds: float) -> None:
        """What failed is said once, as the error of the command."""
