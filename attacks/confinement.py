"""A threat cut down to a part of all perturbations, such as a region of the frame or a band of frequencies.

A part is given as a linear orthogonal projection of perturbations, frame by frame. A perturbation that lies in the part
and in the threat at once is found by projecting onto one and the other in turn. :class:`ConfinedAscent` is an attack
inside such a part.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcodec.attacks.ascent import Ascent, per_sample
from robustcodec.interfaces import Draws, Threat
from robustcodec.oracle import Oracle

Part = Callable[[Tensor], Tensor]  # a perturbation (N, T, 3, H, W) to its part
ROUNDS = 3  # of projections in turn; what is left over in L∞ is taken off by shrinking
NOTHING = 1e-5  # of a norm: beyond the rounding errors of float32


class Confined(Threat):
    """The inputs that ``threat`` allows and whose perturbation lies in ``part``, until it is rounded to 8 bits."""

    def __init__(self, threat: Threat, part: Part) -> None:
        self._threat, self._part = threat, part
        self.norm = threat.norm  # type: ignore[misc]  # of a class, but for this one

    def radius(self, x: Tensor) -> Tensor:
        return self._threat.radius(x)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """An input near ``x_adv`` whose difference from ``x`` lies in the part and, apart from the clamp to [0, 1], in
        the threat.
        """
        for _ in range(ROUNDS):
            x_adv = x + self._part(self._threat.project(x_adv, x) - x)
        if self.norm == "l2":  # a part is never longer than the whole
            return x_adv
        delta = x_adv - x
        over = delta.abs().flatten(1).amax(1) / self.radius(x).to(delta.dtype)
        return x + delta / per_sample(over.clamp(min=1))

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        """An input in a random direction, as far from ``x`` as the threat allows."""
        return self.project(x + self.steepest(self._threat.random_start(x, rng) - x, x), x)

    def steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        return self._threat.steepest(self._part(grad), x)

    def quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return self._threat.quantise(self._threat.project(x_adv, x), x)

    def confine(self, delta: Tensor, x: Tensor) -> Tensor:
        return self._threat.confine(self._part(delta), x)

    def empty(self, x: Tensor, rng: Draws) -> Tensor:
        """``(N,)`` bool: true where the part holds no perturbation of the kind that the threat allows, except zero.

        An example is a region of the frame under ``flicker``, which allows only offsets of whole frames.
        """
        delta = self._threat.random_start(x, rng) - x
        inside = self.confine(delta, x)
        outside = self._part(inside) - inside
        return (_norm(inside) <= NOTHING * _norm(delta)) | (_norm(outside) > 1e-2 * _norm(inside))


@dataclass(frozen=True, kw_only=True)
class ConfinedAscent(Ascent):
    """Gradient ascent whose perturbation stays in a part of all perturbations.

    ``place`` is the word for the part in remarks. Where the part holds nothing that the threat allows, the clean clip
    is returned and a remark says so. The fields are those of :class:`robustcodec.attacks.ascent.Ascent`.
    """

    general = False

    place: ClassVar[str] = "part"

    @abstractmethod
    def part(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Part:
        """The part for the clips ``x`` ``(N, T, 3, H, W)``: a function that projects perturbations of this shape."""

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        inside = Confined(threat, self.part(oracle, x, threat, rng))
        empty = inside.empty(x, rng.child())
        oracle.remark(f"no perturbation that the threat allows is in the {self.place}", empty)
        return x.where(per_sample(empty), self.climb(oracle, x, inside, rng).x)


def _norm(delta: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64)
    return length
