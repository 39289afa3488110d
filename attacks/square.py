"""Square attack: random search over squares that shrink (Andriushchenko et al., ECCV 2020).

https://arxiv.org/abs/1912.00049; both forms follow the authors' code. The L∞ form starts from vertical stripes and
gives one square one colour of ±eps per query. The L2 form starts from a grid of bumps; each query moves the energy of
one window to another, in which it adds a pair of bumps of opposite signs.

Four things differ here. Every input is judged projected and rounded to 8 bits. A candidate that changes nothing counts
as a query, and is not drawn again. In a clip, a square covers all frames with the same colours. A threat that does not
bound one norm of the whole clip (one for some frames, or with a budget per frame) projects what the search finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustcodec.attacks.queries import Asker, QueryAttack
from robustcodec.interfaces import Draws, Threat
from robustcodec.registry import attacks

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of the area, after so many of 10,000 queries


@attacks.register("square")
@dataclass(frozen=True)
class Square(QueryAttack):
    """Random search that replaces one square of the best input per query, and keeps it if it does more damage.

    The attack asks ``queries`` times. ``area``: share of the frame that the first square covers; the paper uses 0.05
    under L∞ and 0.1 under L2, AutoAttack 0.8. ``schedule``: the area halves nine times, with ``published`` at fixed
    shares of the budget, with ``fixed`` at the numbers of queries that these shares are of a budget of 10,000. With
    ``fixed`` a run with more queries begins exactly like one with fewer, and never does less damage.
    """

    area: float = 0.3
    schedule: Literal["published", "fixed"] = "fixed"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.area <= 1:
            raise ValueError(f"area={self.area} is not in (0, 1]; expected the share of the frame of the first square")

    def search(self, ask: Asker, x: Tensor, threat: Threat, rng: Draws) -> None:
        shape = torch.Size((len(x), *x.shape[2:]))  # the same in all frames
        start, renew = (_stripes, _recolour) if threat.norm == "linf" else (_bumps, _move)
        delta = start(shape, rng).to(x.device)
        damage = ask(_full(delta, x, threat))
        made = 0
        while ask.can():
            share = self.area / 2 ** halvings(made if self.schedule == "fixed" else 10_000 * made // self.queries)
            candidate = renew(delta, share, rng)
            new = ask(_full(candidate, x, threat))
            better = (new > damage) | damage.isnan()
            delta = candidate.where(better[:, None, None, None], delta)
            damage = new.where(better, damage)
            made += 1


def halvings(query: int) -> int:
    """How often the area has halved at a query, counted from 0, of 10,000."""
    return sum(query > limit for limit in HALVINGS)


def _full(delta: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """``delta``, ``(N, 3, H, W)``, as a perturbation of the whole budget."""
    return threat.steepest(delta[:, None].expand_as(x), x)


def _sign(rng: Draws, *shape: int) -> Tensor:
    return 1.0 - 2.0 * (rng.uniform(torch.Size(shape)) < 0.5)


def _corners(rng: Draws, delta: Tensor, side: int) -> list[tuple[int, int]]:
    """The top left corner of a random square per sample."""
    n, _, height, width = delta.shape
    drawn = rng.uniform(torch.Size((n, 2))).double()
    rows, columns = (drawn[:, 0] * (height - side + 1)).long(), (drawn[:, 1] * (width - side + 1)).long()
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _stripes(shape: torch.Size, rng: Draws) -> Tensor:
    n, channels, _, width = shape
    return _sign(rng, n, channels, 1, width).expand(shape).clone()


def _recolour(delta: Tensor, share: float, rng: Draws) -> Tensor:
    """One square of each sample in a new colour."""
    n, channels, height, width = delta.shape
    side = min(max(round((share * height * width) ** 0.5), 1), height, width)
    colours = _sign(rng, n, channels, 1, 1).to(delta.device)
    out = delta.clone()
    for square, colour, (top, left) in zip(out, colours, _corners(rng, delta, side), strict=True):
        square[:, top : top + side, left : left + side] = colour
    return out


def _bumps(shape: torch.Size, rng: Draws) -> Tensor:
    """A grid of five bumps along the shorter side, of random signs, with norm 1."""
    n, channels, height, width = shape
    side = max(min(height, width) // 5, 1)
    delta = torch.zeros(shape)
    for top in range((height % side) // 2, height - side + 1, side):
        for left in range((width % side) // 2, width - side + 1, side):
            signs = _sign(rng, n, channels, 1, 1)
            flip = rng.uniform(torch.Size((n,))) < 0.5
            delta[..., top : top + side, left : left + side] = signs * _pairs(side, flip)
    return delta / _size(delta, (1, 2, 3))


def _move(delta: Tensor, share: float, rng: Draws) -> Tensor:
    """One window of each sample renewed with its own energy and that of a second window, which is emptied."""
    n, channels, height, width = delta.shape
    side = min(max(round((share * height * width) ** 0.5), 3) | 1, height, width)
    signs = _sign(rng, n, channels, 1, 1).to(delta.device)
    fresh = signs * _pairs(side, rng.uniform(torch.Size((n,))) < 0.5).to(delta.device)
    to, source = _corners(rng, delta, side), _corners(rng, delta, side)
    out = delta.clone()
    for i in range(n):
        receiving = (slice(None), slice(to[i][0], to[i][0] + side), slice(to[i][1], to[i][1] + side))
        giving = (slice(None), slice(source[i][0], source[i][0] + side), slice(source[i][1], source[i][1] + side))
        old = delta[i][receiving]
        both = torch.zeros_like(delta[i])
        both[giving], both[receiving] = delta[i][giving], old
        unused = (1 - delta[i].square().sum()).clamp(min=0) / channels
        energy = unused + both.square().sum((1, 2), keepdim=True)
        bump = fresh[i] + old / _size(old, (1, 2))
        out[i][giving] = 0
        out[i][receiving] = bump / _size(bump, (1, 2)) * energy.sqrt()
    return out / _size(out, (1, 2, 3))


def _pairs(side: int, flip: Tensor) -> Tensor:
    """``(N, 1, side, side)`` of norm 1: two bumps of opposite signs, one above the other, or beside it by ``flip``."""
    half = side // 2
    pair = torch.cat([_bump(half, side), -_bump(side - half, side)])
    pair = pair / _size(pair, (0, 1))
    return torch.where(flip[:, None, None], pair.T, pair)[:, None]


def _bump(rows: int, columns: int) -> Tensor:
    """Sums of ``1 / k²`` over rings that grow from the middle, with norm 1."""
    rings = max(rows, columns) // 2 + 1
    down, across = torch.arange(rows) - rows // 2, torch.arange(columns) - columns // 2
    ring = torch.maximum(down.abs()[:, None], across.abs()[None])
    tails = torch.tensor([sum(1 / (k + 1) ** 2 for k in range(d, rings)) for d in range(rings + 1)])
    bump = tails[ring]
    return bump / _size(bump, (0, 1))


def _size(v: Tensor, dims: tuple[int, ...]) -> Tensor:
    """L2 norms that can be divided by."""
    return v.square().sum(dims, keepdim=True).sqrt().clamp(min=1e-10)
