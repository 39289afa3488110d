"""Reversible permutation of colours: the codec sees red, green and blue in another order, and the decoder sorts them.

A learned codec is trained on one order, and spends more bits on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from robustcodec.defenses._moves import ORDERS, ColourOrder, Move, MovingBy
from robustcodec.registry import defenses


@defenses.register("colour-order")
@dataclass(frozen=True)
class OrderOfColours(MovingBy):
    """Codes the colour channels in another order, which the decoder undoes exactly.

    ``order``: the order of the coded channels, such as ``bgr``. With ``random``, each sample and each call draws one of
    all six orders. The order is in the stream.
    """

    name, kind = "colour-order", ColourOrder

    order: Literal["rbg", "grb", "gbr", "brg", "bgr", "random"] = "random"

    @property
    def moves(self) -> Sequence[Move]:
        return [
            ColourOrder(k)
            for k, order in enumerate(ORDERS)
            if self.order in ("".join("rgb"[colour] for colour in order), "random")
        ]
