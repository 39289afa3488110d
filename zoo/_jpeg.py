"""The transform of JPEG: every step of libjpeg-turbo in floating point, its quantisation tables, its means of chroma,
its smooth upsampling, and each place where it rounds to whole numbers, by :func:`robustcodec.rounding.round_latent`.

What stays different is the fixed-point DCT: values half way between two levels may take the other one, which on photos
is a mean absolute error of 0.1 grey levels at quality 10 and 30, 0.2 at 75 and 0.4 at 95.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec.clips import to_multiples
from robustcodec.interfaces import Transform
from robustcodec.rounding import round_latent

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
SHARED: dict[Subsampling, tuple[int, int]] = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}  # rows, columns

# ITU-T T.81, Annex K, tables K.1 and K.2, row by row
LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66" + 38 * " 99"

# JFIF: BT.601, full range
TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


class JpegTransform(Transform):
    """Levels are those of Y, Cb and Cr, ``(N, T, rows, columns, 8, 8)`` each: blocks of the DCT."""

    def __init__(self, quality: int, subsampling: Subsampling) -> None:
        """``quality`` 1 (smallest) to 100; ``subsampling``: of chroma."""
        luma, chroma = quantisation_table(LUMA, quality), quantisation_table(CHROMA, quality)
        self._steps = luma, chroma, chroma
        self._shared = SHARED[subsampling]

    def analyse(self, x: Tensor) -> list[Tensor]:
        frames = round_latent(255 * x.flatten(0, 1))
        ycc = round_latent(torch.einsum("ij,bjhw->bihw", torch.tensor(TO_YCC, device=x.device), frames))
        y, chroma = ycc[:, :1], ycc[:, 1:]  # chroma about 0: the format adds 128, the DCT takes it away
        chroma = halved(chroma, *self._shared)
        dct, out = dct_matrix().to(x.device), []
        for plane, step in zip((y - 128, chroma[:, :1], chroma[:, 1:]), self._steps, strict=True):
            blocks = to_multiples(plane, 8, 8)[:, 0].unfold(1, 8, 8).unfold(2, 8, 8)
            level = dct @ blocks @ dct.T / step.to(x.device) * (1 + 2**-16)  # a half is rounded away from zero
            out.append(round_latent(level).view(*x.shape[:2], *level.shape[1:]))
        return out

    def synthesise(self, levels: Sequence[Tensor], height: int, width: int) -> Tensor:
        dct, planes = dct_matrix().to(levels[0].device), []
        down, across = self._shared
        for i, (level, step) in enumerate(zip(levels, self._steps, strict=True)):
            blocks = dct.T @ (level.flatten(0, 1) * step.to(level.device)) @ dct
            plane = blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, None]
            plane = round_latent(plane + 2**-10).clamp(-128, 127)  # a half is rounded up
            if i:
                plane = doubled(plane[..., : -(-height // down), : -(-width // across)], down, across)
            planes.append(plane[..., :height, :width])
        ycc = torch.cat((planes[0] + 128, *planes[1:]), 1)
        rgb = round_latent(torch.einsum("ij,bjhw->bihw", torch.tensor(TO_RGB, device=ycc.device), ycc))
        return (rgb.clamp(0, 255) / 255).view(*levels[0].shape[:2], 3, height, width)


def quantisation_table(standard: str, quality: int) -> Tensor:
    """``(8, 8)`` steps as libjpeg scales them for baseline files: whole numbers from 1 to 255."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [min(max((int(v) * scale + 50) // 100, 1), 255) for v in standard.split()]
    return torch.tensor(steps, dtype=torch.float32).view(8, 8)


def dct_matrix() -> Tensor:
    """The orthonormal 8-point DCT-II ``D``: the coefficients of a block ``b`` are ``D b Dᵀ``."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    rows = torch.cos(math.pi / 8 * (n + 0.5) * k) / 2
    rows[0] /= math.sqrt(2)
    return rows


def halved(chroma: Tensor, down: int = 2, across: int = 2) -> Tensor:
    """Rounded means of ``down`` × ``across`` values; halves go down in even columns and up in odd ones."""
    if across == 1:
        return chroma
    means = F.avg_pool2d(to_multiples(chroma, down, 8 * across), (down, across))
    return round_latent(means + _alternating(means) / 8)


def doubled(plane: Tensor, down: int = 2, across: int = 2) -> Tensor:
    """As many times the rows and columns, each value 3/4 of the nearest and 1/4 of the next nearest ("fancy")."""
    if across == 1:
        return plane
    if plane.shape[-1] <= 2:  # libjpeg has no room for the smooth filter here
        return plane.repeat_interleave(across, -1).repeat_interleave(down, -2)
    for dim in (2, 3) if down == 2 else (3,):
        padded = F.pad(plane, (0, 0, 1, 1) if dim == 2 else (1, 1, 0, 0), mode="replicate")
        before, here, after = (padded.narrow(dim, k, plane.shape[dim]) for k in range(3))
        pairs = torch.stack(((3 * here + before) / 4, (3 * here + after) / 4), dim + 1)
        plane = pairs.flatten(dim, dim + 1)
    return round_latent(plane - _alternating(plane) / 32 if down == 2 else plane + _alternating(plane) / 8)


def _alternating(plane: Tensor) -> Tensor:
    """-1 for even columns, 1 for odd ones."""
    columns: Tensor = torch.arange(plane.shape[-1], device=plane.device)
    return columns % 2 * 2 - 1
