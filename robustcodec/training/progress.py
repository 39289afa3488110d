"""What a training tells of itself: TensorBoard logs, and statuses for a display."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter


@dataclass(frozen=True)
class TrainingStatus:
    """What a display needs about a moment of training. Rates in bpp, distortion as the metric's loss; NaN if none.

    ``checkpoint``: the step of the last one.
    """

    step: int
    steps: int
    loss: float
    bpp: float
    distortion: float
    lr: float
    steps_per_second: float
    validation: dict[str, float]
    checkpoint: int


class Log:
    """Logs in ``folder`` of a run of ``steps`` steps that goes on from ``step``; ``on_progress`` is told as well."""

    def __init__(self, folder: Path, step: int, steps: int, on_progress: Callable[[TrainingStatus], None]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step)
        self._first, self._started = step, perf_counter()
        self._steps, self._on_progress = steps, on_progress

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *reason: object) -> None:
        self._writer.close()

    def write(self, group: str, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(f"{group}/{key}", value, step)

    def show(self, step: int, values: dict[str, float], validation: dict[str, float], checkpoint: int) -> None:
        """Tell of ``step``: ``values`` as a trainer's update returns them, scores of the last validation."""
        self.write("train", step, values)
        pace = max(0, step - self._first) / (perf_counter() - self._started)
        moment = {k: values.get(k, math.nan) for k in ("loss", "bpp", "distortion", "lr")}
        self._on_progress(
            TrainingStatus(
                step, self._steps, **moment, steps_per_second=pace, validation=validation, checkpoint=checkpoint
            )
        )
