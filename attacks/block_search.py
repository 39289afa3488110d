"""Search in all blocks of a frame at once, for an attacker who sees the picture that the decoder shows.

A usual random search learns one bit from each query: whether the damage rose. An attacker who can have clips coded sees
more, namely where in the picture the error grew. Codecs that work in blocks mostly err where they were disturbed, so
each block can keep the noise that raised its own error, and a single query tests all blocks at once.

The search begins with the codec's own coding error, which is the decoded clip minus the source. This error is added to
the clip, then the error of the result is added, and so on for about 20 queries. The clip then already lacks what
quantisers, predictors and rate–distortion decisions like to remove, and they remove more of the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec.attacks.ascent import per_sample
from robustcodec.attacks.queries import Asker, QueryAttack, cosines, sized
from robustcodec.interfaces import Draws, Threat
from robustcodec.registry import attacks

ERRORS = 20  # queries about the codec's own error, before the search
KEPT = 0.5  # of the perturbation, when the error of the clip that it gave is added
FREQUENCIES = 8  # of noise: horizontal plus vertical, of a block
LUMA = (0.299, 0.587, 0.114)  # BT.601: the direction in which luma moves farthest


@attacks.register("block-search")
@dataclass(frozen=True)
class BlockSearch(QueryAttack):
    """Random search guided by the decoded picture: each block keeps the noise that raised its own error.

    The attack first spends about 20 queries on adding the codec's own coding error to the clip. Then it repeats pairs
    of queries until ``queries`` are spent. The first input of a pair gets new noise, low frequencies of luma, in a
    random ``share`` (in (0, 1]) of the blocks of ``block`` × ``block`` pixels. The second input keeps this noise only
    in the blocks whose squared error it raised. The better of the two replaces the best so far if it does more damage.

    A run with more ``queries`` begins exactly like one with fewer, and never does less damage.
    """

    block: int = 32
    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1 or not 0 < self.share <= 1:
            raise ValueError(
                f"block={self.block}, share={self.share}; expected blocks of at least 1 pixel and a share in (0, 1]"
            )

    def search(self, ask: Asker, x: Tensor, threat: Threat, rng: Draws) -> None:
        delta, damage, shown = self._own_error(ask, x, threat)
        while ask.can(2):
            picked = self._picked(shown, rng)
            fresh = (delta + sized(self._noise(x, rng), x, threat)) / math.sqrt(2)
            candidate = threat.steepest(fresh.where(self._spread(picked, x), delta), x)
            new, seen = ask.look(candidate)
            worse = picked & (self._errors(seen, x) > self._errors(shown, x))
            merged = threat.steepest(fresh.where(self._spread(worse, x), delta), x)
            also, too = ask.look(merged)
            for other, value, picture in ((candidate, new, seen), (merged, also, too)):
                better = (value > damage) | damage.isnan()
                delta, damage = other.where(per_sample(better), delta), value.where(better, damage)
                shown = picture.where(per_sample(better), shown)

    def _own_error(self, ask: Asker, x: Tensor, threat: Threat) -> tuple[Tensor, Tensor, Tensor]:
        """The most harmful perturbation of a few in the direction of coding errors, its damage and its picture."""
        delta = kept = torch.zeros_like(x)
        damage, shown = ask.look(delta)
        picture = shown
        for _ in range(ERRORS):
            if not ask.can():
                break
            delta = threat.steepest(KEPT * delta + sized(picture - x, x, threat), x)
            new, picture = ask.look(delta)
            better = (new > damage) | damage.isnan()
            kept, damage = delta.where(per_sample(better), kept), new.where(better, damage)
            shown = picture.where(per_sample(better), shown)
        return kept, damage, shown

    def _noise(self, x: Tensor, rng: Draws) -> Tensor:
        n, t, _, height, width = x.shape
        rows, columns = -(-height // self.block), -(-width // self.block)
        drawn = rng.normal(torch.Size((n, t, rows, columns, self.block, self.block))).to(x.device)
        frequency = torch.arange(self.block, device=x.device)
        drawn = drawn * (frequency[:, None] + frequency <= FREQUENCIES)
        basis = cosines(self.block, self.block, x.device)
        luma = (basis @ drawn @ basis.T).transpose(3, 4).flatten(4, 5).flatten(2, 3)[..., :height, :width]
        return luma[:, :, None] * torch.tensor(LUMA, device=x.device)[:, None, None]

    def _picked(self, like: Tensor, rng: Draws) -> Tensor:
        """A random share of the blocks, ``(N, T, rows, columns)`` bool."""
        n, t, _, height, width = like.shape
        shape = torch.Size((n, t, -(-height // self.block), -(-width // self.block)))
        return rng.uniform(shape).to(like.device) < self.share

    def _errors(self, shown: Tensor, x: Tensor) -> Tensor:
        """Sums of squared errors against the clean clip, of each block."""
        error = (shown - x).square().sum(2)
        margin = (0, -x.shape[-1] % self.block, 0, -x.shape[-2] % self.block)
        return F.avg_pool2d(F.pad(error, margin), self.block)

    def _spread(self, blocks: Tensor, x: Tensor) -> Tensor:
        """Blocks as pixels: ``(N, T, 1, H, W)``."""
        pixels = blocks.repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
        return pixels[:, :, None, : x.shape[-2], : x.shape[-1]]
