"""Gaussian blur before coding: a low-pass filter, the simplest input transformation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec.defenses.preprocessing import Preprocessor, reflected
from robustcodec.registry import defenses

REACH = 4.0  # standard deviations after which the kernel ends, as in scipy.ndimage


@defenses.register("blur")
@dataclass(frozen=True)
class Blur(Preprocessor):
    """Blurs every frame with a Gaussian before coding.

    ``sigma``: standard deviation of the Gaussian in pixels (positive). Attacks get its exact gradient.
    """

    sigma: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma={self.sigma}; expected a positive number of pixels")

    def preprocess(self, x: Tensor) -> Tensor:
        return blurred(x, self.sigma)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Clips ``(N, T, 3, H, W)`` under a Gaussian of ``sigma`` pixels, cut off at four and mirrored at the edges:
    scipy.ndimage.gaussian_filter of each plane.
    """
    margin = int(REACH * sigma + 0.5)
    taps = torch.exp(-(torch.arange(-margin, margin + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    kernel = (taps / taps.sum()).to(x)
    planes = reflected(x.reshape(-1, 1, *x.shape[-2:]), margin)
    return F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)).view(x.shape)
