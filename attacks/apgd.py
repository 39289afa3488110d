"""APGD: gradient ascent that adapts its own step size (Croce & Hein, 2020, https://arxiv.org/abs/2003.01690)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.attacks.ascent import Best, best_of, due, per_sample, remark_rising
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting, stage

ALPHA = 0.75  # weight of the new step against the last one
RHO = 0.75  # share of steps that must rise between two checkpoints
FIRST_STEP = 2.0  # in radii


@attacks.register("apgd")
@dataclass(frozen=True)
class APGD(Attack):
    """Projected gradient ascent that halves its step size wherever the damage stops rising.

    This is Algorithm 1 of the paper, run with ``steps`` gradients from each of ``restarts`` random starts. The first
    step is two radii of the threat long. At each of the paper's checkpoints (after 22 %, 41 %, 57 % … of the steps) a
    sample halves its step and goes back to its best input if fewer than three quarters of the steps since the last
    checkpoint raised the damage, or if neither the step nor the best damage has changed since then. These comparisons
    use the damage that the gradient's own forward pass reports, and start anew when an annealed rounding sharpens.

    The attack judges the best input so far after every ``judge``-th step and after the last step, and the last input
    itself: each is projected, rounded to 8 bits and coded with the codec's real rounding. The best input judged over
    all restarts is returned. ``surrogate`` says how a gradient passes the rounding of latents: ``annealed`` (a soft
    rounding that sharpens in stages), ``soft``, ``noise``, ``straight-through`` or ``none``.

    The paper uses 100 steps, as the code of AutoAttack does. Under an L2 threat both normalise the gradient, as it is
    done here.
    """

    steps: int = 100
    restarts: int = 1
    judge: int = 10
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.judge) < 1:
            raise ValueError(
                f"steps={self.steps}, restarts={self.restarts}, judge={self.judge}; expected at least 1 of each"
            )

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        return best_of(oracle, [self._once(oracle, x, threat, rng.child()) for _ in range(self.restarts)])

    def _once(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Best:
        judged, top = Best(x), Best(x)
        here = before = threat.random_start(x, rng)
        step_size = torch.full((len(x),), FIRST_STEP, device=x.device)
        last, rises = torch.full_like(step_size, math.inf), torch.zeros_like(step_size)
        halved = torch.zeros_like(step_size, dtype=torch.bool)
        checkpoint, reached, top_grad = 0, top.damage.clone(), torch.zeros_like(x)
        for step in range(self.steps):
            last_stage, oracle.progress = stage(oracle.progress), step / self.steps
            if self.surrogate == "annealed" and step and stage(oracle.progress) != last_stage:
                top, last = Best(here), torch.full_like(last, math.inf)  # damage of another rounding says nothing
                reached = top.damage.clone()
            damage, grad = oracle.gradient(here, self.surrogate)
            top_grad = torch.where(per_sample(damage > top.damage), grad, top_grad)
            top.see(here, damage)
            rises += damage > last
            last = damage
            if step in checkpoints(self.steps):
                halved = (rises < RHO * (step - checkpoint)) | (~halved & (top.damage <= reached))
                step_size = torch.where(halved, step_size / 2, step_size)
                here, grad = (torch.where(per_sample(halved), a, b) for a, b in ((top.x, here), (top_grad, grad)))
                checkpoint, reached, rises = step, top.damage.clone(), torch.zeros_like(rises)
            if due(step, self.steps, self.judge):
                judged.judge(top.x, x, oracle, threat)
            uphill = threat.project(here + per_sample(step_size) * threat.steepest(grad, x), x)
            alpha = ALPHA if step else 1.0
            ahead = threat.project(here + alpha * (uphill - here) + (1 - alpha) * (here - before), x)
            before, here = here, ahead
        judged.judge(here, x, oracle, threat)
        remark_rising(oracle, judged, self.steps, self.judge)
        return judged


def checkpoints(steps: int) -> set[int]:
    """Numbers of the steps after which a sample may halve its step: after 22 % of all steps, then in gaps of 19 %, 16 %
    and so on, never below 6 %.
    """
    share, gap, out = 22, 22, set[int]()
    while share < 100:
        out.add(-(-share * steps // 100))
        gap = max(gap - 3, 6)
        share += gap
    return out
