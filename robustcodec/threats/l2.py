"""A bound on the sum of squares of a perturbation, stated as a norm, as a mean square or as a PSNR."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustcodec.interfaces import Draws
from robustcodec.registry import threats
from robustcodec.threats._filling import Bounds, largest_scale
from robustcodec.threats._frames import OnFrames


@dataclass(frozen=True, kw_only=True)
class _L2Ball(OnFrames):
    """The sum of squares of ``x_adv - x`` over a clip, or over each frame, is at most :meth:`budget`."""

    norm: ClassVar[Literal["linf", "l2"]] = "l2"
    neutral = MappingProxyType({"frames": "all", "per": "clip"})
    per: Literal["clip", "frame"] = "clip"

    @abstractmethod
    def budget(self, values: int) -> float:
        """Largest sum of squares over so many values."""

    def radius(self, x: Tensor) -> Tensor:
        balls = len(self.chosen(x)) if self.per == "frame" else 1
        return torch.full((len(x),), math.sqrt(balls) * self._limit(x), dtype=torch.float64, device=x.device)

    def bounds(self, x: Tensor) -> Bounds:
        limit = self._limit(x)
        return Bounds(clip=limit) if self.per == "clip" else Bounds(frame=limit)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """Uniform in the ball; with thousands of values that is on its boundary, but for the box."""
        direction = self.steepest(rng.normal(x.shape).to(x.device), x)
        balls = x.shape[1] if self.per == "frame" else 1
        free = x[0, 0].numel() * (1 if self.per == "frame" else len(self.chosen(x)))
        share = rng.uniform(torch.Size((len(x), balls, 1, 1, 1))).to(x.device) ** (1 / free)
        return self.project(x + share * direction, x)

    def _limit(self, x: Tensor) -> float:
        """The radius of one ball."""
        return math.sqrt(self.budget(x[0].numel() if self.per == "clip" else x[0, 0].numel()))

    def _norm(self, v: Tensor) -> Tensor:
        """L2 norms, ``(N, 1, 1, 1, 1)`` or ``(N, T, 1, 1, 1)``, summed in float64: a clip has millions of values."""
        flat = v.flatten(1)[:, None] if self.per == "clip" else v.flatten(2)
        length: Tensor = torch.linalg.vector_norm(flat, dim=2, dtype=torch.float64)
        return length[:, :, None, None, None]

    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        delta = x_adv - x
        return (x + _times((self._limit(x) / self._norm(delta)).clamp(max=1), delta)).clamp(0, 1)

    def _steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        length = self._norm(grad)
        return _times(torch.where(length > 0, self._limit(x) / length, 0.0), grad)

    def _quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``x`` plus the rounded perturbation at the largest scale in [0, 1] that keeps it inside.

        Of all 8-bit inputs with the same norm none is nearer to ``x_adv``: ``round(s d)`` minimises
        ``|q - d|² + (1/s - 1)|q|²``. A perturbation of a few distinct values may leave budget unused.
        """
        clean = (255 * x).round()
        delta = 255 * x_adv.clamp(0, 1) - clean
        largest = (255 * self._limit(x)) ** 2

        def inside(scale: Tensor) -> Tensor:
            squares = _times(scale, delta).round().square()
            flat = squares.flatten(1)[:, None] if self.per == "clip" else squares.flatten(2)
            return flat.sum(2, dtype=torch.float64)[:, :, None, None, None] <= largest

        scale = largest_scale(inside, self._norm(delta))
        return (clean + _times(scale, delta).round()).clamp(0, 255) / 255


@threats.register("l2")
@dataclass(frozen=True)
class L2(_L2Ball):
    """The perturbation of a whole clip has an L2 norm of at most ``eps``, with values in [0, 1]: ``l2:0.5``.

    ``frames`` is as for ``linf``. With ``per=clip`` all frames share one budget, so each of fewer frames may change
    more. With ``per=frame`` every frame has a budget of its own, of norm ``eps``.
    """

    eps: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps < math.inf:
            raise ValueError(f"eps={self.eps} is not a positive number; expected the norm of a clip's perturbation")

    def budget(self, values: int) -> float:
        return self.eps**2


@threats.register("mse")
@dataclass(frozen=True)
class Mse(_L2Ball):
    """The perturbation has a mean square of at most ``mse`` over all values of a clip: ``mse:1e-4``.

    Values are in [0, 1]. ``frames`` is as for ``linf``. With ``per=clip`` the mean is over the whole clip, so each of
    fewer frames may change more. With ``per=frame`` it is over each frame by itself.
    """

    mse: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mse <= 1:
            raise ValueError(f"mse={self.mse} is not in (0, 1]; values are in [0, 1], so 40 dB is 1e-4")

    def allows(self, input_psnr: float, input_linf: float) -> bool:
        return input_psnr >= -10 * math.log10(self.mse)

    def budget(self, values: int) -> float:
        return self.mse * values


@threats.register("psnr")
@dataclass(frozen=True)
class Psnr(_L2Ball):
    """The attacked clip has a PSNR of at least ``db``, over all its values and with peak 1: ``psnr:40``.

    ``frames`` is as for ``linf``. With ``per=clip`` the PSNR is that of the whole clip: if only one frame of ten may
    change, it may be 10 dB worse. With ``per=frame`` every frame by itself has at least ``db``.
    """

    db: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.db < math.inf:
            raise ValueError(f"db={self.db} is not a PSNR; expected decibels of at least 0, such as 40")

    def allows(self, input_psnr: float, input_linf: float) -> bool:
        return input_psnr >= self.db

    def budget(self, values: int) -> float:
        return float(10 ** (-self.db / 10)) * values


def _times(scale: Tensor, v: Tensor) -> Tensor:
    return scale.to(v.dtype) * v
