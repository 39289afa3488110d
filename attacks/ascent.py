"""A base class of attacks that climb the gradient inside a threat, and what all iterative attacks share: keeping the
best input of each sample, and deciding when to judge.

A subclass of :class:`Ascent` changes where the climb starts or which gradient it follows, and adds fields of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.rounding import Crafting


class Best:
    """The input of each sample that did the most damage so far; the clean clip until there is one.

    ``history``: after each input that was judged, the highest damage so far, ``(N,)``.
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x.clone()
        self.damage = torch.full((len(x),), -torch.inf, device=x.device)
        self.history: list[Tensor] = []

    def see(self, x_adv: Tensor, damage: Tensor, allowed: Tensor | None = None) -> None:
        """Replace the best input of each sample for which ``damage``, ``(N,)``, is higher than before and ``allowed``,
        ``(N,)``, is true.
        """
        better = damage > self.damage  # false for NaN
        if allowed is not None:
            better &= allowed
        self.x = x_adv.where(per_sample(better), self.x)
        self.damage = damage.to(self.damage.dtype).where(better, self.damage)

    @torch.no_grad()
    def judge(self, x_adv: Tensor, x: Tensor, oracle: Oracle, threat: Threat) -> Tensor:
        """Judge ``x_adv`` in the form in which the runner will count it: projected onto the threat, rounded to 8 bits,
        and coded by the codec with its real rounding.

        This costs one query. Returns the damage, ``(N,)``.
        """
        counted = threat.quantise(threat.project(x_adv, x), x)
        damage = oracle(counted)
        self.see(counted, damage)
        self.history.append(self.damage.clone())
        return damage


END = 0.1  # share of the steps that are the end of an attack
PACE = 0.5  # of the mean pace: damage that rises faster at the end has not come to rest


def remark_rising(oracle: Oracle, best: Best, steps: int, every: int) -> None:
    """Add a remark to the results of the samples whose damage was still rising when the attack ended.

    ``best`` was judged after every ``every``-th of ``steps`` steps. A sample counts as rising if its damage rose, over
    the last tenth of the steps (or since the judgement before that), at half the mean pace of the whole attack or
    faster. Where there was a single judgement, the remark says that nothing is known. ``benchmarks/attack_lengths.py``
    measures how well this predicts the gain of more steps.
    """
    after = [step + 1 for step in range(steps) if due(step, steps, every)]
    if len(after) == 1:
        once = torch.ones_like(best.damage, dtype=torch.bool)
        oracle.remark("damage was judged once, at the last step: whether more steps would do more is not known", once)
        return
    before = max((i for i, step in enumerate(after) if step <= (1 - END) * steps), default=0)
    rise, pace = best.damage - best.history[before], (best.damage - oracle.clean()) / steps
    rising = (rise > 0) & (rise >= PACE * pace * (steps - after[before]))
    oracle.remark("damage still rises at the last step: more steps would do more", rising)


Decay = Literal["cosine", "constant"]
LAST_STEP = 0.02  # share of the first step that a cosine ends with


def share(decay: Decay, progress: float) -> float:
    """The factor by which the first step has shrunk when a share ``progress``, in [0, 1], of the steps is done."""
    return 1.0 if decay == "constant" else LAST_STEP + (1 - LAST_STEP) * (1 + math.cos(math.pi * progress)) / 2


ARRIVAL = 0.9  # share of the steps after which a widened set has shrunk to the threat


def widened(threat: Threat, x_adv: Tensor, x: Tensor, factor: float) -> Tensor:
    """``x_adv`` projected onto a threat in which every perturbation is ``factor`` times as large, and clamped to
    [0, 1].
    """
    if factor == 1:
        return threat.project(x_adv, x)
    return (x + factor * (threat.project(x + (x_adv - x) / factor, x) - x)).clamp(0, 1)


def due(step: int, steps: int, every: int) -> bool:
    """True if an attack must judge now: after every ``every``-th of ``steps`` steps, counted from 0, and after the
    last.
    """
    return (step + 1) % every == 0 or step == steps - 1


def per_sample(values: Tensor) -> Tensor:
    """``(N,)`` shaped to multiply a clip ``(N, T, 3, H, W)``."""
    return values[:, None, None, None, None]


def normalised(grad: Tensor) -> Tensor:
    """``grad`` scaled to a mean absolute value of 1 per sample; a zero gradient stays zero."""
    size = per_sample(grad.abs().flatten(1).mean(1))
    return grad / torch.where(size > 0, size, 1.0)


