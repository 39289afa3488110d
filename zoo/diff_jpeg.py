"""JPEG with a gradient, for attacks on ``jpeg`` (Shin & Song, "JPEG-resistant adversarial images", 2017; Reich et al.,
WACV 2024, https://arxiv.org/abs/2309.06978).

It quantises with the steps of :mod:`robustcodec.zoo._jpeg`. The number of bits is an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from robustcodec.interfaces import Codec, Output, StreamPart
from robustcodec.registry import codecs
from robustcodec.zoo._jpeg import JpegTransform, Subsampling

# bits of a file, of a block, of a coefficient that is not zero, and of each binary digit of it: least squares over
# crops of the bundled photos at qualities 5 to 95, 3 % from the files that Pillow writes with fitted Huffman tables
HEADER, BLOCK, NONZERO, DIGIT = 2400.0, 1.66, 3.97, 1.31


@codecs.register("diff-jpeg")
class DiffJpeg(Codec):
    """JPEG with a differentiable ``forward``, for attacks on ``jpeg``; its bytes are those of ``jpeg`` with equal
    parameters.
    """

    exact_forward = False

    def __init__(self, quality: int = 75, subsampling: Subsampling = "4:2:0") -> None:
        """``quality``: 1 (smallest file) to 100. ``subsampling`` of chroma: ``4:2:0``, ``4:2:2`` or ``4:4:4``."""
        super().__init__()
        self.real: Codec = codecs.build(f"jpeg:quality={quality},subsampling={subsampling}")
        self.card = replace(self.real.card, name=f"diff-jpeg:quality={quality}", family="diff-jpeg")
        self.transform: JpegTransform = JpegTransform(quality, subsampling)

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        return codecs.fingerprint("jpeg", **params)

    def forward(self, x: Tensor) -> Output:
        height, width = x.shape[-2:]

        @cache
        def levels() -> list[Tensor]:
            with torch.autocast(x.device.type, enabled=False):
                return self.transform.analyse(x.float())

        def x_hat() -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                return self.transform.synthesise(levels(), height, width)

        return Output(x_hat, lambda: estimated_bits(levels()), levels)

    def compress(self, x: Tensor) -> list[bytes]:
        return self.real.compress(x)

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return self.real.decompress(streams)

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        return self.real.anatomy(stream)


def estimated_bits(levels: list[Tensor]) -> Tensor:
    """``(N,)`` bits of levels ``(N, T, rows, columns, 8, 8)``, of DC the differences.

    That a level ``c`` is not zero counts as ``c² / (c² + 0.1)``, its binary digits as ``log2(1 + c²) / 2``: both are
    smooth, and flat at zero.
    """
    n, t = levels[0].shape[:2]
    total = torch.full((n * t,), HEADER, device=levels[0].device)
    for level in levels:
        c = level.flatten(0, 1).flatten(1, 2).flatten(2)
        dc = torch.diff(c[..., :1], dim=1, prepend=torch.zeros_like(c[:, :1, :1]))
        square = torch.cat((dc, c[..., 1:]), 2).square()
        cost = NONZERO * square / (square + 0.1) + DIGIT * torch.log2(1 + square) / 2
        total = total + BLOCK * c.shape[1] + cost.flatten(1).sum(1)
    return total.view(n, t).sum(1)
