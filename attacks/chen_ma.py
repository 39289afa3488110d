"""The hinge attack on distortion (Chen & Ma, TCSVT 2023, https://arxiv.org/abs/2112.08691).

Adam optimises a perturbation n, which is clipped to ±16/255 while the image is clipped to [0, 1]. It minimises

    |x* - x|²/values    where that exceeds 1e-4 (40 dB),
    1 - damage(x*)      elsewhere.

As in the authors' code, gradients skip the rounding of latents, so that a perturbation too small to flip a latent still
has a gradient. Four things differ from their code. The hinge is tested per sample, not on the mean of a batch. The
perturbation always starts uniform in ±0.01, as in their runs with restarts, because ``distortion`` of a codec without
rounding has no gradient at n = 0. The best input below the hinge is kept, not the last one. Restarts are compared with
the rounding switched on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustcodec.attacks.ascent import Best
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks

HINGE = 1e-4  # mean square of the perturbation
START = 0.01  # n starts uniform in ± this


@attacks.register("chen-ma")
@dataclass(frozen=True)
class ChenMa(Attack):
    """Adam on the damage while the perturbation is small enough, and on its size while it is not.

    ``steps``: number of Adam's steps from each of ``restarts`` random starts, the best of which is returned. ``lr`` is
    the learning rate, which is multiplied by ``decay`` after each third of the steps. ``linf`` clips every value of the
    perturbation, on the [0, 1] scale. Gradients skip the rounding of latents (surrogate ``none``).

    ``constants="threat"`` multiplies clip, start and learning rate by one factor, so that the attack fits the threat.
    Under a threat of L2 type the hinge is the threat's radius (the factor is 1 at ``psnr:40``); under an L∞ threat the
    clip is the radius, and there is no hinge. ``constants="published"`` uses all constants of the paper as they are,
    whatever the threat, which then projects the result.
    """

    general = False

    steps: int = 1001
    lr: float = 0.01
    decay: float = 0.33
    linf: float = 16 / 255
    restarts: int = 1
    constants: Literal["published", "threat"] = "threat"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(f"steps={self.steps}, restarts={self.restarts}; expected at least 1 of each")
        if not (self.lr > 0 and self.decay > 0 and self.linf > 0):
            raise ValueError(f"lr={self.lr}, decay={self.decay}, linf={self.linf}; expected positive numbers")

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        best = Best(x)
        scale, hinge = self._constants(x, threat)
        values = x[0].numel()
        for _ in range(self.restarts):
            n = threat.confine(START * (2 * rng.child().uniform(x.shape).to(x.device) - 1), x).clone()
            loop = Best(x)
            # gradients of a mean over the clip shrink with its size: so must the constant that Adam adds to them
            adam = torch.optim.Adam([n], lr=self.lr, eps=1e-2 / values)
            for step in range(self.steps):
                shifted = x + scale * n.clamp(-self.linf, self.linf)
                x_adv = shifted.clamp(0, 1)
                delta = x_adv - x
                over = delta.square().flatten(1).mean(1) > hinge
                slope = 2 * delta / values
                if not over.all():
                    damage, grad = oracle.gradient(x_adv, "none")
                    loop.see(x_adv, damage, ~over)
                    slope = torch.where(over[:, None, None, None, None], slope, -grad)
                n.grad = threat.confine(_pass(scale * _pass(slope, shifted, 0, 1), n, -self.linf, self.linf), x)
                adam.param_groups[0]["lr"] = self.lr * self.decay ** (3 * step // self.steps)
                adam.step()
            found = threat.project(loop.x, x)
            with torch.no_grad():
                best.see(found, oracle(threat.quantise(found, x)))
        return best.x

    def _constants(self, x: Tensor, threat: Threat) -> tuple[Tensor, Tensor]:
        """The factor, to multiply a clip with, and the hinge on the mean square, ``(N,)``."""
        radius = threat.radius(x).float()
        if self.constants == "published":
            factor, hinge = torch.ones_like(radius), torch.full_like(radius, HINGE)
        elif threat.norm == "linf":
            factor, hinge = radius / self.linf, torch.full_like(radius, math.inf)
        else:
            hinge = radius.square() / x[0].numel()
            factor = (hinge / HINGE).sqrt()
        return factor[:, None, None, None, None], hinge


def _pass(grad: Tensor, value: Tensor, low: float, high: float) -> Tensor:
    """``grad`` through a clip of ``value``, blocked only where descent would push it further out."""
    return grad.masked_fill((value < low) & (grad > 0) | (value > high) & (grad < 0), 0.0)
