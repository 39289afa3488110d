"""T-MLA: ascent on Haar coefficients, each moved in the logarithm of its exponential (Information Sciences, 2026).

The attack optimises a number n for each coefficient c of a Haar transform of three levels. The coefficient becomes

    c* = sign(c) · log(max(exp|c| + n, 0.001)),    |n| <= 0.1 · 1.8^(3 - k),

where k is 0 for the low band and 1 to 3 for the details from coarse to fine. A small coefficient therefore moves by
about n and a large one by less, so that noise goes where the picture is flat at that scale, and little of it into the
low band.

The published loss, with PSNRs in dB, is |PSNR(x̂*, x) - 15| + max(|PSNR(x*, x) - 45| - 2, 0) + 0.001·|n|₁. It is
minimised by 1000 steps at a rate of 0.01, with gradients clipped to norm 1. Two things differ here. The first term is
minus the damage in dB, whatever the objective, because a perturbation of 45 dB does not reach a target of 15 dB. And n
starts at random, because ``distortion`` has no gradient at the clean clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustcodec.attacks._haar import analyse, padded, synthesise
from robustcodec.attacks._published import levelled, near, refuse_changes, unit
from robustcodec.attacks.ascent import Best, due, per_sample
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

LEVELS = 3
FLOOR = 1e-3  # of what the logarithm is taken of
BOUND, GROWTH = 0.1, 1.8  # of n at the finest level, and how much larger it is at each coarser one
RATE, STEPS, START = 0.01, 1000, 0.1  # published, but for the start: a share of the bounds
QUALITY, TOLERANCE, SPARSITY = 45.0, 2.0, 1e-3
DECIBELS = 10 / math.log(10)  # of a change by a small share


@attacks.register("tmla")
@dataclass(frozen=True)
class TMLA(Attack):
    """Ascent on the coefficients of the clip's three-level Haar transform, which moves small coefficients the most.

    ``steps``: number of steps. With ``constants="threat"`` a step follows the gradient with respect to the numbers n of
    the method, scaled to a root mean square of 1; its length is ``lr`` radii of the threat (per value) and falls
    linearly to nothing. Each step ends with the projection onto the threat, from which n is read back. The bounds on n
    are the published ones, scaled so that they are ``reach`` radii at the finest level, and the start is random. With
    ``constants="published"`` the published loss and its constants apply, whatever the budget of the threat, which
    projects what is judged; it sets ``steps``, ``lr`` and ``reach`` itself.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.
    """

    general = False

    steps: int = 50
    lr: float = 0.6
    reach: float = 20.0
    constants: Literal["threat", "published"] = "threat"
    judge: int = 10
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.judge) < 1 or not (self.lr > 0 and self.reach > 0):
            raise ValueError(
                f"steps={self.steps}, judge={self.judge}, lr={self.lr}, reach={self.reach}; expected at least 1 of "
                "each and positive multiples of the radius"
            )
        refuse_changes(self, self.constants, ("steps", "lr", "reach"))

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        if self.constants == "published":
            return self._published(oracle, x, threat, rng)
        best, waves, radius = Best(x), Waves(x), unit(threat, x)
        bounds = waves.bounds(self.reach)
        x_adv = near(x, threat, rng, 0.5)
        for step in range(self.steps):
            oracle.progress = step / self.steps
            n = waves.numbers(x_adv)
            _, grad = oracle.gradient(x_adv, self.surrogate)
            slope = joined_level([*waves.slopes(threat.confine(grad, x), n)])
            rate = self.lr * (1 - step / self.steps) * radius
            n = [
                (a + _like(rate, a) * g).clamp(-_like(radius, a) * b, _like(radius, a) * b)
                for a, g, b in zip(n, slope, bounds, strict=True)
            ]
            x_adv = threat.project(waves.clip(n), x)
            if due(step, self.steps, self.judge):
                best.judge(x_adv, x, oracle, threat)
        return best.x

    def _published(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        best, waves = Best(x), Waves(x)
        bounds = waves.bounds(BOUND)
        seed = rng.child().uniform(x.shape).to(x.device) - 0.5
        n = [START * b * 2 * s for s, b in zip(waves.analysed(seed), bounds, strict=True)]
        for step in range(STEPS):
            oracle.progress = step / STEPS
            x_adv = x + threat.confine(waves.clip(n).clamp(0, 1) - x, x)
            damage, grad = oracle.gradient(x_adv, self.surrogate)
            slope = -DECIBELS * grad / per_sample(damage.abs().clamp(min=1e-12)) + _towards_quality(x_adv - x)
            slopes = [
                g + SPARSITY * a.sign() for g, a in zip(waves.slopes(threat.confine(slope, x), n), n, strict=True)
            ]
            length = torch.stack([g.flatten(1).square().sum(1) for g in slopes]).sum(0).sqrt().clamp(min=1)
            n = [
                (a - RATE * g / _like(per_sample(length), a)).clamp(-b, b)
                for a, g, b in zip(n, slopes, bounds, strict=True)
            ]
            if due(step, STEPS, self.judge):
                best.judge(waves.clip(n), x, oracle, threat)
        return best.x


class Waves:
    """The coefficients c of a clip, and clips by their numbers n, a tensor per band from coarse to fine."""

    def __init__(self, x: Tensor) -> None:
        self._x, self._c = x, analyse(padded(x, LEVELS, "replicate"), LEVELS)
        self._sign = [torch.where(c < 0, -1.0, 1.0) for c in self._c]
        self._whole = [c.abs().exp() for c in self._c]

    def bounds(self, finest: float) -> list[float]:
        """The largest number of each band."""
        return [finest * GROWTH ** (LEVELS - k) for k in range(LEVELS + 1)]

    def clip(self, n: list[Tensor]) -> Tensor:
        """The clip of these numbers, in the box or not."""
        moved = [
            s * (e + a).clamp(min=FLOOR).log() - c
            for s, e, a, c in zip(self._sign, self._whole, n, self._c, strict=True)
        ]
        return self._x + self._cut(synthesise(moved))

    def numbers(self, x_adv: Tensor) -> list[Tensor]:
        """Those of a clip."""
        moved = self.analysed(x_adv - self._x)
        return [(s * (c + d)).exp() - e for s, c, d, e in zip(self._sign, self._c, moved, self._whole, strict=True)]

    def analysed(self, delta: Tensor) -> list[Tensor]:
        """The coefficients of a perturbation or gradient."""
        return analyse(padded(delta, LEVELS, "constant"), LEVELS)

    def slopes(self, grad: Tensor, n: list[Tensor]) -> list[Tensor]:
        """The gradient to the numbers of what has the gradient ``grad`` to the clip of ``n``."""
        return [
            s * g / (e + a) * (e + a > FLOOR)
            for s, g, e, a in zip(self._sign, self.analysed(grad), self._whole, n, strict=True)
        ]

    def _cut(self, clip: Tensor) -> Tensor:
        return clip[..., : self._x.shape[-2], : self._x.shape[-1]]


def joined_level(bands: list[Tensor]) -> list[Tensor]:
    """All bands of each sample with one root mean square of 1, see :func:`levelled`."""
    flat = torch.cat([band.flatten(1) for band in bands], 1)
    parts = torch.split(levelled(flat[:, None, None, None])[:, 0, 0, 0], [band[0].numel() for band in bands], 1)
    return [part.view_as(band) for part, band in zip(parts, bands, strict=True)]


def _towards_quality(delta: Tensor) -> Tensor:
    """The gradient of max(|PSNR - 45| - 2, 0), like ``delta``."""
    square = delta.square().flatten(1).mean(1).clamp(min=1e-12)
    psnr = -10 * square.log10()
    sign = (psnr > QUALITY + TOLERANCE).float() - (psnr < QUALITY - TOLERANCE).float()
    return -per_sample(sign * DECIBELS / square) * 2 * delta / delta[0].numel()


def _like(values: Tensor, band: Tensor) -> Tensor:
    """``(N, 1, 1, 1, 1)`` shaped to multiply a band."""
    return values.view(-1, *[1] * (band.ndim - 1))
