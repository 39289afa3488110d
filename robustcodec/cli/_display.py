"""Live displays of long work, and the choice of a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import fmean
from types import TracebackType

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from robustcodec.brought.arguments import device_of
from robustcodec.cli._console import Console
from robustcodec.errors import counted, last_line
from robustcodec.execution.pace import Pace
from robustcodec.execution.tasks import Answer, Task
from robustcodec.execution.watching import Watcher
from robustcodec.running.grid import Cell
from robustcodec.running.store import Result

SHOWN = 8  # workers in a line of their own


def choose_device(name: str) -> str:
    """``auto`` is CUDA where there is one; raises :class:`UserError` for a device that is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device_of(name)


def report_console(stderr: bool = False) -> Console:
    """A console for tables: as wide as the terminal, or 120 columns where there is none (a pipe, a log)."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=120)


def progress_bar(console: rich.console.Console) -> Progress:
    """A bar per task with what the task notes in its field ``note``, and time elapsed."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


class RunDisplay(Watcher):
    """A line for every cell that has finished, and in a terminal also cells done and failed, the time left, and what
    each worker does. A watcher of :class:`Runner`.
    """

    def __init__(self, console: rich.console.Console) -> None:
        self.console, self.progress = console, progress_bar(console)
        self.cells = self.progress.add_task("cells", total=None, note="")
        self.slots: list[TaskID] = []
        self.done, self.total, self.failed, self.pace = 0, 0, 0, ""

    def __enter__(self) -> RunDisplay:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def planned(self, cells: int, done: int) -> None:
        self.total, self.done = cells, done
        self.progress.update(self.cells, total=cells, completed=done)

    def started(self, slot: int, task: Task) -> None:
        while len(self.slots) <= slot:
            self.slots.append(self.progress.add_task("", total=None, note="", visible=len(self.slots) < SHOWN))
        what = "crafts" if task.crafts else "evaluates"
        samples = f"{len(task.samples)} sample{'s'[: len(task.samples) > 1]}"
        self.progress.reset(self.slots[slot], total=None, description=f"{what} {task.cell}", visible=slot < SHOWN)
        self.progress.update(self.slots[slot], note=samples)

    def queried(self, slot: int, damage: float) -> None:
        self.progress.update(self.slots[slot], note=f"damage {damage:.3g}")

    def finished(self, slot: int, task: Task, answer: Answer) -> None:
        self.progress.update(self.slots[slot], visible=False)

    def paced(self, pace: Pace) -> None:
        self.pace = str(pace)
        self._show()

    def noted(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Say what is going on now that is no cell."""
        if not self.slots:
            self.slots.append(self.progress.add_task("", total=None, note=""))
        self.progress.reset(self.slots[0], total=None, description=text, visible=True)

    def cell_finished(self, result: Result, seconds: float) -> None:
        self.failed += result.status == "error"
        self.done += 1
        self._show()
        what = f"{result.cell}{_found(result)}" if result.error is None else _failed(result)
        place = f"{self.done}/{self.total} {seconds:.1f} s"
        self.console.print(f"{place} {what}", highlight=False, soft_wrap=True)

    def _show(self) -> None:
        failed = f"{self.failed} failed" if self.failed else ""
        self.progress.update(self.cells, completed=self.done, note=", ".join(filter(None, (failed, self.pace))))


def plan_of(cells: Sequence[Cell]) -> str:
    """What will be done, in a line: how many cells, on how many samples of which data sets."""
    samples: dict[str, int] = {}
    for cell in cells:
        if cell.resolved.flaw is None:
            samples[cell.data] = max(samples.get(cell.data, 0), len(cell.samples()))
    each = [f"{counted(count, 'sample')} of {name}" for name, count in samples.items()]
    codecs = counted(len({cell.codec for cell in cells}), "codec")
    return f"{counted(len(cells), 'cell')} to measure: {', '.join([codecs, *each])}"


def _found(result: Result) -> str:
    """``: 28.84 → 27.11 dB PSNR``, the means over samples; nothing where there is no number."""
    pairs = [(row["psnr"], row["adv_psnr"]) for row in result.rows]
    known = [pair for pair in pairs if all(map(isfinite, pair))]
    if not known:
        return ""
    clean, attacked = map(fmean, zip(*known, strict=True))
    return f": {clean:.2f} → {attacked:.2f} dB PSNR"


def _failed(result: Result) -> str:
    return f"failed: {result.cell}: {last_line(result.error or '')}"


class OneAttack(RunDisplay):
    """A single cell, of a command that shows what came of it."""

    def cell_finished(self, result: Result, seconds: float) -> None:
        """What failed is said once, as the error of the command."""


def say_failures(console: rich.console.Console, errors: Mapping[str, str]) -> None:
    """A line for every cell that failed."""
    for cell, error in errors.items():
        console.print(f"failed: {cell}: {error}", style="bold", highlight=False, soft_wrap=True)


class Noting(Watcher):
    """Says only what is noted, where no bar can be shown."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def noted(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)


class CraftingNote(Watcher):
    """Notes at the bar of another task which attack is being made."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def started(self, slot: int, task: Task) -> None:
        self._progress.update(self._task, note=f"crafting {task.cell}")
