"""The attack of Korhonen & You, QoEVMA 2022 (https://doi.org/10.1145/3552469.3555715): change what is textured.

Adam on the clip, with the gradient multiplied by a map of spatial activity in [0, 1]: the Sobel magnitude of the luma
without its border, divided by its largest value, dilated by 5×5 pixels without the corners. It was made against
metrics of image quality; NIC-RobustBench (https://github.com/msu-video-group/NIC-RobustBench) turns it on codecs (its
Sobel is of one direction only).

Adam divides the gradient of every value by its own size, and with it the map: their mask changes the steps hardly at
all, but where it is 0. With the threat's constants it is the step that is multiplied.
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
    """``steps`` steps of Adam on the clip, the more the more textured a place is.

    ``constants="threat"``: ``lr`` is a fraction of the threat's radius (per value), the map multiplies the steps, and
    every step ends with the projection. ``"published-0"``, ``"published-1"``: the presets of NIC-RobustBench, the map
    on the gradient, without a budget until the threat projects; they set ``steps`` and ``lr`` themselves. They started
    at the clean clip; here the start is a little off it in both cases, or ``distortion`` might have no gradient. Every
    ``judge``-th iterate and the last are judged. ``surrogate``: how gradients pass the rounding of latents.
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
    """The map of each frame of ``x``, ``(N, T, 1, H, W)`` in [0, 1]; 1 everywhere in a frame without edges."""
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
