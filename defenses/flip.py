"""Reversible flips: a clip is coded mirrored or upside down, in a way that may be drawn, and turned back exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from robustcodec.defenses._moves import Move, MovingBy, View
from robustcodec.registry import defenses

VIEWS = {"horizontal": [1], "vertical": [2], "both": [3], "random": [0, 1, 2, 3]}


@defenses.register("flip")
@dataclass(frozen=True)
class Flip(MovingBy):
    """``axis``: ``horizontal`` swaps left and right, ``vertical`` top and bottom; ``random`` draws for each sample and
    call whether to swap either.
    """

    name, kind = "flip", View

    axis: Literal["horizontal", "vertical", "both", "random"] = "random"

    @property
    def moves(self) -> Sequence[Move]:
        return [View(k) for k in VIEWS[self.axis]]
