"""Threats to some frames of a clip: the others are held."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from robustcodec.errors import BadParameter, counted
from robustcodec.interfaces import Threat
from robustcodec.threats._filling import Bounds


@dataclass(frozen=True, kw_only=True)
class OnFrames(Threat):
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
        chosen = self.chosen(x)
        inside = torch.zeros(x.shape[1], 1, 1, 1, dtype=torch.bool, device=x.device)
        inside[chosen.start : chosen.stop : chosen.step] = True
        return inside

    def chosen(self, x: Tensor) -> range:
        """The numbers of the frames of ``x`` that may change, known on the host; raises as :meth:`mask`."""
        count, indices = x.shape[1], _indices(self.frames)
        if isinstance(indices, slice):
            chosen = range(count)[indices]
        else:
            chosen = range(indices % count, indices % count + (-count <= indices < count))
        if not chosen:
            raise BadParameter(
                f"frames={self.frames} is beyond a clip of {counted(count, 'frame')} (0 to {count - 1}); "
                "choose others or use longer clips"
            )
        return chosen

    @abstractmethod
    def bounds(self, x: Tensor) -> Bounds:
        """What holds a perturbation of ``x``; :meth:`mask` and :meth:`nearest_kind` say the rest of the threat."""

    def nearest_kind(self, delta: Tensor, x: Tensor) -> Tensor:
        """The perturbation of an allowed kind that brings ``x`` nearest to ``x + delta``, whatever its size."""
        return self.confine(delta, x)

    @abstractmethod
    def _project(self, x_adv: Tensor, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _steepest(self, grad: Tensor, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _quantise(self, x_adv: Tensor, x: Tensor) -> Tensor: ...


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
