"""What travels between the scheduler and a worker, in one process or between machines."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robustcodec.errors import RobustCodecError, UserError
from robustcodec.interfaces import Sample
from robustcodec.memory import out_of_memory, short_of_memory
from robustcodec.running.crafting import Made
from robustcodec.running.evaluating import Part
from robustcodec.running.grid import Cell

Clip = tuple[Tensor, dict[str, Any]]  # adversarial, uint8 (T, 3, H, W), and how it was reached


@dataclass(frozen=True)
class Task:
    """A unit of work: some samples of a cell to be crafted, or to be evaluated with the ``clips`` that were crafted.

    ``batches``: of samples; those of one batch are crafted together. ``codecs``: identities of all codecs that the cell
    names, as they were when it was planned. ``probed``: the first sample of the cell, on which the health of the
    gradient is looked into, whoever crafts it.
    """

    cell: Cell
    batches: tuple[tuple[Sample, ...], ...]
    codecs: Mapping[str, Any]
    probed: str
    clips: tuple[Clip, ...] | None = None

    @property
    def crafts(self) -> bool:
        return self.clips is None

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(sample for batch in self.batches for sample in batch)


@dataclass(frozen=True)
class Failure:
    """What a task failed of: a message, with a traceback where it is nobody's mistake in typing (``mistake``)."""

    error: str
    mistake: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What was raised: with its traceback, unless it was raised on purpose. Raises Ctrl-C again."""
        if isinstance(error, KeyboardInterrupt):
            raise error
        if short_of_memory(error):
            return cls(str(out_of_memory(error)))
        if isinstance(error, RobustCodecError):
            return cls(str(error), isinstance(error, UserError))
        return cls("".join(traceback.format_exception(error)))


@dataclass(frozen=True)
class Answer:
    """What came of a task, how many ``seconds`` it took, and on which ``device``; empty: on none."""

    outcome: Made | Part | Failure
    seconds: float
    device: str = ""
