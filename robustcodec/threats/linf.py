"""A bound on the change of every single value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustcodec.interfaces import Draws
from robustcodec.registry import threats
from robustcodec.threats._filling import Bounds
from robustcodec.threats._frames import OnFrames


@threats.register("linf")
@dataclass(frozen=True)
class Linf(OnFrames):
    """No value moves by more than ``eps``: ``linf:8/255``, or ``linf:8`` in grey levels.

    ``eps`` is on the [0, 1] scale, or a number of grey levels if it is a whole number above 1; ``linf:1`` is the whole
    range. 8-bit inputs move by whole levels, so the bound is ``floor(255 eps)`` of them. ``frames``: the frames that
    may change, which are ``all``, ``first``, the number of one frame (from 0; negative numbers count from the end), or
    a Python slice such as ``1:`` (all but the first) or ``::4`` (every fourth).
    """

    norm: ClassVar[Literal["linf", "l2"]] = "linf"
    eps: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if 1 < self.eps <= 255 and float(self.eps).is_integer():
            object.__setattr__(self, "eps", self.eps / 255)
        if not 0 < self.eps <= 1:
            raise ValueError(
                f"eps={self.eps} is not in (0, 1]; values are in [0, 1], so write 8 levels as 8/255, or as the whole "
                "number 8 (2 to 255)"
            )
        if not whole_levels(self.eps):
            raise ValueError(f"eps={self.eps} is below one of 255 levels: no 8-bit value may move; give 1/255 or more")

    def allows(self, input_psnr: float, input_linf: float) -> bool:
        return input_linf < whole_levels(self.eps) + 0.5

    def radius(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), self.eps, dtype=torch.float64, device=x.device)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """Uniform in the ball."""
        noise = 2 * rng.uniform(x.shape).to(x.device) - 1
        return self.project(x + self.eps * noise, x)

    def bounds(self, x: Tensor) -> Bounds:
        return Bounds(linf=self.eps)

    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x_adv.clamp(x - self.eps, x + self.eps).clamp(0, 1)

    def _steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        return self.eps * grad.sign()

    def _quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        levels = whole_levels(self.eps)
        clean = (255 * x).round()
        return (255 * x_adv).round().clamp(clean - levels, clean + levels).clamp(0, 255) / 255


def whole_levels(eps: float) -> int:
    return math.floor(255 * eps + 1e-6)
