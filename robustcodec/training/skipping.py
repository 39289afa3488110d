"""Steps of a training that have no finite gradient are skipped by the device itself, and counted there.

To ask after each step whether it was one would make the host wait until the device has done it, and the device then
wait for the next step. So the optimiser is told by a tensor, and the host looks when it has to know.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Skipping:
    """How many of the last steps in a row were skipped on ``device``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._in_a_row = torch.zeros((), device=device)

    def judge(self, values: Iterable[Tensor], optimiser: torch.optim.Optimizer) -> None:
        """Count a step whose ``values``, scalars, are not all finite; ``optimiser``, a fused one, then skips it."""
        failed = ~torch.stack([value.detach().float() for value in values]).isfinite().all()
        self._in_a_row = torch.where(failed, self._in_a_row + 1, 0.0)
        optimiser.found_inf = failed.float()  # type: ignore[attr-defined]  # what mixed precision tells it, too

    def look(self) -> int:
        """The count. Waits for the device."""
        return int(self._in_a_row)

    def start(self, count: int = 0) -> None:
        """Count on from ``count``."""
        self._in_a_row = torch.full((), float(count), device=self._device)
