"""A base class of attacks by queries alone, and what they share: a budget that is kept, perturbations as long as the
threat's, and slopes by differences.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustcodec.attacks.ascent import Best, per_sample
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle

Kind = Literal["pixel", "block", "dct"]


class Asker:
    """Asks for the damage of perturbations as they will count, at most ``queries`` times, and keeps the best.

    A victim that draws random numbers is asked several times for one answer: each of them is one of the ``queries``.
    """

    def __init__(self, oracle: Oracle, x: Tensor, threat: Threat, queries: int) -> None:
        self._oracle, self._x, self._threat = oracle, x, threat
        self._left, self._price = queries, 1
        self.best = Best(x)

    def can(self, times: int = 1) -> bool:
        """True if so many more answers are within the budget."""
        return self._left >= times * self._price

    @torch.no_grad()
    def __call__(self, delta: Tensor) -> Tensor:
        """``(N,)`` damage of ``x + delta``, projected and rounded to 8 bits inside the threat."""
        return self._ask(delta, self._oracle)

    @torch.no_grad()
    def look(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and what the decoder shows, like ``delta``."""
        pictures: list[Tensor] = []

        def looked(counted: Tensor) -> Tensor:
            damage, picture = self._oracle.look(counted)
            pictures.append(picture)
            return damage

        return self._ask(delta, looked), pictures[0]

    def _ask(self, delta: Tensor, damage_of: Callable[[Tensor], Tensor]) -> Tensor:
        counted = self._threat.quantise(self._threat.project(self._x + delta, self._x), self._x)
        before = self._oracle.queries
        damage = damage_of(counted)
        self._price = self._oracle.queries - before
        self._left -= self._price
        self.best.see(counted, damage)
        return damage


@dataclass(frozen=True)
class QueryAttack(Attack):
    """Asks for damage at most ``queries`` times; the best of all that it asked about is returned."""

    access: ClassVar[Literal["white", "black"]] = "black"

    queries: int = 500

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(
                f"queries={self.queries}; expected at least 1, the largest number of times the codec may be asked"
            )

    @abstractmethod
    def search(self, ask: Asker, x: Tensor, threat: Threat, rng: Draws) -> None:
        """Ask while ``ask.can()``; a larger budget should begin with the smaller one."""

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        ask = Asker(oracle, x, threat, self.queries)
        self.search(ask, x, threat, rng)
        return ask.best.x


def slope(damage: Callable[[Tensor], Tensor], at: Tensor, directions: Iterable[Tensor]) -> Tensor:
    """Mean of ``(damage(at + u) - damage(at - u)) u / 2``: the gradient, times their covariance."""
    total, count = torch.zeros_like(at), 0
    for u in directions:
        difference = damage(at + u) - damage(at - u)
        total += per_sample(torch.where(difference.isfinite(), difference, 0.0)).to(u.dtype) * u / 2
        count += 1
    return total / count


def sized(direction: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """What of ``direction`` the threat allows, as long as the threat's steepest step along it; zero stays zero.

    Of white noise for L∞: values whose root mean square is ``eps``.
    """
    kept = threat.confine(direction, x)
    return kept * per_sample(_over(rms(threat.steepest(direction, x)), rms(kept)))


def rms(v: Tensor) -> Tensor:
    """``(N,)`` root mean square of each sample."""
    size: Tensor = v.flatten(1).square().mean(1, dtype=torch.float64).sqrt().to(v.dtype)
    return size


def noise(rng: Draws, x: Tensor, kind: Kind, coarse: int) -> Tensor:
    """Normal noise like ``x``: of each pixel, of ``coarse`` × ``coarse`` blocks, or of the lowest frequencies.

    ``dct``: the ``1 / coarse`` lowest frequencies of each axis of the discrete cosine transform of a frame.
    """
    if kind == "pixel":
        return rng.normal(x.shape).to(x.device)
    height, width = x.shape[-2:]
    rows, columns = -(-height // coarse), -(-width // coarse)
    drawn = rng.normal(torch.Size((*x.shape[:3], rows, columns))).to(x.device)
    if kind == "block":
        return drawn.repeat_interleave(coarse, 3).repeat_interleave(coarse, 4)[..., :height, :width]
    return cosines(height, rows, x.device) @ drawn @ cosines(width, columns, x.device).T


def cosines(length: int, count: int, device: torch.device) -> Tensor:
    """``(length, count)`` on ``device``: the first columns of the orthonormal inverse DCT-II."""
    position = torch.arange(length, device=device)[:, None] + 0.5
    frequency = torch.arange(count, device=device)[None]
    basis: Tensor = (torch.pi * position * frequency / length).cos() * (2 / length) ** 0.5
    basis[:, 0] /= 2**0.5
    return basis


def _over(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b, 0.0)
