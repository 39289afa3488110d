"""PGD: projected steepest ascent from random starts (Madry et al., 2018, https://arxiv.org/abs/1706.06083).

With ``momentum``, MI-FGSM (Dong et al., 2018, https://arxiv.org/abs/1710.06081).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.attacks._steps import Best, due, per_sample
from robustcodec.interfaces import Attack, Draws, Oracle, Threat
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting


@attacks.register("pgd")
@dataclass(frozen=True)
class PGD(Attack):
    """``steps`` steps of ``step_size`` radii from each of ``restarts`` starts; the best of those judged is returned.

    Every ``judge``-th iterate and the last are judged by what the codec really does with their 8-bit version; with
    ``judge=1`` a longer run begins with the shorter one and does at least as much damage. More restarts never do less.
    ``surrogate``: how the gradient passes the rounding of latents. ``momentum``: decay of the sum of past
    gradients, each of mean absolute value 1. ``random_start=False`` starts at the clean clip, where
    ``distortion`` has next to no gradient.
    """

    steps: int = 20
    step_size: float = 0.3
    random_start: bool = True
    momentum: float = 0.0
    restarts: int = 1
    judge: int = 10
    surrogate: Crafting = "none"

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.judge) < 1:
            raise ValueError(
                f"steps={self.steps}, restarts={self.restarts}, judge={self.judge}; expected at least 1 of each"
            )
        if not self.step_size > 0 or not self.momentum >= 0:
            raise ValueError(
                f"step_size={self.step_size}, momentum={self.momentum}; expected a positive fraction of the radius "
                "and a decay of at least 0"
            )
        if self.restarts > 1 and not self.random_start:
            raise ValueError(f"restarts={self.restarts} would all be the same; use random_start=true or restarts=1")

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        best = Best(x)
        for _ in range(self.restarts):
            x_adv = threat.random_start(x, rng.child()) if self.random_start else x
            direction = torch.zeros_like(x)
            for step in range(self.steps):
                _, grad = oracle.gradient(x_adv, self.surrogate)
                direction = self.momentum * direction + _normalised(grad) if self.momentum else grad
                x_adv = threat.project(x_adv + self.step_size * threat.steepest(direction, x), x)
                if due(step, self.steps, self.judge):
                    best.judge(x_adv, x, oracle, threat)
        return best.x


def _normalised(grad: Tensor) -> Tensor:
    """Mean absolute value 1 per sample; zero stays zero."""
    size = per_sample(grad.abs().flatten(1).mean(1))
    return grad / torch.where(size > 0, size, 1.0)
