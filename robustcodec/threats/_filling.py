"""Water-filling: how far a direction can be followed inside an L2 ball and bounds on single values at once.

The nearest point of a ball inside a box to another point is that point scaled down and clipped (its multiplier is the
scale), and the point of both that goes furthest along a gradient is the gradient scaled up and clipped. So both need
one scale, at which the norm fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BISECTIONS = 30  # the scale of an 8-bit perturbation is found to 1e-9


@dataclass(frozen=True)
class Bounds:
    """Of a perturbation: its largest value, and the largest L2 norms of each of its frames and of the whole clip."""

    linf: float = math.inf
    frame: float = math.inf
    clip: float = math.inf

    def __and__(self, other: Bounds) -> Bounds:
        """What both allow."""
        return Bounds(min(self.linf, other.linf), min(self.frame, other.frame), min(self.clip, other.clip))

    def fill(self, size: Tensor, largest: Tensor) -> Tensor:
        """``min(s·size, largest)``, each frame with the largest ``s`` that its norm and that of the clip allow.

        ``size``, ``largest``: magnitudes ``(N, T, 3, H, W)``.
        """
        inside = largest.clamp(max=self.linf)
        if self.frame < math.inf:
            inside = filled(size.flatten(2), inside.flatten(2), self.frame).view_as(size)
        if self.clip < math.inf:
            inside = filled(size.flatten(1), inside.flatten(1), self.clip).view_as(size)
        return inside.where(size > 0, 0.0)


def filled(size: Tensor, largest: Tensor, radius: float) -> Tensor:
    """``min(s·size, largest)`` at the largest ``s`` for which its norm is at most ``radius``, of vectors ``(…, n)`` of
    magnitudes.

    Each round solves for the scale as if no more values were clipped than the last scale clips. The norm never exceeds
    the radius on the way, the set only grows, and when it does not the scale is exact.
    """
    wide, top = size.double(), largest.double().where(size > 0, 0.0)
    clipped = (top.square().sum(-1, keepdim=True) <= radius**2).expand_as(top)
    while True:
        left = radius**2 - top.square().where(clipped, 0.0).sum(-1, keepdim=True)
        free = wide.square().where(~clipped, 0.0).sum(-1, keepdim=True)
        scale = torch.where(free > 0, left.clamp(min=0) / free, 0.0).sqrt()
        beyond = clipped | (scale * wide > top)
        if torch.equal(beyond, clipped):
            return torch.where(clipped, top, scale * wide).to(size.dtype)
        clipped = beyond


def largest_scale(fits: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The largest scale in [0, 1] that fits, of the shape of ``like``, float64; ``fits(scale)`` is bool like it."""
    high = torch.ones_like(like, dtype=torch.float64)
    low = fits(high).double()
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = fits(middle)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return low
