"""The Haar wavelet transform of frames, orthonormal, in several levels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def analyse(clip: Tensor, levels: int) -> list[Tensor]:
    """``[low, details of the coarsest level, …, of the finest]`` of ``(N, T, C, H, W)``: details are ``(…, 3, h, w)``.

    Sides must be multiples of ``2**levels``.
    """
    bands: list[Tensor] = []
    low = clip
    for _ in range(levels):
        a, b = low[..., 0::2, 0::2], low[..., 0::2, 1::2]
        c, d = low[..., 1::2, 0::2], low[..., 1::2, 1::2]
        bands.append(torch.stack((a - b + c - d, a + b - c - d, a - b - c + d), -3) / 2)
        low = (a + b + c + d) / 2
    return [low, *reversed(bands)]


def synthesise(bands: list[Tensor]) -> Tensor:
    """The clip that :func:`analyse` gives ``bands`` of."""
    low = bands[0]
    for details in bands[1:]:
        across, down, both = details.unbind(-3)
        wide = low.new_empty(*low.shape[:-2], 2 * low.shape[-2], 2 * low.shape[-1])
        wide[..., 0::2, 0::2] = low + across + down + both
        wide[..., 0::2, 1::2] = low - across + down - both
        wide[..., 1::2, 0::2] = low + across - down - both
        wide[..., 1::2, 1::2] = low - across - down + both
        low = wide / 2
    return low


def padded(clip: Tensor, levels: int, mode: str) -> Tensor:
    """``clip`` with rows and columns added at its end until its sides can be halved so often; ``mode``: of torch's
    ``pad``: ``replicate`` of a clip, ``constant`` (zeros) of a gradient to it.
    """
    height, width = clip.shape[-2:]
    step = 2**levels
    added = functional.pad(clip.flatten(0, 1), (0, -width % step, 0, -height % step), mode=mode)
    return added.view(*clip.shape[:2], *added.shape[1:])
