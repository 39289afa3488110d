"""A threat of light that flickers: one offset per frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.interfaces import Draws
from robustcodec.registry import threats
from robustcodec.threats.linf import Linf, whole_levels

REFINEMENTS = 3  # of the offset of a flickering frame


@threats.register("flicker")
@dataclass(frozen=True)
class Flicker(Linf):
    """Each frame may get one RGB offset, the same for all its pixels, of at most ``eps``: ``flicker:8/255``.

    ``eps`` is on the [0, 1] scale. This is the threat of Pony, Naeh & Mannor, CVPR 2021
    (https://arxiv.org/abs/2002.05123), without their penalties on thick and rough flicker. A frame plus its offset is
    clamped to [0, 1], so pixels near black and white may move by less. 8-bit offsets are whole grey levels. ``frames``
    is as for ``linf``.
    """

    def confine(self, delta: Tensor, x: Tensor) -> Tensor:
        """The mean over the pixels of each frame and channel."""
        mean = delta.mean((3, 4), keepdim=True, dtype=torch.float64).to(delta.dtype)
        return super().confine(mean, x).expand_as(x)

    def nearest_kind(self, delta: Tensor, x: Tensor) -> Tensor:
        return super().confine(self._offset(x + delta, x).expand_as(x), x)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """Offsets uniform in ±``eps``."""
        noise = 2 * rng.uniform(torch.Size((*x.shape[:3], 1, 1))).to(x.device) - 1
        return (x + self.confine(self.eps * noise, x)).clamp(0, 1)

    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x + self._offset(x_adv, x)).clamp(0, 1)

    def _quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        levels = whole_levels(self.eps)
        offset = (255 * self._offset(x_adv, x)).round().clamp(-levels, levels)
        return ((255 * x).round() + offset).clamp(0, 255) / 255

    def _offset(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``(N, T, 3, 1, 1)`` offsets that bring ``x`` nearest to ``x_adv``, to a few refinements.

        The distance is least where the offset is the mean of ``x_adv - x`` over the pixels that it does not push out
        of the box. Of an input that is allowed already, those inside the box tell the offset exactly.
        """
        delta = x_adv - x
        low, high = delta.amin((3, 4), keepdim=True), delta.amax((3, 4), keepdim=True)
        largest = torch.where(-low > high, low, high)
        offset = _mean_where((x_adv > 0) & (x_adv < 1), delta, largest).clamp(-self.eps, self.eps)
        for _ in range(REFINEMENTS):
            free = (x + offset > 0) & (x + offset < 1)
            offset = _mean_where(free, delta, offset).clamp(-self.eps, self.eps)
        return offset


def _mean_where(chosen: Tensor, v: Tensor, otherwise: Tensor) -> Tensor:
    """``(N, T, 3, 1, 1)`` means of ``v`` over the chosen pixels, ``otherwise`` where there are none."""
    count = chosen.sum((3, 4), keepdim=True)
    total = v.where(chosen, 0.0).sum((3, 4), keepdim=True, dtype=torch.float64)
    return torch.where(count > 0, (total / count.clamp(min=1)).to(v.dtype), otherwise)
