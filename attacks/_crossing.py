"""Levels of a transform: what it costs to move one, what that shows, and the least perturbation that moves many.

A level is a coefficient in steps of its rounding. Here the levels of a clip are one tensor ``(N, T, M)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustcodec.interfaces import Transform
from robustcodec.rounding import Surrogate, rounding

PROBE = 48  # pixels along the sides of the frame on which kinds of levels are measured
DAMPING = 0.7  # of corrections: the levels of colour planes are not at right angles


class Levels:
    """The levels of clips like ``x`` ``(N, T, 3, H, W)``.

    ``price``: squared norm of the least perturbation that moves a level by one step, if the others may move with it;
    ``weight``: squared norm of what one step changes in the reconstruction; ``kind``: a number that levels share
    which are alike. All ``(M,)``.
    """

    def __init__(self, transform: Transform, x: Tensor, price: list[Tensor], weight: list[Tensor]) -> None:
        """``price``, ``weight``: of each kind of level, as :func:`measured`."""
        self._transform, self._like = transform, x
        with torch.no_grad():
            shapes = [level.shape[2:] for level in transform.analyse(x)]
        first = [sum(v.numel() for v in price[:i]) for i in range(len(price))]
        kind = [torch.arange(v.numel()).view_as(v) + n for n, v in zip(first, price, strict=True)]
        self.price, self.weight, self.kind = (
            torch.cat([v.expand(shape).flatten() for v, shape in zip(values, shapes, strict=True)]).to(x.device)
            for values in (price, weight, kind)
        )

    def before(self, x: Tensor) -> Tensor:
        """The levels of ``x`` before they are rounded."""
        return self._of(x, "none")

    def coded(self, x: Tensor) -> Tensor:
        """The levels of ``x`` as they are coded: whole numbers."""
        with torch.no_grad():
            return self._of(x, "straight-through")

    def moving(
        self,
        start: Tensor,
        distance: Tensor,
        signs: Tensor,
        forces: Tensor,
        allowed: Callable[[Tensor], Tensor],
        corrections: int,
    ) -> tuple[Tensor, Tensor]:
        """About the least perturbation of the clips that moves levels by at least ``distance`` along ``signs``.

        ``start``: where levels are; a level whose ``distance`` is infinite may go where it likes. ``forces``: from
        where the search begins, zero or what it returned. ``allowed``: the nearest allowed perturbation. Returns the
        perturbation and the forces: Lagrange multipliers, whose dual ascent this is.
        """
        bound = distance.isfinite()
        forces = forces.where(bound, 0.0)
        for _ in range(corrections):
            delta = allowed(self._pull(forces * signs))
            with torch.no_grad():
                moved = (self.before(self._like + delta) - start) * signs
            forces = (forces + DAMPING * self.price * (distance - moved)).clamp(min=0).where(bound, 0.0)
        return allowed(self._pull(forces * signs)), forces

    def _of(self, x: Tensor, surrogate: Surrogate) -> Tensor:
        with rounding(surrogate):
            return torch.cat([level.flatten(2) for level in self._transform.analyse(x)], 2)

    def _pull(self, forces: Tensor) -> Tensor:
        """The adjoint of the transform."""
        leaf = torch.zeros_like(self._like, requires_grad=True)
        with torch.enable_grad():
            (direction,) = torch.autograd.grad(self.before(leaf), leaf, forces)
        return direction


def measured(transform: Transform) -> tuple[list[Tensor], list[Tensor]]:
    """Price and weight of each kind of level, at a place in the middle of a small grey frame, on the CPU."""
    prices, weights = [], []
    with rounding("none"), torch.enable_grad():
        grey = torch.full((1, 1, 3, PROBE, PROBE), 0.5, requires_grad=True)
        levels = transform.analyse(grey)
        still = [level.detach() for level in levels]
        base = transform.synthesise(still, PROBE, PROBE)
        for i, level in enumerate(levels):
            price, weight = torch.empty(2, *level.shape[4:])
            middle = level.shape[2] // 2, level.shape[3] // 2
            for kind in range(price.numel()):
                step = torch.zeros_like(level)
                step[0, 0, *middle].view(-1)[kind] = 1
                (row,) = torch.autograd.grad(level, grey, step, retain_graph=True)
                price.view(-1)[kind] = 1 / row.square().sum()
                shown = transform.synthesise([*still[:i], still[i] + step, *still[i + 1 :]], PROBE, PROBE)
                weight.view(-1)[kind] = (shown - base).square().sum()
            prices.append(price)
            weights.append(weight)
    return prices, weights
