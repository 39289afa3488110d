"""What several threats allow at once: ``psnr:40+linf:16``.

Any threats of this package may be joined. All of them are balls around the clean clip, or offsets of whole frames
inside a ball. So the intersection has one bound on single values, one norm for each frame and one for the clip, and its
nearest points and steepest steps are exact, inside [0, 1] too: see :mod:`robustcodec.threats._filling`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import and_

import torch
from torch import Tensor

from robustcodec.errors import BadParameter
from robustcodec.interfaces import Draws, Threat
from robustcodec.threats._filling import Bounds, largest_scale
from robustcodec.threats._frames import OnFrames
from robustcodec.threats.linf import whole_levels


@dataclass(frozen=True)
class Intersection(Threat):
    """The inputs that all ``members`` allow; their order matters only for where a random start begins.

    ``norm`` is ``l2`` if any member bounds it. Then ``radius`` is the largest L2 norm that all of them together allow,
    so that a perturbation of this norm has used up the budget, whichever bound limits it.
    """

    members: tuple[OnFrames, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", "l2" if any(m.norm == "l2" for m in self.members) else "linf")

    def radius(self, x: Tensor) -> Tensor:
        bounds, values = self._bounds(x), x[0, 0].numel()
        largest = bounds.linf
        if self.norm == "l2":
            frames = len(set.intersection(*(set(m.chosen(x)) for m in self.members)))
            largest = min(bounds.clip, math.sqrt(frames) * min(bounds.frame, math.sqrt(values) * bounds.linf))
        return torch.full((len(x),), largest, dtype=torch.float64, device=x.device)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        delta = self._perturbation(x_adv - x, x)
        size = delta.abs()
        room = torch.where(delta > 0, 1 - x, x).minimum(size)
        return (x + delta.sign() * self._bounds(x).fill(size, room)).clamp(0, 1)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """In the direction of a random start of the first member; where a norm is bounded, as far as it goes."""
        start = self.members[0].random_start(x, rng)
        return self.project(x + self.steepest(start - x, x) if self.norm == "l2" else start, x)

    def steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        """The step inside all bounds that increases a linear function the most.

        Its norm is ``radius`` where the gradient has enough values that are not zero.
        """
        grad = self.confine(grad, x)
        return grad.sign() * self._bounds(x).fill(grad.abs(), torch.full_like(grad, math.inf))

    def quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``x`` plus the rounded perturbation, each frame at the largest scale in [0, 1] that keeps it inside."""
        bounds, clean = self._bounds(x), (255 * x).round()
        delta = 255 * self._perturbation(x_adv.clamp(0, 1) - x, x)
        levels = min(whole_levels(bounds.linf), 255) if bounds.linf < math.inf else 255

        def moved(scale: Tensor) -> Tensor:
            change = (scale.to(delta.dtype) * delta).round().clamp(-levels, levels)
            return (clean + change).clamp(0, 255)

        def squares(scale: Tensor) -> Tensor:
            return (moved(scale) - clean).square().sum((2, 3, 4), keepdim=True, dtype=torch.float64)

        frame, clip = (255 * bounds.frame) ** 2, (255 * bounds.clip) ** 2
        each = largest_scale(lambda scale: squares(scale) <= frame, delta[:, :, :1, :1, :1])
        whole = largest_scale(
            lambda scale: squares(scale.minimum(each)).sum(1, keepdim=True) <= clip, delta[:, :1, :1, :1, :1]
        )
        return moved(whole.minimum(each)) / 255

    def allows(self, input_psnr: float, input_linf: float) -> bool:
        return all(m.allows(input_psnr, input_linf) for m in self.members)

    def confine(self, delta: Tensor, x: Tensor) -> Tensor:
        for member in self.members:
            delta = member.confine(delta, x)
        return delta

    def _bounds(self, x: Tensor) -> Bounds:
        return reduce(and_, (m.bounds(x) for m in self.members))

    def _perturbation(self, delta: Tensor, x: Tensor) -> Tensor:
        for member in self.members:
            delta = member.nearest_kind(delta, x)
        return delta


def join(names: tuple[str, ...], threats: tuple[Threat, ...]) -> Threat:
    """Several threats as one, for the registry; raises :class:`BadParameter` for one that says no bounds."""
    members = tuple(t for t in threats if isinstance(t, OnFrames))
    for name, threat in zip(names, threats, strict=True):
        if threat not in members:
            raise BadParameter(f"{name} cannot be joined to other threats: it is not known what bounds it")
    return Intersection(members)
