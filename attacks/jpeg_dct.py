"""Coefficients pushed over rounding boundaries: a worst case in closed form, for codecs that round in a known
transform.

A coefficient that lies ``e`` from the whole number to which it is rounded crosses the boundary when it moves by
``1/2 - |e|``. The move raises its squared error from ``e²`` to ``(1 - |e|)²`` quantiser steps squared, and costs the
square of its own length. So the coefficients that give most for their cost are crossed first, until the budget is
spent: a knapsack problem that sorting solves.

The attack needs no gradient. The gradient of a rounding is zero, and the gradient of a smooth substitute points
elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustcodec.attacks._crossing import Levels, measured
from robustcodec.attacks.ascent import Best, per_sample
from robustcodec.interfaces import Access, Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks

MARGIN = 0.6  # grey levels beyond the boundary, as the norm of a move, while it is not known what 8 bits will do to it
WIDER, NARROWER = 0.5, 0.05  # what a margin gains after a crossing that failed, and loses after one that did not
CORRECTIONS = 6  # of one perturbation, so that its crossings do not disturb each other
SPENT = 0.995  # of the budget
WHOLE = 1.0  # of the budget, as energy: corrected until it is spent, where a norm is bounded
SHARES = 0.35, 0.2, 0.6, 1.0  # that are tried and kept where single values are: how much fits in a box is not known


@attacks.register("jpeg-dct")
@dataclass(frozen=True)
class JpegDct(Attack):
    """Pushes those coefficients over their rounding boundaries that give most for their share of the budget.

    The value of a crossing is estimated in four ways (by the error that it adds, by the change of the picture, by how
    rare or by how frequent the new level is), and the codec's answers decide which estimate fits the objective.
    ``steps`` (at least 0) further attempts follow: after each one, crossings that were undone by the rounding to 8 bits
    get a wider margin. The best input of all attempts is returned.

    Raises :class:`AttackError` for codecs that state no transform; ``jpeg`` and ``diff-jpeg`` state one.
    """

    access: ClassVar[Access] = "transform"

    steps: int = 20

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps={self.steps}; expected at least 0, the attempts after the first ones")

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        crossing = Crossing(oracle, x, threat)
        worth, share = crossing.choose()
        crossing.begin()
        for _ in range(self.steps):
            crossing.attempt(worth, share)
            share = share * crossing.correction()
            crossing.learn()
        return crossing.best.x


class Crossing:
    """One search: where the levels of ``x`` lie, how far beyond a boundary they must go, and the best input so far."""

    def __init__(self, oracle: Oracle, x: Tensor, threat: Threat) -> None:
        self._oracle, self._x, self._threat = oracle, x, threat
        transform = oracle.transform
        self._levels = Levels(transform, x, *oracle.once("kinds of levels", lambda: measured(transform)))
        with torch.no_grad():
            self._start = self._levels.before(x)
        self._whole = self._start.round()
        residue = self._start - self._whole
        self._signs, self._near = torch.where(residue < 0, -1.0, 1.0), residue.abs()
        self._step = 255 * self._levels.price.sqrt()  # of a level, in grey levels
        self._budget, self._reach = budgets(threat, x), reach(threat, x)
        self._corrected = torch.zeros(len(x), 1, dtype=torch.bool, device=x.device)
        self.best = Best(x)
        self.begin()

    def begin(self) -> None:
        """Forget what attempts have taught, but for the best input."""
        self._margin = (MARGIN / self._step).expand_as(self._near)
        self._forces = torch.zeros_like(self._near)

    def choose(self) -> tuple[Tensor, Tensor]:
        """Worth of each level ``(N, T, M)`` and share of each budget ``(N, G)``: what did most at first sight."""
        damage = torch.full((len(self._x),), -torch.inf, device=self._x.device)
        worth, share = torch.zeros_like(self._near), torch.ones_like(self._budget)
        corrected = torch.zeros_like(self._corrected)
        for tried, part, spends in self._first_attempts():
            candidate = worth if tried is None else tried
            self.begin()
            self._corrected = torch.full_like(corrected, spends)
            spent = torch.full_like(self._budget, part)
            self.attempt(candidate, spent)
            self.learn()
            spent = spent * self.correction()
            new = self.attempt(candidate, spent)
            better = new > damage
            damage = new.where(better, damage)
            worth, share = candidate.where(better[:, None, None], worth), spent.where(better[:, None], share)
            corrected = self._corrected.where(better[:, None], corrected)
        self._corrected = corrected
        return worth, share

    def _first_attempts(self) -> Iterator[tuple[Tensor | None, float, bool]]:
        """Worth of each level (None: what did most so far), share of each budget, and whether that is corrected.

        An intersection may be held by either kind of bound, so both are tried.
        """
        worths = self._worths()
        if self._threat.norm == "l2":
            yield from ((worth, WHOLE, True) for worth in worths)
        if (self._reach.square() < 0.999 * self._budget.amax(1)).any():  # values have bounds of their own
            usual, *others = SHARES
            yield from ((worth, usual, False) for worth in worths)
            yield from ((None, part, False) for part in others)

    def _worths(self) -> list[Tensor]:
        added = self._levels.weight * (1 - 2 * self._near)
        rarer = self._rarity(self._whole + self._signs) - self._rarity(self._whole)
        return [added, self._levels.weight.expand_as(added), rarer, -rarer]

    def _rarity(self, whole: Tensor) -> Tensor:
        """Bits of a level by how often it occurs among those of its kind in a clip."""
        low, high = int(self._whole.min()) - 1, int(self._whole.max()) + 1
        values, kinds = high - low + 1, int(self._levels.kind.max()) + 1
        bins = (self._levels.kind * values + (whole - low).long()).flatten(1)
        seen = (self._levels.kind * values + (self._whole - low).long()).flatten(1)
        counts = torch.zeros(len(whole), kinds * values, device=whole.device)
        counts.scatter_add_(1, seen, torch.ones_like(seen, dtype=counts.dtype))
        return -(counts.gather(1, bins) + 0.5).log2().view_as(whole)

    def attempt(self, worth: Tensor, share: Tensor) -> Tensor:
        """Cross what gives most for a ``share`` of each budget; ``(N,)`` damage of that."""
        goal = 0.5 - self._near + self._margin
        self._crossed = self._within(worth, self._levels.price * goal.square(), share)
        goal = goal.where(self._crossed, torch.inf)
        delta, self._forces = self._levels.moving(
            self._start, goal, self._signs, self._forces, self._allowed, CORRECTIONS
        )
        self._asked = self._x + delta
        counted = self._threat.quantise(self._threat.project(self._asked, self._x), self._x)
        damage = self._oracle(counted)
        self.best.see(counted, damage)
        self._met = (self._levels.coded(counted) - self._whole) * self._signs > 0
        return damage

    def learn(self) -> None:
        """Wider margins where a crossing failed, narrower ones where it did not."""
        change = torch.where(self._met, -NARROWER, WIDER) / self._step
        self._margin = (self._margin + change.where(self._crossed, 0.0)).clamp(min=0)

    def correction(self) -> Tensor:
        """``(N, G)``: by how much another share of each budget would spend it, once rounded to 8 bits; 1 where shares
        are kept.
        """
        rounded = (255 * self._asked).round() / 255 - self._x
        spent = rounded.square().sum((2, 3, 4), dtype=torch.float64)
        spent = spent if self._budget.shape[1] == spent.shape[1] else spent.sum(1, keepdim=True)
        return torch.where(self._corrected & (spent > 0), SPENT * self._budget / spent, 1.0)

    def _within(self, worth: Tensor, cost: Tensor, share: Tensor) -> Tensor:
        """The levels that are worth most for their ``cost`` and together fit in a ``share`` of each budget."""
        groups = self._budget.shape
        worth, cost = worth.reshape(*groups, -1), cost.reshape(*groups, -1)
        order = (worth / cost).argsort(dim=2, descending=True, stable=True)
        total = cost.gather(2, order).cumsum(2, dtype=torch.float64)
        fits = total <= (share * self._budget)[..., None]
        chosen = torch.zeros_like(fits).scatter(2, order, fits) & (worth > 0)
        return chosen.view_as(self._near)

    def _allowed(self, delta: Tensor) -> Tensor:
        """Inside the bounds of single values; what a norm bounds is scaled when all is projected."""
        most = per_sample(self._reach)
        return (self._x + self._threat.confine(delta, self._x).clamp(-most, most)).clamp(0, 1) - self._x


def budgets(threat: Threat, x: Tensor) -> Tensor:
    """Energy that perturbations may have, ``(N, T)`` where each frame has a budget of its own, else ``(N, 1)``."""

    def energy(direction: Tensor) -> Tensor:
        return threat.steepest(direction, x).square().sum((2, 3, 4), dtype=torch.float64)

    rising = torch.arange(1.0, x.shape[1] + 1, device=x.device)[:, None, None, None].expand_as(x)
    frames, tilted = energy(torch.ones_like(x)), energy(rising)
    separate = torch.allclose(frames, tilted, rtol=1e-3)
    return frames if separate else frames.sum(1, keepdim=True)


def reach(threat: Threat, x: Tensor) -> Tensor:
    """``(N,)``: how far the threat lets one value of a clip move, in the frame where that is farthest."""
    farthest = torch.zeros(len(x), device=x.device)
    for frame in range(x.shape[1]):
        single = torch.zeros_like(x)
        single[:, frame, 0, 0, 0] = 1
        farthest = farthest.maximum(threat.steepest(single, x).flatten(1).amax(1))
    return farthest
