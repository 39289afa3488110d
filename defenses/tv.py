"""Total-variation denoising before coding (Rudin, Osher & Fatemi, 1992, https://doi.org/10.1016/0167-2789(92)90242-F),
by the projection of Chambolle, 2004 (https://doi.org/10.1023/B:JMIV.0000011325.36760.1e).

As a defense: Guo et al., ICLR 2018 (https://arxiv.org/abs/1711.00117), who solve it on random pixels; here on all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec.defenses.preprocessing import Preprocessor
from robustcodec.registry import defenses

STEP = 0.25  # Chambolle proves convergence for half of it, and finds it up to here
FLAT = 1e-20  # the square of a slope that counts as none: the root has no derivative at zero


@defenses.register("tv")
@dataclass(frozen=True)
class TotalVariation(Preprocessor):
    """Smooths every frame before coding by minimising its total variation.

    Each colour plane of each frame becomes the ``u`` that minimises ``½‖u - plane‖² + weight · TV(u)``, after ``steps``
    iterations (at least 1). A larger ``weight`` (positive) smooths more. Attacks get the exact gradient, through all
    iterations.
    """

    label = "tv"

    weight: float = 0.02
    steps: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf or self.steps < 1:
            raise ValueError(f"weight={self.weight}, steps={self.steps}; expected a positive weight and a step or more")

    def preprocess(self, x: Tensor) -> Tensor:
        return denoised(x, self.weight, self.steps)


def denoised(x: Tensor, weight: float, steps: int) -> Tensor:
    """Clips ``(N, T, 3, H, W)`` after ``steps`` iterations: skimage.restoration.denoise_tv_chambolle of each plane
    with ``max_num_iter=steps + 1`` and no stopping rule, clamped to [0, 1].
    """
    rows, columns, out = torch.zeros_like(x), torch.zeros_like(x), x  # the dual, along both directions
    for _ in range(steps):
        down, right = F.pad(out.diff(dim=-2), (0, 0, 0, 1)), F.pad(out.diff(dim=-1), (0, 1))
        slope = (down.square() + right.square()).clamp(min=FLAT).sqrt()
        damping = 1 + STEP / weight * slope
        rows, columns = (rows - STEP * down) / damping, (columns - STEP * right) / damping
        out = x - rows - columns + F.pad(rows[..., :-1, :], (0, 0, 1, 0)) + F.pad(columns[..., :-1], (1, 0))
    return out.clamp(0, 1)
