"""C&W: a Lagrangian whose weight is searched for each sample (Carlini & Wagner, 2017,
https://arxiv.org/abs/1608.04644).

Adam minimises ``|n|² - c·damage(x + s n)``, where the factor s is chosen so that n has a root mean square of 1 at the
edge of the threat. As published, each search starts anew: c is first multiplied by a factor until a too small and a too
large value are known, and is then bisected, all per sample. Two things differ, because damage has no decision boundary
and the threat is a hard limit. The weight c counts as too large when n wants to leave the threat, so that the right c
just uses the budget, and every iterate is projected onto the threat. And n itself is optimised, inside the box, instead
of tanh(w), which has no gradient where a clean pixel is black or white.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.attacks._published import near
from robustcodec.attacks.ascent import Best, due, per_sample
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

GROWTH = 4.0  # of c while only one side of it is known; 10 in the authors' code
LEAVES = 1.0001  # times as long as its projection: a perturbation that the threat cuts
# Adam's constant. Gradients of |n|² are about 2, so that steps follow the gradient; at 1 all values move more alike,
# which does 0.1 dB less damage at 40 dB and 0.3 dB less at 34 dB to bmshj2018-hyperprior.tiny-q2.
DAMPING = 10.0


@attacks.register("cw")
@dataclass(frozen=True)
class CW(Attack):
    """Adam on squared size minus weighted damage, with the weight c searched for each sample.

    ``binary_search``: number of searches, each with one value of c. ``steps``: number of Adam's steps in each. The
    first c makes the gradients of both terms equally long. Under an L∞ threat only the projection limits n, and c only
    grows. ``lr`` is the learning rate for n, whose root mean square is 1 at the edge of the threat. ``start``: each
    search begins at this fraction, in [0, 1], of a random allowed perturbation.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.

    The published attack has 9 searches of up to 1000 steps at a rate of 0.01 in the space of w, begins with c = 1e-3,
    and starts at the clean clip.
    """

    steps: int = 30
    lr: float = 5.0
    binary_search: int = 5
    start: float = 0.5
    judge: int = 10
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.binary_search, self.judge) < 1:
            raise ValueError(
                f"steps={self.steps}, binary_search={self.binary_search}, judge={self.judge}; "
                "expected at least 1 of each"
            )
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}; expected a positive number")
        if not 0 <= self.start <= 1:
            raise ValueError(f"start={self.start} is not in [0, 1]; expected a fraction of the budget")

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        best = Best(x)
        unit = per_sample(_length(threat.steepest(torch.ones_like(x), x)) / math.sqrt(x[0].numel()))
        start = near(x, threat, rng, self.start)
        low, high = torch.zeros(len(x), device=x.device), torch.full((len(x),), math.inf, device=x.device)
        c: Tensor | None = None
        for _ in range(self.binary_search):
            here, leaves = start, torch.zeros_like(low, dtype=torch.bool)
            n = (here - x) / unit
            adam = torch.optim.Adam([n], lr=self.lr, eps=DAMPING)
            for step in range(self.steps):
                oracle.progress = step / self.steps
                _, grad = oracle.gradient(here, self.surrogate)
                grad = unit * threat.confine(grad, x)
                c = _balance(grad) if c is None else c
                n.grad = 2 * n - per_sample(c) * grad
                adam.step()
                here = threat.project(x + unit * n, x)
                leaves = _length(unit * n) > LEAVES * _length(here - x)
                n.copy_((here - x) / unit)
                if due(step, self.steps, self.judge):
                    best.judge(here, x, oracle, threat)
            assert c is not None  # steps >= 1
            if threat.norm == "linf":
                leaves = torch.zeros_like(leaves)
            low, high = torch.where(leaves, low, c), torch.where(leaves, c, high)
            c = torch.where(high.isinf(), GROWTH * low, torch.where(low > 0, (low * high).sqrt(), high / GROWTH))
        return best.x


def _balance(grad: Tensor) -> Tensor:
    """``(N,)`` c for which ``c·grad`` is as long as the gradient of ``|n|²`` at the budget; 1 where there is none."""
    length = _length(grad)
    return torch.where(length > 0, 2 * math.sqrt(grad[0].numel()) / length, 1.0)


def _length(v: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return length
