"""Random search that keeps what does more damage, and adapts the area that it tries to how often that happens.

It is a (1+1) evolution strategy whose redrawn area follows the one-fifth rule (Rechenberg, 1973). Its noise can have
blocks or low frequencies, as in Guo et al., ICML 2019 (https://arxiv.org/abs/1905.07121).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.attacks.ascent import per_sample
from robustcodec.attacks.queries import Asker, Kind, QueryAttack, noise, sized
from robustcodec.interfaces import Draws, Threat
from robustcodec.registry import attacks

SUCCESS = 1.5  # factor of the area where a candidate was kept; where not, a fourth of that in the other direction


@attacks.register("random-search")
@dataclass(frozen=True)
class RandomSearch(QueryAttack):
    """Random search: noise in a window of the best input so far is drawn anew, and kept if it does more damage.

    The attack asks ``queries`` times. It searches for a direction, and each candidate moves the clip along its
    direction by the whole budget. ``area``: share of the frame, in (0, 1], that the first window covers. The area grows
    by a factor of 1.5 after a success and shrinks after a failure, so that one success in five keeps it. A window
    covers all frames of a clip. ``kind``: the noise is that of single pixels (``pixel``), of blocks of ``coarse`` ×
    ``coarse`` pixels (``block``), or of the lowest ``1 / coarse`` of the frequencies of a frame's cosine transform
    (``dct``).

    A run with more queries begins exactly like one with fewer, and never does less damage.
    """

    area: float = 1.0
    kind: Kind = "dct"
    coarse: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coarse < 1 or not 0 < self.area <= 1:
            raise ValueError(
                f"coarse={self.coarse}, area={self.area}; expected blocks of at least 1 pixel and a share of the frame "
                "in (0, 1]"
            )

    def search(self, ask: Asker, x: Tensor, threat: Threat, rng: Draws) -> None:
        direction = sized(noise(rng, x, self.kind, self.coarse), x, threat)
        damage = ask(threat.steepest(direction, x))
        area = torch.full_like(damage, self.area)
        while ask.can():
            fresh = sized(noise(rng, x, self.kind, self.coarse), x, threat)
            candidate = fresh.where(_windows(area, x, rng), direction)
            new = ask(threat.steepest(candidate, x))
            better = (new > damage) | damage.isnan()
            direction = candidate.where(per_sample(better), direction)
            damage = new.where(better, damage)
            area = (area * torch.where(better, SUCCESS, SUCCESS**-0.25)).clamp(max=1)


def _windows(area: Tensor, x: Tensor, rng: Draws) -> Tensor:
    """``(N, 1, 1, H, W)`` bool: a random window of each sample, with its share of the frame or one pixel."""
    height, width = x.shape[-2:]
    places = rng.uniform(torch.Size((len(x), 2))).to(x.device)
    side = area.sqrt()

    def along(length: int, place: Tensor) -> Tensor:
        """``(N, length)``: the rows, or the columns, of each window."""
        long = (side.double() * length).round().clamp(min=1)
        first = (place.double() * (length - long + 1)).floor()
        index = torch.arange(length, device=x.device)
        return (index >= first[:, None]) & (index < (first + long)[:, None])

    down, across = along(height, places[:, 0]), along(width, places[:, 1])
    return (down[:, :, None] & across[:, None])[:, None, None]
