"""What is seen of a training: a bar on a terminal, and a line for every validation; elsewhere also for checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from robustcodec.cli._display import progress_bar

if TYPE_CHECKING:
    from robustcodec.training.loop import Loop
    from robustcodec.training.progress import TrainingStatus


def train(trainer: Loop[Any], console: Console, workers: int) -> Path:
    """Run ``trainer``, show how it goes, and return the path of the weights; Ctrl-C ends the command with code 130."""
    for note in trainer.remarks:
        _warn(console, note)
    if trainer.step:
        console.print(f"resuming at step {trainer.step}", style="dim")
    with progress_bar(console) as bar:
        task = bar.add_task(trainer.recipe.name, total=trainer.recipe.steps, completed=trainer.step, note="preparing")
        checkpoint, validation = trainer.checkpoint, trainer.validation

        def show(status: TrainingStatus) -> None:
            nonlocal checkpoint, validation
            note = describe(status)
            bar.update(task, completed=status.step, note=note)
            saved = status.checkpoint != checkpoint and not console.is_terminal
            if saved or status.validation != validation:
                scores = ", ".join(f"{k} {v:.3f}" for k, v in status.validation.items())
                line = f"step {status.step}: {note}" + (f" | {scores}" if scores else "")
                bar.console.print(line, style="dim", highlight=False, soft_wrap=True)
            checkpoint, validation = status.checkpoint, status.validation

        try:
            return trainer.run(show, lambda note: _warn(bar.console, note), workers=workers)
        except KeyboardInterrupt:
            kept = f"the last checkpoint is of step {trainer.checkpoint}, and the same command goes on from there"
            if not trainer.checkpoint_path.is_file():
                kept = "nothing is kept yet, and the same command begins from the first step"
            console.print(f"interrupted; {kept}")
            raise typer.Exit(130) from None


def describe(status: TrainingStatus) -> str:
    """Loss, rate, distortion and pace of a step, those that there are."""
    parts = [f"loss {status.loss:.3f}"]
    if not math.isnan(status.bpp):
        parts.append(f"{status.bpp:.3f} bpp, distortion {status.distortion:.4g}")
    parts.append(f"{status.steps_per_second:.3g} steps/s")
    return ", ".join(parts)


def _warn(console: Console, note: str) -> None:
    console.print(note, style="yellow")
