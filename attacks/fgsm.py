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
    """The steepest step of full radius from the clean clip, by the gradient near it.

    ``start``: where the gradient is taken, as a fraction in [0, 1] of a random allowed perturbation. At 0, the
    original attack, ``distortion`` has next to no gradient. ``surrogate``: how it passes the rounding of latents.
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
