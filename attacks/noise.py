"""Random noise of the full budget: the floor that every attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks


@attacks.register("noise")
@dataclass(frozen=True)
class Noise(Attack):
    """Uniform in the ball: ±eps for L∞; for L2 a random direction, at the boundary.

    In d dimensions a uniform point of an L2 ball is at ``u^(1/d)`` of the radius, with u uniform: within
    0.001 dB of it for an image. No query is made.
    """

    access: ClassVar[Literal["white", "black"]] = "black"
    baseline = True

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return threat.random_start(x, rng)
