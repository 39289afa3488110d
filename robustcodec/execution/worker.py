"""Does tasks one after the other, in whichever process it lives: it keeps codecs, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.execution.isolation import isolated
from robustcodec.execution.tasks import Answer, Failure, Task
from robustcodec.running.codecs import Codecs
from robustcodec.running.crafting import Crafting, Made
from robustcodec.running.evaluating import Crafted, Evaluation, Part
from robustcodec.scores.metrics import of_every_run

SHOWN = 0.2  # seconds from one damage that a display learns of to the next


@dataclass(frozen=True)
class Setting:
    """What all workers of a run have in common. ``threads``: of one worker; None: as torch has it. Results are the same
    bits at equal threads. ``metrics``: scores beside PSNR and MS-SSIM.
    """

    metrics: tuple[str, ...] = ()
    threads: int | None = None


class Worker:
    """On one ``device``. Raises :class:`MissingDependency` for a metric that cannot be computed here."""

    def __init__(self, setting: Setting, device: str = "cpu") -> None:
        self.device, self.threads = torch.device(device), setting.threads
        self.codecs = Codecs(self.device)
        metrics = {metric.name: metric for metric in of_every_run(setting.metrics, device)}
        self.crafting, self.evaluation = Crafting(self.codecs), Evaluation(self.codecs, metrics)

    def do(self, task: Task, queried: Callable[[float], None] = lambda damage: None) -> Answer:
        """What came of a task: whatever it raises is its failure. ``queried`` learns the mean damage now and then."""
        started = time.perf_counter()
        with isolated(self.threads):
            outcome = self._outcome(task, now_and_then(queried))
        return Answer(outcome, time.perf_counter() - started, str(self.device))

    def _outcome(self, task: Task, queried: Callable[[Tensor], None]) -> Made | Part | Failure:
        try:
            cell = task.cell.resolved
            cell.codecs = dict(task.codecs)
            if task.clips is None:
                return self.crafting.run(cell, task.batches, task.probed, queried)
            crafted = [Crafted(sample, *clip) for sample, clip in zip(task.samples, task.clips, strict=True)]
            return self.evaluation.run(cell, crafted)
        except BaseException as error:  # attacks, codecs and defenses are anyone's code
            return Failure.of(error)


def now_and_then(show: Callable[[float], None]) -> Callable[[Tensor], None]:
    """Shows the mean of some damages: to read one makes a GPU wait until it has done all that it was told."""
    shown = time.perf_counter()

    def queried(damage: Tensor) -> None:
        nonlocal shown
        if (now := time.perf_counter()) - shown > SHOWN:
            shown = now
            show(float(damage.mean()))

    return queried
