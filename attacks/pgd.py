"""PGD: projected steepest ascent from random starts (Madry et al., 2018, https://arxiv.org/abs/1706.06083).

With ``momentum``, MI-FGSM (Dong et al., 2018, https://arxiv.org/abs/1710.06081).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcodec.attacks.ascent import Ascent, best_of
from robustcodec.interfaces import Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks


@attacks.register("pgd")
@dataclass(frozen=True)
class PGD(Ascent):
    """``steps`` steps from each of ``restarts`` starts, the first of ``step_size`` radii; the best of those judged is
    returned.

    ``surrogate``: how the gradient passes the rounding of latents; ``annealed`` sharpens it in stages
    (:mod:`robustcodec.rounding`). ``widening``: the climb begins in a set so many times as wide as the threat, which
    shrinks to it until 90 % of the steps are done. ``decay``: steps shrink along a cosine to 2 % of the first, or are
    ``constant``. Every ``judge``-th
    iterate and the last are judged by what the codec really does with their 8-bit version. More restarts never do less;
    with ``judge=1``, ``decay=constant,widening=1`` and another surrogate a longer run begins with the shorter one.
    ``momentum``: decay of the sum of past gradients, each of mean absolute value 1. ``random_start=False`` starts at
    the clean clip, where ``distortion`` has next to no gradient. The published attack has
    ``decay=constant,widening=1``.
    """

    steps: int = 20  # once more, so that it is the first: ``pgd:50``
    random_start: bool = True
    restarts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.restarts < 1:
            raise ValueError(f"restarts={self.restarts}; expected at least 1")
        if self.restarts > 1 and not self.random_start:
            raise ValueError(f"restarts={self.restarts} would all be the same; use random_start=true or restarts=1")

    def start(self, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return threat.random_start(x, rng.child()) if self.random_start else x

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return best_of(oracle, [self.climb(oracle, x, threat, rng) for _ in range(self.restarts)])
