"""NES: gradients estimated from differences along pairs of opposite Gaussian noise (Ilyas et al., ICML 2018).

https://arxiv.org/abs/1804.08598
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.attacks.queries import Asker, Kind, QueryAttack, noise, sized, slope
from robustcodec.interfaces import Draws, Threat
from robustcodec.registry import attacks


@attacks.register("nes")
@dataclass(frozen=True)
class NES(QueryAttack):
    """Steepest ascent along gradients that are estimated from ``samples`` pairs of queries at opposite noise.

    The attack starts at a random allowed input and takes steps of ``step_size`` radii of the threat until ``queries``
    are spent. Each iterate costs one further query. ``width``: standard deviation of the noise, as a fraction of the
    root mean square of a perturbation of full budget. The paper's width, 0.001 on the [0, 1] scale, would not survive
    the rounding to 8 bits that every queried input goes through. ``momentum``: the factor by which the sum of past
    estimates decays per step. ``kind``: the noise is that of single pixels (``pixel``), of blocks of ``coarse`` ×
    ``coarse`` pixels (``block``), or of the lowest ``1 / coarse`` of the frequencies of a frame's cosine transform
    (``dct``). The paper takes 25 pairs of pixel noise; coarser noise needs fewer pairs.

    The best of all queried inputs is returned. A run with more queries begins exactly like one with fewer.
    """

    samples: int = 12
    width: float = 0.5
    step_size: float = 0.3
    momentum: float = 0.9
    kind: Kind = "dct"
    coarse: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.samples, self.coarse) < 1 or not (self.width > 0 and self.step_size > 0 and self.momentum >= 0):
            raise ValueError(
                f"samples={self.samples}, coarse={self.coarse}, width={self.width}, step_size={self.step_size}, "
                f"momentum={self.momentum}; expected at least 1 pair, blocks of at least 1 pixel, positive fractions "
                "of the budget and a decay of at least 0"
            )

    def search(self, ask: Asker, x: Tensor, threat: Threat, rng: Draws) -> None:
        delta = threat.random_start(x, rng) - x
        ask(delta)
        uphill = torch.zeros_like(x)
        while ask.can(2 * self.samples + 1):
            directions = (
                self.width * sized(noise(rng, x, self.kind, self.coarse), x, threat) for _ in range(self.samples)
            )
            uphill = self.momentum * uphill + slope(ask, delta, directions)
            delta = threat.project(x + delta + self.step_size * threat.steepest(uphill, x), x) - x
            ask(delta)
