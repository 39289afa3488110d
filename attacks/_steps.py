"""What all iterative attacks share: the best input seen, per sample, and when to look."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcodec.interfaces import Oracle, Threat


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

    @torch.no_grad()
    def judge(self, x_adv: Tensor, x: Tensor, oracle: Oracle, threat: Threat) -> Tensor:
        """See ``x_adv`` as it will count: rounded to 8 bits inside the threat, by the codec that rounds its latents.

        One query; returns that damage, ``(N,)``.
        """
        counted = threat.quantise(threat.project(x_adv, x), x)
        damage = oracle(counted)
        self.see(counted, damage)
        return damage


def due(step: int, steps: int, every: int) -> bool:
    """True after every ``every``-th of ``steps`` steps, counted from 0, and after the last: when to judge."""
    return (step + 1) % every == 0 or step == steps - 1


def per_sample(values: Tensor) -> Tensor:
    """``(N,)`` shaped to multiply a clip ``(N, T, 3, H, W)``."""
    return values[:, None, None, None, None]
