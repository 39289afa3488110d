"""Median filter before coding, "feature squeezing" by local smoothing (Xu et al., NDSS 2018,
https://arxiv.org/abs/1704.01155).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.defenses.preprocessing import Preprocessor, reflected
from robustcodec.registry import defenses
from robustcodec.rounding import kept


@defenses.register("median")
@dataclass(frozen=True)
class Median(Preprocessor):
    """Replaces each value by the median of its neighbourhood before coding.

    ``size``: the neighbourhood is ``size`` × ``size`` pixels, of the same frame and channel; ``size`` is odd. Attacks
    get the exact gradient, all of which goes to the pixel that is the median.
    """

    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"size={self.size}; expected an odd number of pixels")

    def preprocess(self, x: Tensor) -> Tensor:
        return filtered(x, self.size)


def filtered(x: Tensor, size: int) -> Tensor:
    """Medians of clips ``(N, T, 3, H, W)``, mirrored at the edges: scipy.ndimage.median_filter of each plane."""
    frames = [_frame(frame, size) for frame in x.flatten(0, 1)]  # one by one: windows take size² times the memory
    return torch.stack(frames).view(x.shape)


def _frame(frame: Tensor, size: int) -> Tensor:
    windows = reflected(frame, size // 2).unfold(-2, size, 1).unfold(-2, size, 1).flatten(-2)
    middle = kept(windows.median(-1, keepdim=True).indices)  # a choice: frozen with the rounding of latents
    return windows.gather(-1, middle).squeeze(-1)
