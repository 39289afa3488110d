"""Reversible circular shift: the rows and columns that leave a frame on one side enter it on the other, and the decoder
shifts back.

The shift moves a perturbation relative to the grid of a codec's strides, at the price of a seam through the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robustcodec.defenses._moves import Move, Moving, Shift, pick
from robustcodec.registry import defenses

Amount = int | Literal["random"]


@defenses.register("roll")
@dataclass(frozen=True)
class Roll(Moving):
    """Codes a clip shifted circularly, which the decoder undoes exactly.

    ``down``, ``right``: the shift in pixels; negative numbers mean up and left. With ``random``, each sample and each
    call draws any number below the side of the clip. The shift is in the stream.
    """

    name, kind = "roll", Shift

    down: Amount = "random"
    right: Amount = "random"

    def __post_init__(self) -> None:
        if self.down == self.right == 0:
            raise ValueError("down=0 and right=0 shift nothing; expected a number of pixels or random")

    @property
    def random(self) -> bool:
        return "random" in (self.down, self.right)

    def draw(self, height: int, width: int) -> Move:
        return Shift(pick(_amounts(self.down, height)), pick(_amounts(self.right, width)))

    def makes(self, move: Move, height: int, width: int) -> bool:
        assert isinstance(move, Shift), "of the kind of this class"
        return move.down in _amounts(self.down, height) and move.right in _amounts(self.right, width)


def _amounts(amount: Amount, side: int) -> range:
    """What a side may be shifted by."""
    if isinstance(amount, str):
        return range(side)
    return range(amount % side, amount % side + 1)
