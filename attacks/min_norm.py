"""The smallest perturbation that breaks the codec, by ascent at a norm that adapts to what the last step did.

As in DDN (Rony et al., 2019, https://arxiv.org/abs/1811.09600), direction and norm are decoupled: each step turns the
perturbation towards the gradient and then gives it a wanted norm, which shrinks where the codec is broken and grows
where it is not. Two things differ. A codec is damaged by degrees, so the next norm is the one that would just break it
if damage grew with the square of the norm. And whether the codec is broken is tested with the 8-bit input and the real
rounding of latents: the forward pass of a gradient shows the decision boundary of a classifier, but not that of a
codec. With the same 100 gradients through a soft rounding, DDN ends 0.4 dB and FMN (Pintor et al., 2021,
https://arxiv.org/abs/2102.12827) 5 dB further from the clean clip
(``robustcodec run benchmarks/smallest-breaks.toml``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.attacks.ascent import Best, due, per_sample
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

LAST = 0.02  # of the first step and of the first change of the norm: where a cosine ends
CHANGE = 0.3  # the largest change of the norm at once, at the beginning
SEARCH = 8  # halvings of the last interval …
NARROWEST = 0.8  # … from this share of the smallest perturbation found to all of it


@attacks.register("min-norm")
@dataclass(frozen=True)
class MinNorm(Attack):
    """Looks for the smallest perturbation that breaks the codec, in the norm that the threat bounds (L2 or L∞).

    ``steps``: number of steps, beginning at a random start whose norm is the whole budget. A step is ``step_size``
    times as long as the norm that is currently wanted, times a factor that falls along a cosine. After every
    ``judge``-th step the input is judged in 8 bits and with the codec's real rounding, and the result changes the
    wanted norm. A codec counts as broken here when the damage exceeds the level of the objective by ``margin``, as a
    share of the way from the clean clip to that level, so that the rounding of the decoded pixels cannot undo it.
    ``surrogate`` says how a gradient passes the rounding of latents: ``annealed`` (a soft rounding that sharpens in
    stages), ``soft``, ``noise``, ``straight-through`` or ``none``.

    The smallest 8-bit input that breaks the codec is returned, or, if none does, the one that does the most damage.
    """

    general = False

    steps: int = 100
    step_size: float = 1.0
    judge: int = 2
    margin: float = 0.005
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.judge) < 1 or not (self.step_size > 0 and self.margin >= 0):
            raise ValueError(
                f"steps={self.steps}, judge={self.judge}, step_size={self.step_size}, margin={self.margin}; expected "
                "at least 1 of each, a positive step and a margin of at least 0"
            )

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        radius = threat.radius(x).to(x.dtype)
        strongest, smallest = Best(x), Best(x)
        with torch.no_grad():
            clean = oracle(x)
        gap = oracle.level() - clean
        oracle.remark("the clean clip counts as broken: nothing is left to attack", gap <= 0)

        @torch.no_grad()
        def broken_by(x_adv: Tensor) -> Tensor:
            """How far an input leads from the clean clip's damage, 0, to where the codec is broken, 1."""
            counted = threat.quantise(threat.project(x_adv, x), x)
            damage = oracle(counted)
            share = (damage - clean) / (gap * (1 + self.margin)).clamp(min=torch.finfo(x.dtype).tiny)
            strongest.see(counted, damage)
            smallest.see(counted, -_norm(counted - x, threat), share >= 1)
            return share

        norm = radius.clone()
        x_adv = threat.random_start(x, rng)
        for step in range(self.steps):
            oracle.progress = step / self.steps
            left = LAST + (1 - LAST) * (1 + math.cos(math.pi * step / self.steps)) / 2
            _, grad = oracle.gradient(x_adv, self.surrogate)
            ahead = per_sample(self.step_size * left * norm / radius) * threat.steepest(grad, x)
            x_adv = threat.project(x + _sized(x_adv - x + ahead, norm, threat), x)
            if due(step, self.steps, self.judge):
                wanted = broken_by(x_adv).clamp(min=1e-6).rsqrt()
                norm = (norm * wanted.clamp(1 - CHANGE * left, 1 + CHANGE * left)).minimum(radius)
        low, high = torch.full_like(norm, NARROWEST), torch.ones_like(norm)
        found = smallest.x.clone() - x
        for _ in range(SEARCH):
            middle = (low + high) / 2
            breaks = broken_by(x + per_sample(middle) * found) >= 1
            low, high = torch.where(breaks, low, middle), torch.where(breaks, middle, high)
        return torch.where(per_sample(smallest.damage.isfinite()), smallest.x, strongest.x)


def _norm(delta: Tensor, threat: Threat) -> Tensor:
    """``(N,)`` norms of perturbations, of the kind that the threat bounds."""
    length: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=math.inf if threat.norm == "linf" else 2, dim=1)
    return length


def _sized(delta: Tensor, norm: Tensor, threat: Threat) -> Tensor:
    """``delta`` of a wanted norm, ``(N,)``: its values cut for L∞, else scaled."""
    limit = per_sample(norm)
    if threat.norm == "linf":
        return delta.clamp(-limit, limit)
    return delta * limit / per_sample(_norm(delta, threat)).clamp(min=torch.finfo(delta.dtype).tiny)
