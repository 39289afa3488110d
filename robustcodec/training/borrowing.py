"""Weights of another codec as a beginning: a new entropy model around transforms that are trained already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from robustcodec.errors import UserError
from robustcodec.interfaces import Card, Codec
from robustcodec.registry import codecs


@dataclass(frozen=True)
class Borrowed:
    """What a codec has of ``lender``; ``parameters``: those of it that the loss trains."""

    parameters: tuple[nn.Parameter, ...]
    lender: Card
    note: str

    def hold(self, still: bool) -> None:
        """Train none of them while ``still``."""
        for p in self.parameters:
            p.requires_grad_(not still)


@torch.no_grad()
def borrow(codec: Codec, spec: str, only: Sequence[str] | None = None) -> Borrowed:
    """Give ``codec`` the values of the trained codec ``spec`` wherever both have a tensor of one name and shape.

    ``only``: parts of dotted names, such as ``g_a``, one of which a tensor's name must have. Raises :class:`UserError`
    if there is none, and what building ``spec`` raises.
    """
    lender: Codec = codecs.build(spec)
    theirs, own = dict(lender.named_parameters()), dict(codec.named_parameters())
    asked = [name for name in own if only is None or not {*only}.isdisjoint(name.split("."))]
    shared = [name for name in asked if name in theirs and theirs[name].shape == own[name].shape]
    if not shared:
        wanted = "" if only is None else f" in {', '.join(only)}"
        raise UserError(
            f"{codec.card.name} has no tensor of the name and shape of one of {spec}{wanted}; give a codec with the "
            f"same transforms and widths (robustcodec show lists widths). Its parts: {', '.join(_parts(own))}"
        )
    for name in shared:
        own[name].copy_(theirs[name])
    codec.refresh()
    aside = {id(p) for p in codec.aux_parameters()}  # the auxiliary loss goes on with them
    note = f"began with {len(shared)} of its {len(own)} tensors from {lender.card.name}"
    return Borrowed(tuple(own[name] for name in shared if id(own[name]) not in aside), lender.card, note)


def _parts(names: Iterable[str]) -> list[str]:
    """The networks that dotted names of a codec's tensors belong to."""
    return sorted({name.removeprefix("net.").split(".")[0] for name in names})
