"""Defenses around each other, ``self-ensemble+bitdepth:bits=6``: a clip meets the first one first, the codec last.

So the codec is wrapped by the last, that by the one before it, and the first is the outermost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from robustcodec.coding import wrapped
from robustcodec.interfaces import Codec, Defense


@dataclass(frozen=True)
class Stack(Defense):
    """``layers``: from the outermost to the one next to the codec; ``names``: theirs, as typed."""

    layers: tuple[Defense, ...]
    names: tuple[str, ...]

    def wrap(self, codec: Codec) -> Codec:
        name = codec.card.name
        for layer, layer_name in zip(reversed(self.layers), reversed(self.names), strict=True):
            codec = wrapped(codec, layer, layer_name)
        codec.card = replace(codec.card, name="+".join((name, *self.names)))  # in the order in which they are typed
        return codec


def join(names: tuple[str, ...], layers: tuple[Defense, ...]) -> Defense:
    """Several defenses as one, for the registry."""
    return Stack(layers, names)
