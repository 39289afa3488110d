"""A base class of attacks that only query, and what they share: a budget of queries that is kept, perturbations as long
as the threat allows, and slopes estimated from differences.
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
    """Asks for the damage of perturbations at most ``queries`` times, and keeps the best input.

    Each perturbation is asked about in the form in which the runner will count it: projected and rounded to 8 bits. A
    victim that draws random numbers is asked several times for one answer, and each time counts as a query.
    """

    def __init__(self, oracle: Oracle, x: Tensor, threat: Threat, queries: int) -> None:
        self._oracle, self._x, self._threat = oracle, x, threat
        self._left, self._price = queries, 1
        self.best = Best(x)

    def can(self, times: int = 1) -> bool:
        """True if the budget has room for this many more answers."""
        return self._left >= times * self._price

    @torch.no_grad()
    def __call__(self, delta: Tensor) -> Tensor:
        """``(N,)`` damage of ``x + delta``, projected and rounded to 8 bits inside the threat."""
        return self._ask(delta, self._oracle)

    @torch.no_grad()
    def look(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The damage as above, and the picture that the decoder shows, shaped like ``delta``."""
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
    """A black-box attack: it asks for damage at most ``queries`` times, and the best input that it asked about is
    returned.
    """

    access: ClassVar[Literal["white", "black"]] = "black"

    queries: int = 500

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(
                f"queries={self.queries}; expected at least 1, the largest number of times the codec may be asked"
            )

    @abstractmethod
    def search(self, ask: Asker, x: Tensor, threat: Threat, rng: Draws) -> None:
        """Ask for damage while ``ask.can()`` is true. A search with a larger budget should begin exactly like one with
        a smaller.
        """

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        ask = Asker(oracle, x, threat, self.queries)
        self.search(ask, x, threat, rng)
        return ask.best.x


def slope(damage: Callable[[Tensor], Tensor], at: Tensor, directions: Iterable[Tensor]) -> Tensor:
    """The mean of ``(damage(at + u) - damage(at - u)) u / 2`` over ``directions`` u: an estimate of the gradient, times
    the covariance of the directions.
    """
    total, count = torch.zeros_like(at), 0
    for u in directions:
        difference = damage(at + u) - damage(at - u)
        total += per_sample(torch.where(difference.isfinite(), difference, 0.0)).to(u.dtype) * u / 2
        count += 1
    return total / count


def sized(direction: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """The part of ``direction`` that the threat allows, scaled to the length of the threat's steepest step along it.

    For white noise under an L∞ threat the result has a root mean square of ``eps``. A zero direction stays zero.
    """
    kept = threat.confine(direction, x)
    return kept * per_sample(_over(rms(threat.steepest(direction, x)), rms(kept)))


def rms(v: Tensor) -> Tensor:
    """``(N,)`` root mean square of each sample of ``v``."""
    size: Tensor = v.flatten(1).square().mean(1, dtype=torch.float64).sqrt().to(v.dtype)
    return size


def noise(rng: Draws, x: Tensor, kind: Kind, coarse: int) -> Tensor:
    """Gaussian noise shaped like ``x``, of a ``kind``.

    ``pixel``: every value by itself. ``block``: blocks of ``coarse`` × ``coarse`` equal values. ``dct``: the lowest
    ``1 / coarse`` of the frequencies along each axis of the discrete cosine transform of a frame.
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
    """The first ``count`` columns of the orthonormal inverse DCT-II, ``(length, count)``, on ``device``."""
    position = torch.arange(length, device=device)[:, None] + 0.5
    frequency = torch.arange(count, device=device)[None]
    basis: Tensor = (torch.pi * position * frequency / length).cos() * (2 / length) ** 0.5
    basis[:, 0] /= 2**0.5
    return basis


def _over(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / b, 0.0)
