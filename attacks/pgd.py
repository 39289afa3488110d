"""PGD: projected steepest ascent from random starts (Madry et al., 2018, https://arxiv.org/abs/1706.06083).

With ``momentum`` it follows a decaying sum of gradients, as MI-FGSM does (Dong et al., 2018,
https://arxiv.org/abs/1710.06081).
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
    """Projected steepest ascent from random starts; the best input that was judged is returned.

    ``steps``: number of steps from each of ``restarts`` starts. ``step_size``: length of the first step, in radii of
    the threat. ``decay``: with ``cosine`` steps shrink along a cosine to 2 % of the first, with ``constant`` they keep
    their length. ``widening``: the climb begins in a set this many times as wide as the threat (1: off), which shrinks
    to the threat until 90 % of the steps are done. ``momentum``: the factor by which the sum of past gradients, each
    scaled to a mean absolute value of 1, decays per step (0: no sum). ``random_start=false`` starts at the clean clip,
    where ``distortion`` has almost no gradient.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.

    The published attack has ``decay=constant,widening=1``. More restarts never do less damage. With ``judge=1``,
    ``decay=constant``, ``widening=1`` and a surrogate other than ``annealed`` a run with more steps begins exactly like
    one with fewer.
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
