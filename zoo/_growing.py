"""A trained network in the corner of a wider one, which goes on showing what it showed.

Old outputs of a layer see new inputs with weights of zero, so the old part computes what it did; new outputs have the
weights that they were drawn with. New latents begin small, with zero biases, so that they cost few bits until training
finds a use for them. Normalisations and factorised priors keep their defaults for new channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustcodec.errors import UserError

Convolution = nn.Conv2d | nn.ConvTranspose2d
SMALL = 0.1  # times the weights that new latents are made by


def grow(old: nn.Module, new: nn.Module, latents: Sequence[tuple[str, int]]) -> None:
    """Copy the parameters of ``old`` into ``new``, a wider network of the same layers.

    ``latents``: names of the convolutions whose outputs are latents or their parameters, and how many sets of them lie
    behind each other there (scales and means: two).
    """
    sets = dict(latents)
    layers = dict(new.named_modules())
    with torch.no_grad():
        for name, layer in old.named_modules():
            wide = layers[name]
            if isinstance(layer, Convolution) and isinstance(wide, Convolution):
                _grow_convolution(layer, wide, sets.get(name))
            else:
                for key, value in layer.named_parameters(recurse=False):
                    corner = getattr(wide, key)[tuple(slice(n) for n in value.shape)]
                    corner.copy_(value)


def _grow_convolution(old: Convolution, new: Convolution, latents: int | None) -> None:
    rows, wide = _rows(old), _rows(new)
    kept = _kept(len(rows), len(wide), latents or 1)
    wide[kept] = 0
    wide[kept, : rows.shape[1]] = rows
    if latents:
        wide[~kept] *= SMALL
    if old.bias is not None and new.bias is not None:
        new.bias[kept] = old.bias
        new.bias[~kept] *= 0 if latents else 1


def _rows(layer: Convolution) -> Tensor:
    """The kernel, outputs first; a view."""
    return layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight


def _kept(old: int, new: int, sets: int) -> Tensor:
    """Which of the new outputs are the old ones: the first of each set."""
    return (torch.arange(new) % (new // sets)) < old // sets


def check_widths(family: str, old: dict[str, int], new: dict[str, int]) -> None:
    """Raises :class:`UserError` for widths that the network does not have, or that are smaller than they were."""
    known = ", ".join(f"{name}={width}" for name, width in old.items())
    if set(new) - set(old):
        raise UserError(f"{family} has no width {', '.join(sorted(set(new) - set(old)))}; it is {known} now")
    if smaller := [name for name in new if new[name] < old[name]]:
        raise UserError(f"{family} cannot shrink: {', '.join(smaller)} is smaller than now ({known})")
