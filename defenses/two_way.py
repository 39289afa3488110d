"""Two-way coding (Song et al., 2024, "A Training-Free Defense Framework for Robust Learned Image Compression",
https://arxiv.org/abs/2401.11902).

The encoder codes a clip as it is and after a random transform, and sends the one with less rate + λ · distortion. A
clip can always be sent as it is, so clean rate and distortion stay as they were, except for a byte. The transforms here
are moves of pixels, which the decoder undoes exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.defenses._criterion import LMBDA, Criterion, cheapest
from robustcodec.defenses._moves import ColourOrder, Move, Shift, View, pack_index, pick, read_index
from robustcodec.defenses.wrapping import Change, Step, StepwiseCodec
from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import defenses

NAMED: dict[str, type[Move]] = {"view": View, "roll": Shift, "colour-order": ColourOrder}
KINDS = list(NAMED.values())  # as a stream numbers them, from 1
AS_IT_IS = View(0)


@defenses.register("two-way")
@dataclass(frozen=True)
class TwoWay(Defense):
    """Codes each clip as it is and after a random move of its pixels, and sends the cheaper of the two.

    ``transforms``: kinds of moves, joined by ``;``. The encoder draws a kind, all equally likely, and then any move of
    this kind: ``view`` (eight flips and rotations), ``roll`` (circular shifts) or ``colour-order``. ``lmbda``
    (positive): the cost is bits per pixel + ``lmbda`` · 255² · MSE, with the MSE against the encoder's own input.
    """

    transforms: str = "view;roll"
    lmbda: float = LMBDA

    def __post_init__(self) -> None:
        kinds = self.transforms.split(";")
        if not set(kinds) <= set(NAMED) or len(set(kinds)) != len(kinds):
            raise ValueError(f"transforms={self.transforms}; expected some of {', '.join(NAMED)}, such as view;roll")
        if self.lmbda <= 0:
            raise ValueError(f"lmbda={self.lmbda}; expected a positive weight of the distortion")

    def wrap(self, codec: Codec) -> Codec:
        return TwoWayCodec(codec, [NAMED[name] for name in self.transforms.split(";")], Criterion("rd", self.lmbda))


class TwoWayCodec(StepwiseCodec):
    """Codes each sample as it is or after a transform; a byte in front of the inner stream names the transform's kind,
    and a few more which one it is. Gradients go through the chosen way only.
    """

    side = "transform"

    def __init__(self, inner: Codec, kinds: Sequence[type[Move]], criterion: Criterion) -> None:
        super().__init__(inner, "two-way", random=True)
        self.kinds, self.criterion = kinds, criterion

    def steps(self, x: Tensor, real: bool) -> list[Step]:
        moves = [pick(self.kinds).draw(*x.shape[-2:]) for _ in x]
        plain = self._cost(x, _step(None, range(len(x))), real)
        moved = torch.empty_like(plain)
        for move, rows in self.alike(moves):
            moved[rows] = self._cost(x, _step(move, rows), real)
        best = cheapest(torch.stack([plain, moved], dim=1))
        return [_step(*chosen) for chosen in self.alike([(None, move)[k] for k, move in zip(best, moves, strict=True)])]

    def read(self, stream: bytes) -> tuple[int, Change]:
        kind = read_index(stream, [0, *(1 + KINDS.index(known) for known in self.kinds)], "transform")
        if kind == 0:
            return 1, AS_IT_IS.undo
        move, length = KINDS[kind - 1].read(stream[1:])
        return 1 + length, move.undo

    def _cost(self, x: Tensor, step: Step, real: bool) -> Tensor:
        return self.criterion.cost(self.inner, step.apply(x[list(step.rows)]), len(step.head), real)


def _step(move: Move | None, rows: Sequence[int]) -> Step:
    """Of samples that are coded after ``move``, or as they are."""
    if move is None:
        return Step(rows, AS_IT_IS.apply, AS_IT_IS.undo, pack_index(0))
    return Step(rows, move.apply, move.undo, pack_index(1 + KINDS.index(type(move))) + move.pack())
