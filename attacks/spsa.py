"""SPSA: gradients estimated from differences along random signs, climbed with Adam (Uesato et al., ICML 2018).

https://arxiv.org/abs/1802.05666; the estimate is Spall's, 1992 (https://doi.org/10.1109/9.119632).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.attacks.ascent import per_sample
from robustcodec.attacks.queries import Asker, Kind, QueryAttack, noise, rms, sized, slope
from robustcodec.interfaces import Draws, Threat
from robustcodec.registry import attacks

BETAS = (0.9, 0.999)


@attacks.register("spsa")
@dataclass(frozen=True)
class SPSA(QueryAttack):
    """Adam along gradients that are estimated from ``samples`` pairs of queries at opposite random signs.

    The attack starts at a random allowed input and steps until ``queries`` are spent; each iterate costs one further
    query. ``width`` is the size of the differences and ``lr`` the learning rate, both as fractions of the root mean
    square of a perturbation of full budget. ``kind``: the signs are those of noise of single pixels (``pixel``), of
    blocks of ``coarse`` × ``coarse`` pixels (``block``), or of the lowest ``1 / coarse`` of the frequencies of a frame
    (``dct``).

    The paper uses 0.01 for both on the [0, 1] scale, under an L∞ budget of 8/255 (0.32 of it), 8192 pairs, and signs of
    single pixels; coarser signs need fewer queries. Every queried input is projected and rounded to 8 bits, and the
    best one is returned. A run with more queries begins exactly like one with fewer.
    """

    samples: int = 5
    width: float = 0.32
    lr: float = 0.32
    kind: Kind = "block"
    coarse: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.samples, self.coarse) < 1 or not (self.width > 0 and self.lr > 0):
            raise ValueError(
                f"samples={self.samples}, coarse={self.coarse}, width={self.width}, lr={self.lr}; expected at least 1 "
                "pair, blocks of at least 1 pixel and positive fractions of the budget"
            )

    def search(self, ask: Asker, x: Tensor, threat: Threat, rng: Draws) -> None:
        delta = threat.random_start(x, rng) - x
        ask(delta)
        mean, square = torch.zeros_like(x), torch.zeros_like(x)
        step = 0
        while ask.can(2 * self.samples + 1):
            step += 1
            signs = (
                self.width * sized(noise(rng, x, self.kind, self.coarse).sign(), x, threat) for _ in range(self.samples)
            )
            grad = slope(ask, delta, signs)
            size = rms(grad)
            grad = grad / per_sample(torch.where(size > 0, size, 1.0))  # so that no damage is too small for float32
            mean = BETAS[0] * mean + (1 - BETAS[0]) * grad
            square = BETAS[1] * square + (1 - BETAS[1]) * grad.square()
            adam = mean / (1 - BETAS[0] ** step) / (square / (1 - BETAS[1] ** step)).sqrt().clamp(min=1e-8)
            unit = rms(threat.steepest(adam, x))
            delta = threat.project(x + delta + self.lr * per_sample(unit) * adam, x) - x
            ask(delta)
