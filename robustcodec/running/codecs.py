"""Codecs ready to be judged and attacked, on one device: the last few are kept, and their weights are held once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustcodec.coding import ready, wrapped
from robustcodec.interfaces import Codec
from robustcodec.oracle import Ensemble
from robustcodec.registry import codecs
from robustcodec.running.guided import Guided
from robustcodec.running.resolved import Part, Resolved

KEPT = 4  # bare codecs at least, each with what was wrapped around it


class Codecs:
    """Codecs by name, frozen and in eval mode. What is wrapped around one shares it, but for a defense that changes the
    codec that it wraps: nobody else meets that one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._by_name: dict[str, dict[str, Codec]] = {}
        self._kept = KEPT

    def get(self, codec: str, defense: Part) -> Codec:
        """``codec`` behind ``defense``; raises :class:`UserError` as the registries do."""
        around = self._around(codec)
        if defense.text not in around:
            bare = around["none"]
            before = _contents(bare)
            behind = ready(wrapped(bare, defense.built, defense.text), self.device)
            if not _same(before, _contents(bare)):  # it is this defense's own from now on
                around = self._by_name[codec] = {}
            around[defense.text] = behind
        return around[defense.text]

    def evaluated(self, cell: Resolved) -> Codec:
        """What the cell measures."""
        codec = self.get(cell.cell.codec, cell.defense)
        cell.check_codecs()  # only now: they were read after the cell was identified
        return codec

    def victim(self, cell: Resolved) -> Codec:
        """What the cell's attack is crafted on."""
        victim = cell.victim
        self._kept = max(self._kept, len(victim.codecs) + 1)  # it is asked for with every batch
        several = [self.get(codec, cell.victim_defense) for codec in victim.codecs]
        codec = several[0] if len(several) == 1 else ready(Ensemble(several), self.device)
        if victim.guide is not None:
            codec = ready(Guided(codec, self.get(victim.guide, Part("defense", "none"))), self.device)
        cell.check_codecs()
        return codec

    def forget(self) -> None:
        """Build all codecs anew when they are next asked for."""
        self._by_name.clear()

    def _around(self, codec: str) -> dict[str, Codec]:
        """By defense, what is kept around ``codec``; the bare one among it, built if it is not there."""
        around = self._by_name.setdefault(codec, {})
        if "none" not in around:
            around["none"] = ready(codecs.build(codec), self.device)
        while len(self._by_name) > self._kept:
            self._by_name.pop(next(iter(self._by_name)))
        return around


def _contents(codec: Codec) -> tuple[list[Any], dict[str, Tensor]]:
    """What would make another codec of it: its card, hooks and methods hung onto its modules, and its weights."""
    attached = [
        (
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            {name: value for name, value in vars(module).items() if callable(getattr(type(module), name, None))},
        )
        for module in codec.modules()
    ]
    return [codec.card, *attached], {name: tensor.clone() for name, tensor in codec.state_dict().items()}


def _same(one: tuple[list[Any], dict[str, Tensor]], other: tuple[list[Any], dict[str, Tensor]]) -> bool:
    (attached, weights), (attached_too, weights_too) = one, other
    if attached != attached_too or weights.keys() != weights_too.keys():
        return False
    return all(torch.equal(weights[name], weights_too[name]) for name in weights)
