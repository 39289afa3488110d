"""What an attack maximises: damage per sample, higher is worse for the codec.

An objective reads only the branch of an output that it needs, so an attack on the reconstruction never pays
for the entropy model.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcodec.interfaces import Objective, Output
from robustcodec.registry import objectives


@objectives.register("distortion")
@dataclass(frozen=True)
class Distortion(Objective):
    """MSE between the attacked and the clean reconstruction (Chen & Ma, 2023, https://arxiv.org/abs/2112.08691).

    Its gradient at the clean clip is zero: start elsewhere.
    """

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return _mse(attacked.x_hat, clean.x_hat)


@objectives.register("source-distortion")
@dataclass(frozen=True)
class SourceDistortion(Objective):
    """MSE between the attacked reconstruction and the clean source."""

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return _mse(attacked.x_hat, x)


@objectives.register("rate")
@dataclass(frozen=True)
class Rate(Objective):
    """Estimated bits per pixel of the attacked clip: bits / (T·H·W) (Liu et al., 2022, https://arxiv.org/abs/2205.13253)."""

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        frames, _, height, width = x.shape[1:]
        return attacked.bits / (frames * height * width)


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).mean(1)
