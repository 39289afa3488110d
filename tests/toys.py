"""A linear codec, of which the worst case is known in closed form, with matrices and clips for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustcodec.interfaces import Card, Codec, Output

Shape = tuple[int, int, int, int]  # (T, 3, H, W)


class Linear(Codec):
    """``x_hat = A x`` without rounding or clamping, for clips of one size, each value of the input 32 bits."""

    card = Card("linear", "linear")

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Output:
        x_hat = (x.flatten(1) @ self.matrix.T).view_as(x)
        return Output(lambda: x_hat, lambda: torch.full((len(x),), 32.0 * x[0].numel()))

    def compress(self, x: Tensor) -> list[bytes]:
        raise NotImplementedError

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        raise NotImplementedError


def spectrum(shape: Shape) -> Tensor:
    """A matrix with singular values 2, 1.4, 1.4/2, 1.4/3 … in random directions."""
    values, rng = math.prod(shape), torch.Generator().manual_seed(5)
    u, v = (torch.linalg.qr(torch.randn(values, values, generator=rng)).Q for _ in range(2))
    s = 1.4 / torch.arange(values).clamp(min=1)
    s[0] = 2
    matrix: Tensor = u @ torch.diag(s) @ v.T
    return matrix


def positive(shape: Shape) -> Tensor:
    """A matrix without negative entries: under L∞ the worst case moves every value up."""
    values = math.prod(shape)
    return torch.rand(values, values, generator=torch.Generator().manual_seed(6)) / values


def grey(shape: Shape, n: int = 2) -> Tensor:
    """8-bit clips ``(n, T, 3, H, W)`` far from the faces of the box."""
    return torch.randint(100, 156, (n, *shape), generator=torch.Generator().manual_seed(7)) / 255
