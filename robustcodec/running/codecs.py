"""Codecs ready to be judged and attacked, on one device: the last few are kept, and their weights are held once."""

from __future__ import annotations

import torch

from robustcodec.interfaces import Codec
from robustcodec.registry import codecs
from robustcodec.running.guided import Guided
from robustcodec.running.resolved import Part, Resolved

KEPT = 4  # bare codecs, each with what was wrapped around it


class Codecs:
    """Codecs by name, frozen and in eval mode; what is wrapped around one shares it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._by_name: dict[str, dict[str, Codec]] = {}

    def get(self, codec: str, defense: Part) -> Codec:
        """``codec`` behind ``defense``; raises :class:`UserError` as the registries do."""
        around = self._by_name.get(codec)
        if around is None:
            around = {"none": self._ready(codecs.build(codec))}
            while len(self._by_name) >= KEPT:
                self._by_name.pop(next(iter(self._by_name)))
            self._by_name[codec] = around
        if defense.text not in around:
            around[defense.text] = self._ready(defense.built.wrap(around["none"]))
        return around[defense.text]

    def evaluated(self, cell: Resolved) -> Codec:
        """What the cell measures."""
        return self.get(cell.cell.codec, cell.defense)

    def victim(self, cell: Resolved) -> Codec:
        """What the cell's attack is crafted on."""
        victim = cell.victim
        codec = self.get(victim.codec, cell.victim_defense)
        if victim.guide is None:
            return codec
        return self._ready(Guided(codec, self.get(victim.guide, Part("defense", "none"))))

    def forget(self) -> None:
        """Build all codecs anew when they are next asked for."""
        self._by_name.clear()

    def _ready(self, codec: Codec) -> Codec:
        return codec.to(self.device).eval().requires_grad_(False)
