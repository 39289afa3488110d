"""Codecs ready to be judged and attacked, on one device: the last few are kept, and their weights are held once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from robustcodec.coding import ready
from robustcodec.errors import RobustCodecError
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
        """``codec`` behind ``defense``; raises :class:`UserError` as the registries do, and :class:`RobustCodecError`
        for a defense that changes the codec that it wraps.
        """
        around = self._by_name.get(codec)
        if around is None:
            around = {"none": ready(codecs.build(codec), self.device)}
            while len(self._by_name) >= KEPT:
                self._by_name.pop(next(iter(self._by_name)))
            self._by_name[codec] = around
        if defense.text not in around:
            with self._shared(codec, defense):
                around[defense.text] = ready(defense.built.wrap(around["none"]), self.device)
        return around[defense.text]

    def evaluated(self, cell: Resolved) -> Codec:
        """What the cell measures."""
        codec = self.get(cell.cell.codec, cell.defense)
        cell.check_codecs()  # only now: they were read after the cell was identified
        return codec

    def victim(self, cell: Resolved) -> Codec:
        """What the cell's attack is crafted on."""
        victim = cell.victim
        codec = self.get(victim.codec, cell.victim_defense)
        if victim.guide is not None:
            codec = ready(Guided(codec, self.get(victim.guide, Part("defense", "none"))), self.device)
        cell.check_codecs()
        return codec

    def forget(self) -> None:
        """Build all codecs anew when they are next asked for."""
        self._by_name.clear()

    @contextmanager
    def _shared(self, codec: str, defense: Part) -> Iterator[None]:
        """Inside, the bare codec must stay as it is: numbers of others that share it would be wrong, and look right."""
        bare = self._by_name[codec]["none"]
        before, weights = _attached(bare), {name: tensor.clone() for name, tensor in bare.state_dict().items()}
        yield
        after = bare.state_dict()
        same = after.keys() == weights.keys() and all(torch.equal(after[name], weights[name]) for name in weights)
        if not same or _attached(bare) != before:
            del self._by_name[codec]
            raise RobustCodecError(
                f"{defense.text} changed the codec that it wraps (its weights, hooks, methods or card), which others "
                "share; a defense gives another codec around it (robustcodec.defenses.wrapping)"
            )


def _attached(codec: Codec) -> list[Any]:
    """What can be hung onto a codec from outside: its card, and hooks and methods of each of its modules."""
    return [
        codec.card,
        *(
            (
                len(module._forward_hooks),
                len(module._forward_pre_hooks),
                {name: value for name, value in vars(module).items() if callable(getattr(type(module), name, None))},
            )
            for module in codec.modules()
        ),
    ]
