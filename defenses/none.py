"""No defense: the codec as it is, so that "undefended" is a row like any other."""

from __future__ import annotations

from dataclasses import dataclass

from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import defenses


@defenses.register("none")
@dataclass(frozen=True)
class NoDefense(Defense):
    """Returns the codec itself."""

    def wrap(self, codec: Codec) -> Codec:
        return codec
