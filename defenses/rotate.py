"""Reversible rotations: a clip is coded turned by quarter turns, and turned back exactly.

Other angles would resample pixels and cut off corners, and could not be undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from robustcodec.defenses._moves import Move, MovingBy, View
from robustcodec.registry import defenses

VIEWS = {0: 0, 90: 5, 180: 3, 270: 6}  # counter-clockwise; a quarter turn mirrors, then transposes


@defenses.register("rotate")
@dataclass(frozen=True)
class Rotate(MovingBy):
    """Codes a clip turned by quarter turns, which the decoder undoes exactly.

    ``angle``: 90, 180 or 270 degrees, counter-clockwise. With ``random``, each sample and each call draws one of these
    or 0. The angle is in the stream.
    """

    name, kind = "rotate", View

    angle: int | Literal["random"] = "random"

    def __post_init__(self) -> None:
        if self.angle not in (90, 180, 270, "random"):
            raise ValueError(f"angle={self.angle}; expected 90, 180, 270 or random")

    @property
    def moves(self) -> Sequence[Move]:
        return [View(k) for angle, k in VIEWS.items() if self.angle in (angle, "random")]
