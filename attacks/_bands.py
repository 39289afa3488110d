"""Bands of spatial frequencies, by the Fourier transform of whole frames."""

from __future__ import annotations

import torch
from torch import Tensor


def in_band(height: int, width: int, low: float, high: float, device: torch.device) -> Tensor:
    """``(H, W // 2 + 1)`` bool over ``rfft2``: radial frequency from ``low`` to ``high`` cycles per pixel, both in."""
    down, across = torch.fft.fftfreq(height, device=device)[:, None], torch.fft.rfftfreq(width, device=device)[None]
    radius = (down.square() + across.square()).sqrt()
    inside: Tensor = (radius >= low - 1e-6) & (radius <= high + 1e-6)
    return inside


def band_pass(v: Tensor, low: float, high: float) -> Tensor:
    """The part of ``v``, ``(…, H, W)`` of any size, between two radial frequencies: an orthogonal projection."""
    height, width = v.shape[-2:]
    kept = in_band(height, width, low, high, v.device)
    part: Tensor = torch.fft.irfft2(torch.fft.rfft2(v) * kept, s=(height, width))
    return part
