"""What an attack may return: balls around the clean clip, inside the [0, 1] box, and their 8-bit points.

Every item of a batch has its own ball. A projection goes onto the ball and is then clamped to the box; the
clean clip is in the box, so clamping brings every value nearer to it and never leaves the ball. For L∞
that is the nearest allowed point; for L2 it is the nearest one wherever the box does not bind.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustcodec.interfaces import Draws, Threat
from robustcodec.registry import threats

BISECTIONS = 30  # the scale of an 8-bit perturbation is found to 1e-9


@threats.register("linf")
@dataclass(frozen=True)
class Linf(Threat):
    """No value moves by more than ``eps``, in units of the [0, 1] range: ``linf:8/255``.

    8-bit inputs move by whole levels, so ``eps`` counts as ``floor(255 eps)`` of them.
    """

    norm: ClassVar[Literal["linf", "l2"]] = "linf"
    eps: float

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise ValueError(f"eps={self.eps} is not in (0, 1]; values are in [0, 1], so write 8 levels as 8/255")

    def radius(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), self.eps, dtype=torch.float64, device=x.device)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x_adv.clamp(x - self.eps, x + self.eps).clamp(0, 1)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """Uniform in the ball."""
        noise = 2 * rng.uniform(x.shape).to(x.device) - 1
        return self.project(x + self.eps * noise, x)

    def steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        return self.eps * grad.sign()

    def quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        levels = math.floor(255 * self.eps + 1e-6)
        clean = (255 * x).round()
        return (255 * x_adv).round().clamp(clean - levels, clean + levels).clamp(0, 255) / 255


class _L2Ball(Threat):
    """The sum of squares of ``x_adv - x`` over all values of a clip is at most :meth:`budget`."""

    norm: ClassVar[Literal["linf", "l2"]] = "l2"

    @abstractmethod
    def budget(self, values: int) -> float:
        """Largest sum of squares over a clip of so many values."""

    def radius(self, x: Tensor) -> Tensor:
        largest = math.sqrt(self.budget(x[0].numel()))
        return torch.full((len(x),), largest, dtype=torch.float64, device=x.device)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        delta = x_adv - x
        return (x + _times((self.radius(x) / _norm(delta)).clamp(max=1), delta)).clamp(0, 1)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """Uniform in the ball; with thousands of values that is on its boundary, but for the box."""
        direction = self.steepest(rng.normal(x.shape).to(x.device), x)
        share = rng.uniform(x.shape[:1]).to(x.device) ** (1 / x[0].numel())
        return self.project(x + _times(share, direction), x)

    def steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        length = _norm(grad)
        return _times(torch.where(length > 0, self.radius(x) / length, 0.0), grad)

    def quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``x`` plus the rounded perturbation at the largest scale in [0, 1] that keeps it inside.

        Of all 8-bit inputs with the same norm none is nearer to ``x_adv``: ``round(s d)`` minimises
        ``|q - d|² + (1/s - 1)|q|²``. A perturbation of a few distinct values may leave budget unused.
        """
        clean = (255 * x).round()
        delta = 255 * x_adv.clamp(0, 1) - clean
        largest = (255 * self.radius(x)).square()

        def inside(scale: Tensor) -> Tensor:
            return _times(scale, delta).round().square().flatten(1).sum(1, dtype=torch.float64) <= largest

        high = torch.ones_like(largest)
        low = inside(high).double()
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            fits = inside(middle)
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        return (clean + _times(low, delta).round()).clamp(0, 255) / 255


@threats.register("l2")
@dataclass(frozen=True)
class L2(_L2Ball):
    """The L2 norm of the perturbation of a whole clip is at most ``eps``, values in [0, 1]: ``l2:0.5``."""

    eps: float

    def __post_init__(self) -> None:
        if not 0 < self.eps < math.inf:
            raise ValueError(f"eps={self.eps} is not a positive number; expected the norm of a clip's perturbation")

    def budget(self, values: int) -> float:
        return self.eps**2


@threats.register("mse")
@dataclass(frozen=True)
class Mse(_L2Ball):
    """The mean square of the perturbation over all values of a clip is at most ``mse``: ``mse:1e-4``."""

    mse: float

    def __post_init__(self) -> None:
        if not 0 < self.mse <= 1:
            raise ValueError(f"mse={self.mse} is not in (0, 1]; values are in [0, 1], so 40 dB is 1e-4")

    def budget(self, values: int) -> float:
        return self.mse * values


@threats.register("psnr")
@dataclass(frozen=True)
class Psnr(_L2Ball):
    """The PSNR of the attacked clip, over all its values and with peak 1, is at least ``db``: ``psnr:40``."""

    db: float

    def __post_init__(self) -> None:
        if not 0 <= self.db < math.inf:
            raise ValueError(f"db={self.db} is not a PSNR; expected decibels of at least 0, such as 40")

    def budget(self, values: int) -> float:
        return float(10 ** (-self.db / 10)) * values


def _norm(v: Tensor) -> Tensor:
    """``(N,)`` L2 norms, summed in float64: a clip has millions of values."""
    length: Tensor = torch.linalg.vector_norm(v.flatten(1), dim=1, dtype=torch.float64)
    return length


def _times(scale: Tensor, v: Tensor) -> Tensor:
    """Each item of ``v`` times its own ``scale``."""
    return scale.to(v.dtype)[:, None, None, None, None] * v
