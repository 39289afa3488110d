"""A codec, by itself or behind a defense."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from robustcodec.interfaces import Codec, Defense


def load(codec: str | nn.Module, defense: str | Defense = "none") -> Codec:
    """A codec by name, or a network of yours as one, wrapped by a defense, in eval mode.

    ``codec``: a name, a :class:`robustcodec.interfaces.Codec`, a network like CompressAI's, or any network from picture
    to picture, which then has no bytes. Raises :class:`robustcodec.errors.UserError` for unknown names, bad
    parameters, missing weights, and what cannot be a codec.

    >>> import robustcodec, torch
    >>> codec = robustcodec.load("bmshj2018-factorized.tiny-q1", defense="flip")
    >>> (stream,) = codec.compress(torch.rand(1, 1, 3, 64, 64))  # (N, T, 3, H, W)
    >>> codec.decompress([stream]).shape
    torch.Size([1, 1, 3, 64, 64])
    """
    from robustcodec.brought.objects import named
    from robustcodec.coding import defended
    from robustcodec.execution.isolation import isolated

    with isolated():
        return defended(named("codecs", codec), named("defenses", defense))
