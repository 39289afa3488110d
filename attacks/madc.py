"""MADC: gradient steps along the surface of the budget, after Wang & Simoncelli, Journal of Vision 2008.

Maximum differentiation (https://doi.org/10.1167/8.12.8) changes one measure while it holds another. Here it raises the
damage and holds the distance to the clean clip. In the form of NIC-RobustBench
(https://github.com/msu-video-group/NIC-RobustBench) a step follows the sign of g2 - <g1, g2>/<g1, g1> g1, where g2 is
the gradient of the damage and g1 the gradient of the distance (RMSE, or max|x* - x| under L∞), and then returns to the
ball. Its variant ``madc-norm`` standardises the direction instead of taking its sign, and its variant ``mad-mix``
alternates between both, without removing g1.

Their presets of ``madc`` state the largest RMSE as 6e-4 and 3e-4, which are mean squares elsewhere in that benchmark:
with them results have more than 64 dB, and no 8-bit image changes. The presets here are corrected, so that the largest
RMSE is sqrt(6e-4) and sqrt(3e-4), which is 32.2 and 35.2 dB. A second difference: here every sample is orthogonalised
and standardised by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from robustcodec.attacks._published import near, refuse_changes, unit
from robustcodec.attacks.ascent import Best, due, per_sample
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

START = 3 / 7  # of a random allowed perturbation, as their noise of 3/255 in a ball of 7/255
NOISE = 3 / 255  # standard deviation of the start of their L∞ forms, clipped at twice that
BISECTIONS = 30


class _Preset(NamedTuple):
    lr: float
    radius: float  # largest RMSE, or largest |x* - x|
    steps: int
    linf: bool


PRESETS = {
    "published-0": _Preset(0.2, math.sqrt(6e-4), 25, False),
    "published-1": _Preset(0.15, math.sqrt(3e-4), 25, False),
    "published-2": _Preset(0.03, math.sqrt(6e-4), 25, False),
    "published-3": _Preset(0.02, math.sqrt(3e-4), 25, False),
    "published-linf-0": _Preset(0.01, 7 / 255, 30, True),
    "published-linf-1": _Preset(0.01, 5 / 255, 30, True),
}


@attacks.register("madc")
@dataclass(frozen=True)
class MADC(Attack):
    """Gradient steps that leave out what only changes the distance to the clean clip, each followed by a return to the
    budget.

    ``steps``: number of steps. ``lr``: their length. ``direction``: a step follows the ``sign`` of the gradient (the
    published ``madc``), the gradient ``normalised`` to mean 0 and standard deviation 1, or ``mix``, the two in turn.
    ``orthogonalise``: remove the part of the gradient that only changes the distance to the clean clip.

    With ``constants="threat"`` the ball is the threat, its projection leads back to it, ``lr`` is a fraction of its
    radius (per value), and the start is random. With ``"published-0"`` … ``"published-3"`` the corrected RMSE presets
    apply. They start at the clean clip, where every value steps down if there is no gradient. They return to the ball
    by taking the same amount off every |x* - x|, which the published sign steps of 0.0005 approximate. With
    ``"published-linf-0"`` and ``"published-linf-1"`` the presets of ``madc-linf`` apply, which start from noise and
    return by clipping; together with ``direction=normalised`` they are those of ``madc-norm``, together with ``mix``
    and ``orthogonalise=false`` those of ``mad-mix``. A preset sets ``steps`` and ``lr`` itself.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.
    """

    general = False

    steps: int = 40
    lr: float = 0.3
    direction: Literal["sign", "normalised", "mix"] = "mix"
    orthogonalise: bool = True
    constants: Literal[
        "threat", "published-0", "published-1", "published-2", "published-3", "published-linf-0", "published-linf-1"
    ] = "threat"
    judge: int = 10
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.judge) < 1 or not self.lr > 0:
            raise ValueError(
                f"steps={self.steps}, judge={self.judge}, lr={self.lr}; expected at least 1 of each and a positive "
                "fraction of the radius"
            )
        refuse_changes(self, self.constants, ("steps", "lr"))

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        best = Best(x)
        preset = None if self.constants == "threat" else PRESETS[self.constants]
        steps = preset.steps if preset else self.steps
        lr = x.new_tensor(preset.lr) if preset else self.lr * unit(threat, x)
        linf = preset.linf if preset else threat.norm == "linf"
        x_adv = self._start(x, threat, rng, preset)
        for step in range(steps):
            oracle.progress = step / steps
            _, grad = oracle.gradient(x_adv, self.surrogate)
            grad = threat.confine(grad, x)
            alive = grad.flatten(1).ne(0).any(1)
            grad = grad.where(per_sample(alive), threat.confine(-torch.ones_like(x), x))
            if self.orthogonalise and step > 0:
                grad = grad - _along(grad, _slope(x_adv - x, linf))
            standardised = self.direction == "normalised" or self.direction == "mix" and step % 2 == 0
            along = torch.where(per_sample(alive & standardised), _standard(grad), grad.sign())
            x_adv = x_adv + lr * threat.confine(along, x)
            if preset is None:
                x_adv = threat.project(x_adv, x)
            else:
                back = (x_adv - x).clamp(-preset.radius, preset.radius) if linf else _shrink(x_adv - x, preset.radius)
                x_adv = (x + back).clamp(0, 1)
            if due(step, steps, self.judge):
                best.judge(x_adv, x, oracle, threat)
        return best.x

    def _start(self, x: Tensor, threat: Threat, rng: Draws, preset: _Preset | None) -> Tensor:
        if preset is None:
            return near(x, threat, rng, START)
        if not preset.linf:
            return x
        noise = (NOISE * rng.normal(x.shape).to(x.device)).clamp(-2 * NOISE, 2 * NOISE)
        return (x + threat.confine(noise, x)).clamp(0, 1)


def _slope(delta: Tensor, linf: bool) -> Tensor:
    """The gradient of the distance, but for its length; of several largest values each has its share."""
    if not linf:
        return delta
    size = delta.abs()
    return delta.sign().where(size == per_sample(size.flatten(1).amax(1)), 0.0)


def _along(grad: Tensor, slope: Tensor) -> Tensor:
    """The part of ``grad`` along ``slope``; zero where that is zero."""
    squares = slope.double().square().flatten(1).sum(1)
    dot = (grad.double() * slope.double()).flatten(1).sum(1)
    return per_sample(torch.where(squares > 0, dot / squares, 0.0)).to(grad.dtype) * slope


def _standard(grad: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 per sample."""
    mean, std = (per_sample(f(grad.flatten(1), 1)) for f in (torch.mean, torch.std))
    return (grad - mean) / torch.where(std > 0, std, 1.0)


def _shrink(delta: Tensor, radius: float) -> Tensor:
    """``delta`` with so much taken off every magnitude (down to 0) that its RMSE is at most ``radius``."""

    def less(amount: Tensor) -> Tensor:
        return delta.sign() * (delta.abs() - per_sample(amount)).clamp(min=0)

    high = delta.abs().flatten(1).amax(1)
    low = torch.zeros_like(high)
    inside = delta.square().flatten(1).mean(1) <= radius**2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        over = less(middle).square().flatten(1).mean(1) > radius**2
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    return delta.where(per_sample(inside), less(high))
