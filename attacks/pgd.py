"""PGD: projected steepest ascent from random starts (Madry et al., 2018, https://arxiv.org/abs/1706.06083).

With ``momentum``, MI-FGSM (Dong et al., 2018, https://arxiv.org/abs/1710.06081).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcodec.attacks._steps import Best, ascend, best_of
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
        return best_of(oracle, [self._once(oracle, x, threat, rng) for _ in range(self.restarts)])

    def _once(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Best:
        start = threat.random_start(x, rng.child()) if self.random_start else x
        return ascend(
            oracle,
            x,
            threat,
            start,
            steps=self.steps,
            step_size=self.step_size,
            momentum=self.momentum,
            judge=self.judge,
            surrogate=self.surrogate,
        )
