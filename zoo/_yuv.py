"""8-bit RGB to YCbCr of limited range and back, ITU-R BT.601: what the classical video codecs code.

4:2:0 chroma is the mean of four pixels and comes back by linear interpolation, as in JPEG (JFIF): centred samples.
FFmpeg's own conversion is not used: by default it darkens flat 4:2:0 colours by 1.3 levels, and it does not promise
the same pixels on every machine.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Chroma = Literal["4:2:0", "4:4:4"]
RED, GREEN, BLUE = 0.299, 0.587, 0.114


def to_yuv(rgb: Tensor, chroma: Chroma) -> np.ndarray[Any, Any]:
    """8-bit YCbCr planes of ``(3, H, W)`` uint8 RGB, one after the other; H and W are even for 4:2:0.

    Only single multiplications and additions: IEEE arithmetic gives every machine the same planes.
    """
    r, g, b = rgb.float()
    luma = RED * r + GREEN * g + BLUE * b
    colour = torch.stack(((b - luma) * (112 / 255 / (1 - BLUE)), (r - luma) * (112 / 255 / (1 - RED)))) + 128
    if chroma == "4:2:0":
        colour = F.avg_pool2d(colour, 2)
    planes = torch.cat(((16 + luma * (219 / 255)).flatten(), colour.flatten()))
    return planes.round().to(torch.uint8).numpy()


def to_rgb(planes: np.ndarray[Any, Any], height: int, width: int, chroma: Chroma) -> Tensor:
    """``(3, H, W)`` uint8 RGB of what :func:`to_yuv` makes."""
    values = torch.from_numpy(planes).float()
    luma = (values[: height * width].view(height, width) - 16) * (255 / 219)
    if chroma == "4:2:0":
        half = values[height * width :].view(1, 2, height // 2, width // 2)
        colour = F.interpolate(half, scale_factor=2.0, mode="bilinear")[0]
    else:
        colour = values[height * width :].view(2, height, width)
    colour = (colour - 128) * (255 / 112)
    b, r = luma + colour[0] * (1 - BLUE), luma + colour[1] * (1 - RED)
    g = (luma - RED * r - BLUE * b) / GREEN
    return torch.stack((r, g, b)).round().clamp(0, 255).to(torch.uint8)
