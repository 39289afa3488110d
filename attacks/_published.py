"""What the published attacks share: Adam with a clock per sample, the size of a budget, presets that stay whole."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from robustcodec.attacks.ascent import per_sample
from robustcodec.interfaces import Attack, Draws, Threat

OFFSET = 1 / 255  # the published attacks start this far from the clean clip
# with the threat's constants gradients have root mean square 1, and this is added to their size: larger than 1, so that
# a step keeps something of their shape; a step of equal size everywhere spends an L2 budget where it does no damage
SOFT = 3.0


class Adam:
    """Adam (Kingma & Ba, 2015, https://arxiv.org/abs/1412.6980); a sample that does not step keeps its moments."""

    def __init__(self, like: Tensor, eps: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self._first, self._second = torch.zeros_like(like), torch.zeros_like(like)
        self._count = torch.zeros(len(like), device=like.device)
        self._eps, self._betas = eps, betas

    def step(self, grad: Tensor, where: Tensor | None = None) -> Tensor:
        """What to add to descend at rate 1, like ``grad``; zero for the samples outside ``where``, ``(N,)``."""
        if where is None:
            where = torch.ones_like(self._count, dtype=torch.bool)
        moves, (b1, b2) = per_sample(where), self._betas
        self._first = torch.where(moves, b1 * self._first + (1 - b1) * grad, self._first)
        self._second = torch.where(moves, b2 * self._second + (1 - b2) * grad.square(), self._second)
        self._count = self._count + where
        count = per_sample(self._count.clamp(min=1))
        size = (self._second / (1 - b2**count)).sqrt() + self._eps
        return torch.where(moves, -self._first / (1 - b1**count) / size, 0.0)


def unit(threat: Threat, x: Tensor) -> Tensor:
    """``(N, 1, 1, 1, 1)``: how far each value that may move does so, if all move equally far to the threat's edge."""
    radius = threat.radius(x).to(x.dtype)
    if threat.norm == "l2":
        free = threat.confine(torch.ones_like(x), x).flatten(1).count_nonzero(1)
        radius = radius / free.sqrt()
    return per_sample(radius)


def published_eps(x: Tensor) -> float:
    """What their Adam adds to the size of a gradient, 1e-8 for a photograph of Kodak's size.

    Gradients of a mean over the clip shrink with its size: so must this.
    """
    return 1e-2 / x[0].numel()


def levelled(grad: Tensor) -> Tensor:
    """Root mean square 1 over the values of each sample that have a gradient; zero stays zero."""
    alive = grad.flatten(1).count_nonzero(1).clamp(min=1)
    size = per_sample((grad.double().square().flatten(1).sum(1) / alive).sqrt()).to(grad.dtype)
    return grad / torch.where(size > 0, size, 1.0)


def near(x: Tensor, threat: Threat, rng: Draws, share: float) -> Tensor:
    """A ``share`` of a random allowed perturbation away from ``x``: next to it, but where ``distortion`` slopes."""
    return x + share * (threat.random_start(x, rng) - x)


def offset(x: Tensor, threat: Threat) -> Tensor:
    """``OFFSET`` on every value that may move: how the published attacks leave the clean clip."""
    return threat.confine(torch.full_like(x, OFFSET), x)


def refuse_changes(attack: Attack, constants: str, fields: tuple[str, ...]) -> None:
    """Raise ValueError if a published preset is asked for together with other values of what it sets."""
    changed = [
        f"{name}={getattr(attack, name)}" for name in fields if getattr(attack, name) != getattr(type(attack), name)
    ]
    if constants != "threat" and changed:
        raise ValueError(
            f"constants={constants} sets {', '.join(fields)} itself, but {', '.join(changed)} was given; "
            "expected one or the other: leave it out, or use constants=threat"
        )


Published = Literal["published-0", "published-1", "published-2", "published-3"]
