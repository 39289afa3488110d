"""FTDA: Adam raises the damage while the perturbation is inside the budget, another Adam shrinks it while it is
outside.

This is the fast threshold-constrained distortion attack of Chen & Ma, TCSVT 2023 (https://arxiv.org/abs/2112.08691), in
the form, with the name and with the presets of NIC-RobustBench (https://github.com/msu-video-group/NIC-RobustBench). At
each step a perturbation p does one of two things:

    inside:   Adam(lr) on -damage(x + p)
    outside:  Adam(lr_distance) on the distance

Under a threat of L2 type p is outside if mean(p²) >= tau, and the distance is 1e4·mean(p²). Under an L∞ threat p is
outside if max|p| > tau, and the distance is Σ|p| over the values beyond tau. Two things differ from their code. Each
sample decides for itself whether it is inside, where theirs uses the mean of a batch. And inputs are clipped or scaled
to the budget before they are judged; theirs takes up to 1000 further steps on the distance instead, after which the
budget may still be exceeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from robustcodec.attacks._published import (
    SOFT,
    Adam,
    Published,
    levelled,
    near,
    offset,
    published_eps,
    refuse_changes,
    unit,
)
from robustcodec.attacks.ascent import Best, due, per_sample, remark_rising
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

START = 0.16  # of a random allowed perturbation; the published 1/255 is this much of the radius of their first preset


class _Preset(NamedTuple):
    lr: float
    lr_distance: float
    steps: int
    tau: float  # mean square
    steps_linf: int
    tau_linf: float


PRESETS = {
    "published-0": _Preset(0.2, 0.1, 100, 6e-4, 100, 7 / 255),
    "published-1": _Preset(0.15, 0.1, 100, 3e-4, 100, 5 / 255),
    "published-2": _Preset(0.01, 0.01, 100, 6e-4, 100, 7 / 255),
    "published-3": _Preset(0.007, 0.007, 200, 3e-4, 150, 5 / 255),
}


@attacks.register("ftda")
@dataclass(frozen=True)
class FTDA(Attack):
    """Two Adams in turn: one on the damage while the perturbation is inside the budget, one on its size while it is
    outside.

    ``steps``: number of steps, of which only those inside the budget ask for a gradient. ``lr`` is the learning rate of
    the Adam on the damage and ``lr_distance`` that of the Adam on the size.

    With ``constants="threat"`` the budget is the threat's radius, both rates are fractions of it (per value), and the
    start is random; an input inside a budget of L2 type is scaled up to it before it is judged. With ``"published-0"``
    … ``"published-3"`` the four presets of NIC-RobustBench apply, in the version for the threat's norm but whatever its
    radius, and the start is 1/255 on every value. A preset sets ``steps``, ``lr`` and ``lr_distance`` itself.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.
    """

    steps: int = 80
    lr: float = 1.2
    lr_distance: float = 0.8
    constants: Literal["threat", Published] = "threat"
    judge: int = 10
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.judge) < 1 or not (self.lr > 0 and self.lr_distance > 0):
            raise ValueError(
                f"steps={self.steps}, judge={self.judge}, lr={self.lr}, lr_distance={self.lr_distance}; expected at "
                "least 1 of each and positive fractions of the radius"
            )
        refuse_changes(self, self.constants, ("steps", "lr", "lr_distance"))

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        best, linf, bound = Best(x), threat.norm == "linf", self.constants == "threat"
        if self.constants == "threat":
            steps, scale = self.steps, unit(threat, x)
            lr, lr_distance = self.lr * scale, self.lr_distance * scale
            radius = threat.radius(x)
            tau = radius if linf else radius.square() / x[0].numel()
            p = near(x, threat, rng, START) - x
        else:
            preset = PRESETS[self.constants]
            steps = preset.steps_linf if linf else preset.steps
            lr, lr_distance = (x.new_tensor(rate) for rate in (preset.lr, preset.lr_distance))
            tau = x.new_tensor(preset.tau_linf if linf else preset.tau)
            p = offset(x, threat)
        eps = SOFT if bound else published_eps(x)
        attack, retreat = Adam(p, eps), Adam(p, eps)
        for step in range(steps):
            oracle.progress = step / steps
            outside, slope = _distance(p, tau, linf)
            grad = torch.zeros_like(p)
            if not outside.all():
                moved = x + p
                _, grad = oracle.gradient(moved.clamp(0, 1), self.surrogate)
                grad = threat.confine(grad.masked_fill((moved < 0) | (moved > 1), 0.0), x)
            if bound:
                grad, slope = levelled(grad), levelled(slope)
            p = p + lr * attack.step(-grad, ~outside) + lr_distance * retreat.step(slope, outside)
            if due(step, steps, self.judge):
                best.judge(x + _on_budget(p, tau, linf, bound), x, oracle, threat)
        remark_rising(oracle, best, steps, self.judge)
        return best.x


def _distance(p: Tensor, tau: Tensor, linf: bool) -> tuple[Tensor, Tensor]:
    """``(N,)`` whether ``p`` is outside the budget, and the gradient of the distance."""
    if linf:
        beyond = p.abs() > tau.to(p.dtype).reshape(-1, 1, 1, 1, 1)
        return beyond.flatten(1).any(1), p.sign().where(beyond, 0.0)
    return p.square().flatten(1).mean(1) >= tau, 2e4 * p / p[0].numel()


def _on_budget(p: Tensor, tau: Tensor, linf: bool, fill: bool) -> Tensor:
    """``p`` clipped or scaled to the budget; ``fill``: scaled up to it, too."""
    tau = tau.to(p.dtype).reshape(-1, 1, 1, 1, 1)
    if linf:
        return p.clamp(-tau, tau)
    factor = (tau / per_sample(p.square().flatten(1).mean(1).clamp(min=1e-12))).sqrt()
    return p * (factor if fill else factor.clamp(max=1))
