"""FGSM: one step of full size (Goodfellow et al., 2015, https://arxiv.org/abs/1412.6572)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting


@attacks.register("fgsm")
@dataclass(frozen=True)
class FGSM(Attack):
    """One step of full radius from the clean clip, along the steepest direction of the gradient near it.

    ``start``: the gradient is taken at this fraction, in [0, 1], of a random allowed perturbation. The original attack
    has ``start=0``, but at the clean clip ``distortion`` has almost no gradient. ``surrogate`` says how a gradient
    passes the rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``. A single step is crafted with the first, softest stage of ``annealed``.
    """

    general = False

    start: float = 0.5
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1:
            raise ValueError(f"start={self.start} is not in [0, 1]; expected a fraction of the budget")

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        oracle.progress = 0.0  # no later step could use a sharper rounding
        _, grad = oracle.gradient(x + self.start * (threat.random_start(x, rng) - x), self.surrogate)
        return threat.project(x + threat.steepest(grad, x), x)
