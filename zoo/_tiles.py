"""Analysis and synthesis of large pictures, tile by tile: memory grows with the tile and not with the picture.

Convolutions look only so far. A tile that is computed with so much more around it, its halo, is what the whole picture
gives there: the same sums, which a kernel chosen for another size may add in another order (a bit or two of float32).
How far a network looks is measured. One that sees all of a picture, or that counts places from its corner (windows of
attention), runs whole.

Tiles follow from the size of a picture alone, so that forward, encoder and decoder go the same way on any machine.
Where gradients are wanted a tile keeps only its input, and is computed again on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustcodec.memory.tiling import limits
from robustcodec.zoo._exchanged import exchange

ANALYSIS, SYNTHESIS = "g_a", "g_s"  # pixels to latents and back, as CompressAI calls them
COARSEST = 32  # pixels along a latent, at most, of what is computed in tiles
PROBES = (16, 32, 64)  # latents along the picture that shows how far a network looks
CLOSE = 1e-4  # of the largest value: what tiles may differ from the whole of a probe

Network = Callable[[Tensor], Tensor]


def in_tiles(net: nn.Module) -> nn.Module:
    """``net`` with the classes of its analysis and synthesis exchanged for ones that compute a large picture in tiles
    in eval mode; its state dict is unchanged.
    """
    bases = {ANALYSIS: _Analysis, SYNTHESIS: _Synthesis}
    for name, part in [*net.named_modules()]:
        base = bases.get(name.rpartition(".")[2])
        if base is not None and not isinstance(part, _InTiles):
            exchange(part, base)
    return net


class Reach(NamedTuple):
    """What computing in tiles needs to know: so many pixels of input and of output are along a latent, and so many
    latents around one, ``halo``, belong to the same sums.
    """

    input: int
    output: int
    halo: int


class _InTiles(nn.Module):
    finest: int  # pixels along a place of the input, at most
    probe: int  # places along an input of which every network takes as many

    def forward(self, x: Tensor) -> Tensor:
        whole: Network = super().forward
        at_once, side = limits()
        places = x.shape[0] * x.shape[-2] * x.shape[-1]
        if self.training or places * self.finest**2 <= at_once or _watched(self):
            return whole(x)
        if "_reach" not in self.__dict__:  # beside the registered modules: it is no part of the state
            self.__dict__["_reach"] = reach(whole, x, self.probe)
        found: Reach | None = self.__dict__["_reach"]
        if found is None or places * found.output**2 <= at_once or any(n % found.input for n in x.shape[-2:]):
            return whole(x)
        return tiled(whole, x, found, max(1, side // max(found.input, found.output)))


class _Analysis(_InTiles):
    finest, probe = 1, 2 * COARSEST


class _Synthesis(_InTiles):
    finest, probe = COARSEST, 4


@torch.no_grad()
def reach(network: Network, like: Tensor, probe: int) -> Reach | None:
    """How ``network`` can be computed in tiles, or None if it cannot; ``probe``: places along an input that it takes.

    A value that is no number, put into the middle of a picture, spreads to all that depends on it, whatever the
    weights are.
    """
    seen = network(_blank(like, probe))
    sides = {seen.shape[-2], seen.shape[-1]}
    if seen.ndim != 4 or len(sides) != 1 or max(side := sides.pop(), probe) % min(side, probe):
        return None
    into, out = max(1, probe // side), max(1, side // probe)
    for latents in PROBES:
        middle, blank = latents // 2, _blank(like, latents * into)
        blank[..., middle * into : (middle + 1) * into, middle * into : (middle + 1) * into] = torch.nan
        spread = network(blank).isnan()[0].any(0)
        places = torch.cat([spread.any(side).nonzero().flatten() for side in (0, 1)]) // out
        halo = int((places - middle).abs().max())
        if halo < middle - 1:
            found = Reach(into, out, halo)
            return found if _same(network, like, found) else None
    return None


def tiled(network: Network, x: Tensor, reach: Reach, most: int) -> Tensor:
    """``network(x)`` of ``(B, C, H, W)``, frame by frame, in tiles of at most ``most`` latents along a side."""
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format

    latents = x.shape[-2] // reach.input, x.shape[-1] // reach.input

    def tile(frame: Tensor, rows: slice, columns: slice) -> Tensor:
        (high, top), (wide, left) = (
            _around(span, length // reach.input, reach)
            for span, length in ((rows, x.shape[-2]), (columns, x.shape[-1]))
        )

        def computed(part: Tensor) -> Tensor:
            return network(part.contiguous(memory_format=layout))[..., top, left]

        part = frame[..., high, wide]
        if torch.is_grad_enabled():
            return checkpoint(computed, part, use_reentrant=False)
        return computed(part)

    def row(frame: Tensor, rows: slice) -> Tensor:
        return torch.cat([tile(frame, rows, columns) for columns in _spans(latents[1], most)], -1)

    frames = [torch.cat([row(frame, rows) for rows in _spans(latents[0], most)], -2) for frame in torch.split(x, 1)]
    return torch.cat(frames) if len(frames) > 1 else frames[0]


def _spans(length: int, most: int) -> Iterator[slice]:
    """``length`` in the fewest parts of at most ``most``, as equal as can be."""
    parts = -(-length // most)
    for k in range(parts):
        yield slice(length * k // parts, length * (k + 1) // parts)


def _around(span: slice, length: int, reach: Reach) -> tuple[slice, slice]:
    """Where latents ``span`` of ``length`` with their halo lie in the input, and they themselves in its output."""
    first, last = max(0, span.start - reach.halo), min(length, span.stop + reach.halo)
    inner = slice((span.start - first) * reach.output, (span.stop - first) * reach.output)
    return slice(first * reach.input, last * reach.input), inner


def _blank(like: Tensor, side: int) -> Tensor:
    layout = torch.channels_last if like.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return like.new_zeros(1, like.shape[1], side, side).contiguous(memory_format=layout)


def _same(network: Network, like: Tensor, reach: Reach) -> bool:
    """Whether tiles give what the whole does, at odd places of a picture of many of them."""
    side = (2 * reach.halo + 11) * reach.input
    picture = _blank(like, side).copy_(torch.linspace(0, 40, side * side).sin().view(side, side))
    whole = network(picture)
    return bool((tiled(network, picture, reach, 5) - whole).abs().max() <= CLOSE * whole.abs().max())


def _watched(part: nn.Module) -> bool:
    """Whether somebody looks into its layers, who expects whole pictures there."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in part.modules())
