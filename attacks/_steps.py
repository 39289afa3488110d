"""What all iterative attacks share: the best input seen, per sample."""

from __future__ import annotations

import torch
from torch import Tensor


class Best:
    """For each sample the input with the highest damage seen; the clean clip until there is one."""

    def __init__(self, x: Tensor) -> None:
        self.x = x.clone()
        self.damage = torch.full((len(x),), -torch.inf, device=x.device)

    def see(self, x_adv: Tensor, damage: Tensor, allowed: Tensor | None = None) -> None:
        """Keep the samples of ``x_adv`` that beat what was seen, if ``allowed``, ``(N,)``."""
        better = damage > self.damage  # false for NaN
        if allowed is not None:
            better &= allowed
        self.x[better], self.damage[better] = x_adv[better], damage[better].to(self.damage.dtype)
