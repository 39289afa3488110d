"""Reversible flips: a clip is coded mirrored, upside down or both, and turned back exactly."""

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
    """Codes a clip mirrored or upside down, which the decoder undoes exactly.

    ``axis``: ``horizontal`` swaps left and right, ``vertical`` swaps top and bottom. With ``random``, each sample and
    each call draws whether to swap either. The choice is in the stream.
    """

    name, kind = "flip", View

    axis: Literal["horizontal", "vertical", "both", "random"] = "random"

    @property
    def moves(self) -> Sequence[Move]:
        return [View(k) for k in VIEWS[self.axis]]
