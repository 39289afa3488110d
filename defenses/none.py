"""No defense, so that "undefended" is a row of every table like any other."""

from __future__ import annotations

from dataclasses import dataclass

from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import defenses


@defenses.register("none")
@dataclass(frozen=True)
class NoDefense(Defense):
    """No defense: the codec itself, unchanged."""

    def wrap(self, codec: Codec) -> Codec:
        return codec
