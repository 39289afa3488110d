"""What an attack may return: balls around the clean clip, inside the [0, 1] box, and their 8-bit points.

Every item of a batch has its own ball. A projection goes onto the ball and is then clamped to the box; the
clean clip is in the box, so clamping brings every value nearer to it and never leaves the ball. For L∞
that is the nearest allowed point; for L2 it is the nearest one wherever the box does not bind.

Of a clip every threat may be restricted to some ``frames``; the others are returned as they were.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustcodec.errors import BadParameter
from robustcodec.interfaces import Draws, Threat
from robustcodec.registry import threats

BISECTIONS = 30  # the scale of an 8-bit perturbation is found to 1e-9
REFINEMENTS = 3  # of the offset of a flickering frame


@dataclass(frozen=True, kw_only=True)
class _OnFrames(Threat):
    """Holds all frames but ``frames`` before a subclass projects, steps or rounds."""

    neutral = MappingProxyType({"frames": "all"})
    frames: str = "all"

    def __post_init__(self) -> None:
        _indices(self.frames)

    def confine(self, delta: Tensor, x: Tensor) -> Tensor:
        return delta.where(self.mask(x), 0.0)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return self._project(x_adv.where(self.mask(x), x), x)

    def steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        return self._steepest(self.confine(grad, x), x)

    def quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return self._quantise(x_adv.where(self.mask(x), x), x)

    def mask(self, x: Tensor) -> Tensor:
        """``(T, 1, 1, 1)``: the frames of ``x`` that may change; raises :class:`BadParameter` if it has none."""
        count, indices = x.shape[1], _indices(self.frames)
        inside = torch.zeros(count, 1, 1, 1, dtype=torch.bool, device=x.device)
        if isinstance(indices, slice) or -count <= indices < count:
            inside[indices] = True
        if not inside.any():
            raise BadParameter(
                f"frames={self.frames} is beyond a clip of {count} frames (0 to {count - 1}); "
                "choose others or use longer clips"
            )
        return inside

    @abstractmethod
    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _steepest(self, grad: Tensor, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _quantise(self, x_adv: Tensor, x: Tensor) -> Tensor: ...


@threats.register("linf")
@dataclass(frozen=True)
class Linf(_OnFrames):
    """No value moves by more than ``eps``, in units of the [0, 1] range: ``linf:8/255``.

    8-bit inputs move by whole levels, so ``eps`` counts as ``floor(255 eps)`` of them. ``frames``: those that may
    change: ``all``, ``first``, the number of one (from 0; from the end if negative), or a Python slice such as
    ``1:`` or ``::4``, every fourth.
    """

    norm: ClassVar[Literal["linf", "l2"]] = "linf"
    eps: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps <= 1:
            raise ValueError(f"eps={self.eps} is not in (0, 1]; values are in [0, 1], so write 8 levels as 8/255")

    def allows(self, input_psnr: float, input_linf: float) -> bool:
        return input_linf < _whole_levels(self.eps) + 0.5

    def radius(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), self.eps, dtype=torch.float64, device=x.device)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """Uniform in the ball."""
        noise = 2 * rng.uniform(x.shape).to(x.device) - 1
        return self.project(x + self.eps * noise, x)

    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x_adv.clamp(x - self.eps, x + self.eps).clamp(0, 1)

    def _steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        return self.eps * grad.sign()

    def _quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        levels = _whole_levels(self.eps)
        clean = (255 * x).round()
        return (255 * x_adv).round().clamp(clean - levels, clean + levels).clamp(0, 255) / 255


@threats.register("flicker")
@dataclass(frozen=True)
class Flicker(Linf):
    """One RGB offset per frame, the same for all its pixels, of at most ``eps``: ``flicker:8/255``.

    As in Pony, Naeh & Mannor, CVPR 2021 (https://arxiv.org/abs/2002.05123), without their penalties on thick and
    rough flicker. A frame plus its offset is clamped to [0, 1], so pixels near black and white may move by less.
    8-bit offsets are whole levels. ``frames`` as for ``linf``.
    """

    def confine(self, delta: Tensor, x: Tensor) -> Tensor:
        """The mean over the pixels of each frame and channel."""
        mean = delta.mean((3, 4), keepdim=True, dtype=torch.float64).to(delta.dtype)
        return super().confine(mean, x).expand_as(x)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """Offsets uniform in ±``eps``."""
        noise = 2 * rng.uniform(torch.Size((*x.shape[:3], 1, 1))).to(x.device) - 1
        return (x + self.confine(self.eps * noise, x)).clamp(0, 1)

    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return (x + self._offset(x_adv, x)).clamp(0, 1)

    def _quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        levels = _whole_levels(self.eps)
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


@dataclass(frozen=True, kw_only=True)
class _L2Ball(_OnFrames):
    """The sum of squares of ``x_adv - x`` over a clip, or over each frame, is at most :meth:`budget`."""

    norm: ClassVar[Literal["linf", "l2"]] = "l2"
    neutral = MappingProxyType({"frames": "all", "per": "clip"})
    per: Literal["clip", "frame"] = "clip"

    @abstractmethod
    def budget(self, values: int) -> float:
        """Largest sum of squares over so many values."""

    def radius(self, x: Tensor) -> Tensor:
        balls = int(self.mask(x).sum()) if self.per == "frame" else 1
        return torch.full((len(x),), math.sqrt(balls) * self._limit(x), dtype=torch.float64, device=x.device)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """Uniform in the ball; with thousands of values that is on its boundary, but for the box."""
        direction = self.steepest(rng.normal(x.shape).to(x.device), x)
        balls = x.shape[1] if self.per == "frame" else 1
        free = x[0, 0].numel() * (1 if self.per == "frame" else int(self.mask(x).sum()))
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

        high = torch.ones_like(self._norm(delta))
        low = inside(high).double()
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            fits = inside(middle)
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        return (clean + _times(low, delta).round()).clamp(0, 255) / 255


@threats.register("l2")
@dataclass(frozen=True)
class L2(_L2Ball):
    """The L2 norm of the perturbation of a whole clip is at most ``eps``, values in [0, 1]: ``l2:0.5``.

    ``frames`` as for ``linf``. With ``per=frame`` each of them has a budget of its own, of norm ``eps``; with
    ``per=clip`` fewer frames share the same budget, so each may change more.
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
    """The mean square of the perturbation over all values of a clip is at most ``mse``: ``mse:1e-4``.

    ``frames`` as for ``linf``. The mean is over the whole clip, so fewer frames may change more; with ``per=frame``
    it is over each frame by itself.
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
    """The PSNR of the attacked clip, over all its values and with peak 1, is at least ``db``: ``psnr:40``.

    ``frames`` as for ``linf``. The PSNR is of the whole clip: one frame of ten may be 10 dB worse. With ``per=frame``
    every frame by itself has at least ``db``.
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


def _indices(frames: str) -> int | slice:
    """What ``frames`` selects; raises ValueError if it is not readable."""
    parts = {"all": ":", "first": "0"}.get(frames, frames).split(":")
    try:
        numbers = [int(p) if p else None for p in parts]
        if len(parts) > 1:
            chosen = slice(*numbers)
            chosen.indices(1)  # a step of 0
            if (chosen.step or 1) > 0:
                return chosen
        elif numbers[0] is not None:
            return numbers[0]
    except (ValueError, TypeError):
        pass
    raise ValueError(f"frames={frames!r} is no choice of frames; expected all, first, a number or a slice such as ::4")


def _whole_levels(eps: float) -> int:
    return math.floor(255 * eps + 1e-6)


def _mean_where(chosen: Tensor, v: Tensor, otherwise: Tensor) -> Tensor:
    """``(N, T, 3, 1, 1)`` means of ``v`` over the chosen pixels, ``otherwise`` where there are none."""
    count = chosen.sum((3, 4), keepdim=True)
    total = v.where(chosen, 0.0).sum((3, 4), keepdim=True, dtype=torch.float64)
    return torch.where(count > 0, (total / count.clamp(min=1)).to(v.dtype), otherwise)


def _times(scale: Tensor, v: Tensor) -> Tensor:
    return scale.to(v.dtype) * v
