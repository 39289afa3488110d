"""The attack of Korhonen & You, QoEVMA 2022 (https://doi.org/10.1145/3552469.3555715), which changes textured areas.

Adam works on the clip, with the gradient multiplied by a map of spatial activity in [0, 1]. The map is the Sobel
magnitude of the luma without its border, divided by its largest value and dilated by 5×5 pixels without the corners.
The attack was made against metrics of image quality; NIC-RobustBench
(https://github.com/msu-video-group/NIC-RobustBench) applies it to codecs, with a Sobel filter of one direction only.

Adam divides the gradient of every value by its own size, and this division also cancels the map: as published, the mask
hardly changes the steps except where it is 0. With ``constants="threat"`` the map multiplies the steps instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from robustcodec.attacks._published import SOFT, Adam, levelled, near, published_eps, refuse_changes, unit
from robustcodec.attacks.ascent import Best, due
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

START = 0.16  # of a random allowed perturbation
LUMA = (0.299, 0.587, 0.114)  # BT.601
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
PRESETS = {"published-0": (0.2, 70), "published-1": (0.1, 60)}  # rate and steps


@attacks.register("korhonen")
@dataclass(frozen=True)
class Korhonen(Attack):
    """Adam on the clip, with steps that are larger where the picture has more texture.

    ``steps``: number of Adam's steps. With ``constants="threat"`` the learning rate ``lr`` is a fraction of the
    threat's radius (per value), the texture map multiplies the steps, and every step ends with the projection onto the
    threat. With ``"published-0"`` or ``"published-1"`` the presets of NIC-RobustBench apply: the map multiplies the
    gradient, and there is no budget until the threat projects what is judged. A preset sets ``steps`` and ``lr``
    itself. The published attack starts at the clean clip; here the start always lies a little beside it, since
    ``distortion`` may have no gradient at the clean clip.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.
    """

    general = False

    steps: int = 50
    lr: float = 1.0
    constants: Literal["threat", "published-0", "published-1"] = "threat"
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
        best, mask, bound = Best(x), activity(x), self.constants == "threat"
        adam = Adam(x, SOFT if bound else published_eps(x))
        rate, steps = (self.lr, self.steps) if self.constants == "threat" else PRESETS[self.constants]
        lr = rate * mask * unit(threat, x) if bound else x.new_tensor(rate)
        x_adv = x + threat.confine(mask * (near(x, threat, rng, START) - x), x)
        for step in range(steps):
            oracle.progress = step / steps
            _, grad = oracle.gradient(x_adv, self.surrogate)
            grad = threat.confine(grad, x)
            x_adv = x_adv + lr * adam.step(-levelled(grad) if bound else -mask * grad)
            x_adv = threat.project(x_adv, x) if bound else x_adv.clamp(0, 1)
            if due(step, steps, self.judge):
                best.judge(x_adv, x, oracle, threat)
        return best.x


def activity(x: Tensor) -> Tensor:
    """The texture map of each frame of ``x``, ``(N, T, 1, H, W)`` in [0, 1]; it is 1 everywhere in a frame without
    edges.
    """
    luma = torch.einsum("c,ntchw->nthw", torch.tensor(LUMA, dtype=x.dtype, device=x.device), x)
    kernel = torch.tensor(SOBEL, dtype=x.dtype, device=x.device)
    both = torch.stack([kernel, kernel.T])[:, None]
    edges = functional.conv2d(luma.flatten(0, 1)[:, None], both).square().sum(1, keepdim=True).sqrt()
    edges = functional.pad(edges, (1, 1, 1, 1))
    largest = edges.amax((2, 3), keepdim=True)
    edges = torch.where(largest > 0, edges / torch.where(largest > 0, largest, 1.0), 1.0)
    wide = functional.max_pool2d(edges, (3, 5), 1, (1, 2))
    tall = functional.max_pool2d(edges, (5, 3), 1, (2, 1))
    return torch.maximum(wide, tall).reshape(*x.shape[:2], 1, *x.shape[3:])
