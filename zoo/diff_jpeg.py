"""JPEG that a gradient passes, to attack ``jpeg`` through (Shin & Song, "JPEG-resistant adversarial images", 2017;
Reich et al., WACV 2024, https://arxiv.org/abs/2309.06978).

Every step of libjpeg-turbo in floating point: its quantisation tables, its means of chroma, its smooth upsampling, and
each place where it rounds to whole numbers, by :func:`robustcodec.rounding.round_latent`. What stays different is the
fixed-point DCT: values half way between two levels may take the other one, which on photos is a mean absolute error
of 0.1 grey levels at quality 10 and 30, 0.2 at 75 and 0.4 at 95.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec.interfaces import Codec, Output, StreamPart
from robustcodec.registry import codecs
from robustcodec.rounding import round_latent

# ITU-T T.81, Annex K, tables K.1 and K.2, row by row
LUMA = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
CHROMA = "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66" + 38 * " 99"

# JFIF: BT.601, full range
TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))

# bits of a file, of a block, of a coefficient that is not zero, and of each binary digit of it: least squares over
# crops of the bundled photos at qualities 5 to 95, 3 % from the files that Pillow writes with fitted Huffman tables
HEADER, BLOCK, NONZERO, DIGIT = 2400.0, 1.66, 3.97, 1.31


@codecs.register("diff-jpeg")
class DiffJpeg(Codec):
    """A differentiable ``forward`` for ``jpeg`` of the same parameters; its bytes are those of ``jpeg``."""

    exact_forward = False

    def __init__(self, quality: int = 75, subsampling: Literal["4:4:4", "4:2:0"] = "4:2:0") -> None:
        """``quality`` 1 (smallest) to 100."""
        super().__init__()
        self.real: Codec = codecs.build(f"jpeg:quality={quality},subsampling={subsampling}")
        self.card = replace(self.real.card, name=f"diff-jpeg:quality={quality}", family="diff-jpeg")
        self._halved = subsampling == "4:2:0"
        luma, chroma = quantisation_table(LUMA, quality), quantisation_table(CHROMA, quality)
        constants = {
            "steps": torch.stack((luma, chroma, chroma)),
            "dct": dct_matrix(),
            "to_ycc": torch.tensor(TO_YCC),
            "to_rgb": torch.tensor(TO_RGB),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        return codecs.fingerprint("jpeg", **params)

    def forward(self, x: Tensor) -> Output:
        n, t, _, height, width = x.shape

        @cache
        def levels() -> list[Tensor]:
            with torch.autocast(x.device.type, enabled=False):
                return self.quantised(x.float().flatten(0, 1))

        def x_hat() -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                return self.reconstructed(levels(), height, width).unflatten(0, (n, t))  # type: ignore[no-untyped-call, no-any-return]

        def bits() -> Tensor:
            return estimated_bits(levels()).view(n, t).sum(1)

        return Output(x_hat, bits, lambda: [c.view(n, t, *c.shape[1:]) for c in levels()])

    def compress(self, x: Tensor) -> list[bytes]:
        return self.real.compress(x)

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return self.real.decompress(streams)

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        return self.real.anatomy(stream)

    def quantised(self, frames: Tensor) -> list[Tensor]:
        """Levels of Y, Cb and Cr, ``(B, rows, columns, 8, 8)`` blocks each, of frames ``(B, 3, H, W)`` in [0, 1]."""
        ycc = torch.einsum("ij,bjhw->bihw", self.get_buffer("to_ycc"), round_latent(255 * frames))
        ycc = round_latent(ycc)
        y, chroma = ycc[:, :1], ycc[:, 1:]  # chroma about 0: the format adds 128, the DCT takes it away
        if self._halved:
            chroma = halved(chroma)
        dct, out = self.get_buffer("dct"), []
        for plane, step in zip((y - 128, chroma[:, :1], chroma[:, 1:]), self.get_buffer("steps"), strict=True):
            blocks = _replicated(plane, 8, 8)[:, 0].unfold(1, 8, 8).unfold(2, 8, 8)
            out.append(round_latent(dct @ blocks @ dct.T / step * (1 + 2**-16)))  # a half is rounded away from zero
        return out

    def reconstructed(self, levels: list[Tensor], height: int, width: int) -> Tensor:
        """Frames ``(B, 3, height, width)`` in [0, 1] of what :meth:`quantised` gives."""
        dct, planes = self.get_buffer("dct"), []
        for i, (level, step) in enumerate(zip(levels, self.get_buffer("steps"), strict=True)):
            blocks = dct.T @ (level * step) @ dct
            plane = blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, None]
            plane = round_latent(plane + 2**-10).clamp(-128, 127)  # a half is rounded up
            if i and self._halved:
                plane = doubled(plane[..., : -(-height // 2), : -(-width // 2)])
            planes.append(plane[..., :height, :width])
        ycc = torch.cat((planes[0] + 128, *planes[1:]), 1)
        rgb = round_latent(torch.einsum("ij,bjhw->bihw", self.get_buffer("to_rgb"), ycc))
        return rgb.clamp(0, 255) / 255


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


def halved(chroma: Tensor) -> Tensor:
    """Rounded means of 2×2 values; halves go down in even columns and up in odd ones."""
    means = F.avg_pool2d(_replicated(chroma, 2, 16), 2)
    return round_latent(means + _alternating(means) / 8)


def doubled(plane: Tensor) -> Tensor:
    """Twice the rows and columns, each value 3/4 of the nearest and 1/4 of the next nearest (h2v2 "fancy")."""
    if plane.shape[-1] <= 2:  # libjpeg has no room for the smooth filter here
        return plane.repeat_interleave(2, -1).repeat_interleave(2, -2)
    plane = F.pad(plane, (1, 1, 1, 1), mode="replicate")
    for dim in (2, 3):
        before, here, after = (plane.narrow(dim, k, plane.shape[dim] - 2) for k in range(3))
        pairs = torch.stack(((3 * here + before) / 4, (3 * here + after) / 4), dim + 1)
        plane = pairs.flatten(dim, dim + 1)
    return round_latent(plane - _alternating(plane) / 32)


def estimated_bits(levels: list[Tensor]) -> Tensor:
    """``(B,)`` bits of levels ``(B, rows, columns, 8, 8)``, of DC the differences.

    That a level ``c`` is not zero counts as ``c² / (c² + 0.1)``, its binary digits as ``log2(1 + c²) / 2``: both are
    smooth, and flat at zero.
    """
    total = torch.full((len(levels[0]),), HEADER, device=levels[0].device)
    for level in levels:
        c = level.flatten(1, 2).flatten(2)
        dc = torch.diff(c[..., :1], dim=1, prepend=torch.zeros_like(c[:, :1, :1]))
        square = torch.cat((dc, c[..., 1:]), 2).square()
        cost = NONZERO * square / (square + 0.1) + DIGIT * torch.log2(1 + square) / 2
        total = total + BLOCK * c.shape[1] + cost.flatten(1).sum(1)
    return total


def _alternating(plane: Tensor) -> Tensor:
    """-1 for even columns, 1 for odd ones."""
    columns: Tensor = torch.arange(plane.shape[-1], device=plane.device)
    return columns % 2 * 2 - 1


def _replicated(plane: Tensor, rows: int, columns: int) -> Tensor:
    """Padded at the bottom and the right to whole multiples."""
    return F.pad(plane, (0, -plane.shape[-1] % columns, 0, -plane.shape[-2] % rows), mode="replicate")
