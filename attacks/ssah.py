"""The constraint of SSAH, which keeps damage in high frequencies (Luo et al., CVPR 2022,
https://arxiv.org/abs/2203.05151).

Adam minimises -damage(x*) + weight·Σ SmoothL1(LL(x*) - LL(x)), where LL keeps the low-low band of a one-level Haar
transform, which is the mean of every 2×2 pixels in their place. In the paper this constraint accompanies an attack on
semantic similarity, which needs a classifier; here, as in NIC-RobustBench
(https://github.com/msu-video-group/NIC-RobustBench), the damage takes its place. No difference between two images
exceeds 1, so SmoothL1 is half the square, and its gradient is LL(x* - x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

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
from robustcodec.attacks.ascent import Best, due
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

START = 0.16  # of a random allowed perturbation


class _Preset(NamedTuple):
    lr: float
    weight: float
    steps: int


PRESETS = {
    "published-0": _Preset(0.2, 0.1, 50),
    "published-1": _Preset(0.15, 0.2, 50),
    "published-2": _Preset(0.009, 8.5e-4, 60),
    "published-3": _Preset(0.01, 1e-3, 60),
}


@attacks.register("ssah")
@dataclass(frozen=True)
class SSAH(Attack):
    """Adam on the clip, with a penalty that holds the low frequencies to those of the clean clip.

    ``steps``: number of Adam's steps. With ``constants="threat"`` the learning rate ``lr`` is a fraction of the
    threat's radius (per value), and every step ends with the projection onto the threat. Gradient and perturbation are
    then measured in radii, so that ``weight`` means the same for every objective, size and budget: 0 is no constraint,
    and 1 just cancels the low band of a perturbation that is as long as the radius and follows the gradient. With
    ``"published-0"`` … ``"published-3"`` the presets of NIC-RobustBench apply to the published loss; the start is 1/255
    on every value, and there is no budget until the threat projects what is judged. A preset sets ``steps``, ``lr`` and
    ``weight`` itself.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.
    """

    general = False

    steps: int = 50
    lr: float = 0.8
    weight: float = 0.5
    constants: Literal["threat", Published] = "threat"
    judge: int = 10
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.judge) < 1 or not (self.lr > 0 and self.weight >= 0):
            raise ValueError(
                f"steps={self.steps}, judge={self.judge}, lr={self.lr}, weight={self.weight}; expected at least 1 of "
                "each, a positive fraction of the radius and a weight of at least 0"
            )
        refuse_changes(self, self.constants, ("steps", "lr", "weight"))

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        best, bound = Best(x), self.constants == "threat"
        adam = Adam(x, SOFT if bound else published_eps(x))
        scale = unit(threat, x) if bound else torch.ones(1, 1, 1, 1, 1, dtype=x.dtype, device=x.device)
        preset = _Preset(self.lr, self.weight, self.steps) if self.constants == "threat" else PRESETS[self.constants]
        x_adv = near(x, threat, rng, START) if bound else (x + offset(x, threat)).clamp(0, 1)
        for step in range(preset.steps):
            oracle.progress = step / preset.steps
            _, grad = oracle.gradient(x_adv, self.surrogate)
            grad = threat.confine(grad, x)
            low = threat.confine(low_band(x_adv - x), x) / scale
            slope = preset.weight * low - (levelled(grad) if bound else grad)
            x_adv = x_adv + preset.lr * scale * adam.step(slope)
            x_adv = threat.project(x_adv, x) if bound else x_adv.clamp(0, 1)
            if due(step, preset.steps, self.judge):
                best.judge(x_adv, x, oracle, threat)
        return best.x


def low_band(clip: Tensor) -> Tensor:
    """Each frame without its Haar details: every 2×2 pixels are their mean; at an odd edge those that there are."""
    height, width = clip.shape[-2:]
    mean = functional.avg_pool2d(clip.flatten(0, 2)[:, None], 2, ceil_mode=True)
    wide = mean.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :height, :width]
    return wide.reshape(clip.shape)
