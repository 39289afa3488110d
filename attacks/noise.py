"""Random noise of the full budget, which every attack must beat."""

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
    """Random noise: uniform in ±eps under an L∞ threat, a random direction of full length under a threat of L2 type.

    The attack asks the codec nothing. In d dimensions a uniform point of an L2 ball lies at ``u^(1/d)`` of the radius,
    with u uniform in [0, 1]. For an image that is within 0.001 dB of the boundary, so the noise is put onto the
    boundary.
    """

    access: ClassVar[Literal["white", "black"]] = "black"
    baseline = True

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return threat.random_start(x, rng)