def ascend(
    oracle: Oracle,
    x: Tensor,
    threat: Threat,
    start: Tensor,
    *,
    steps: int,
    step_size: float,
    momentum: float,
    judge: int,
    gradient: Callable[[Tensor], Tensor],
    decay: Decay = "constant",
    widening: float = 1.0,
    look_ahead: bool = False,
) -> Best:
    """Take ``steps`` projected steps of steepest ascent from ``start``, and return the best input that was judged.

    ``step_size``: length of the first step, in radii of the threat. ``decay``: how the following steps shrink (see
    :class:`Ascent`). ``widening``: the climb begins in a set that is this many times as wide as the threat.
    ``gradient``: gives the gradient of the damage at an input; both are ``(N, T, 3, H, W)``. ``momentum``: the factor
    by which the sum of past gradients, each scaled to a mean absolute value of 1, decays per step; at 0 a step follows
    the gradient alone. ``look_ahead``: take each gradient at the point to which that sum alone would lead (Nesterov),
    even if the point lies outside the threat. ``judge``: how many steps pass between two judgements.
    """
    best, x_adv, total = Best(x), start, torch.zeros_like(x)
    for step in range(steps):
        oracle.progress = step / steps
        factor = widening ** max(0.0, 1 - (step + 1) / steps / ARRIVAL)
        size, where = factor * step_size * share(decay, oracle.progress), x_adv
        if look_ahead:  # for L∞ the published x + α·μ·g: the mean step is α
            length = per_sample(threat.steepest(total, x).abs().flatten(1).mean(1))
            where = x_adv + size * momentum * length * total
        grad = gradient(where)
        total = momentum * total + normalised(threat.confine(grad, x)) if momentum else grad
        x_adv = widened(threat, x_adv + size * threat.steepest(total, x), x, factor)
        if due(step, steps, judge):
            best.judge(x_adv, x, oracle, threat)
    remark_rising(oracle, best, steps, judge)
    return best


def best_of(oracle: Oracle, runs: list[Best]) -> Tensor:
    """For each sample the best input of several restarts.

    Adds a remark to the samples whose restarts are more than 1 dB of damage apart.
    """
    best = Best(runs[0].x)
    for run in runs:
        best.see(run.x, run.damage)
    damage = torch.stack([run.damage for run in runs])
    low, high = damage.amin(0), damage.amax(0)
    oracle.remark("random restarts disagree", (low > 0) & (10 * torch.log10(high / low) > 1))
    return best.x


@dataclass(frozen=True, kw_only=True)
class Ascent(Attack):
    """Projected steepest ascent from a random start; the best input that was judged is returned.

    ``steps``: number of gradients. ``step_size``: length of the first step, in radii of the threat. ``decay``: with
    ``cosine`` steps shrink along a cosine to 2 % of the first, with ``constant`` they keep their length. ``widening``:
    the climb begins in a set this many times as wide as the threat (at least 1, which switches it off), and the set
    shrinks to the threat until 90 % of the steps are done. Latents that were pushed over a rounding boundary stay
    there, while the part of the perturbation that the push did not need is given back. ``momentum``: the factor by
    which the sum of past gradients, each scaled to a mean absolute value of 1, decays per step (0: no sum). After every
    ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded with the
    codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the rounding of
    latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``, ``straight-through`` or
    ``none``.

    A subclass adds fields in front of these, which must be given by name.
    """

    neutral = MappingProxyType({"decay": "constant", "widening": 1})
    superseded = MappingProxyType({**Attack.superseded, "step_size": 0.3, "decay": "constant", "widening": 1})

    steps: int = 20
    step_size: float = 1.0
    decay: Decay = "cosine"
    widening: float = 2.0
    momentum: float = 0.0
    judge: int = 10
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.judge) < 1:
            raise ValueError(f"steps={self.steps}, judge={self.judge}; expected at least 1 of each")
        if not self.step_size > 0 or not self.momentum >= 0 or not 1 <= self.widening < math.inf:
            raise ValueError(
                f"step_size={self.step_size}, momentum={self.momentum}, widening={self.widening}; expected a positive "
                "fraction of the radius, a decay of at least 0 and a factor of at least 1"
            )

    def start(self, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        """The input at which the climb begins, like ``x`` and inside the threat."""
        return threat.random_start(x, rng)

    def gradient(self, oracle: Oracle, x_adv: Tensor, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        """The gradient that the step at ``x_adv`` follows, shaped like ``x_adv``."""
        _, grad = oracle.gradient(x_adv, self.surrogate)
        return grad

    def climb(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Best:
        """Run one ascent; a subclass that needs several calls this in its own :meth:`run`."""
        return ascend(
            oracle,
            x,
            threat,
            self.start(x, threat, rng),
            steps=self.steps,
            step_size=self.step_size,
            momentum=self.momentum,
            judge=self.judge,
            gradient=lambda x_adv: self.gradient(oracle, x_adv, x, threat, rng),
            decay=self.decay,
            widening=self.widening,
        )

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return self.climb(oracle, x, threat, rng).x
