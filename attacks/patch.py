"""PGD in a region of the frame: a box, a mask read from an image, or the window where the codec is weakest.

The last is the patch search of Chen & Ma, 2023 (https://arxiv.org/abs/2112.08691), who move a window of 64×64 pixels
over the picture and attack each place. Here one gradient finds the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from robustcodec.attacks.confinement import ConfinedAscent, Part
from robustcodec.errors import BadData
from robustcodec.interfaces import Draws, Sample, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks


@attacks.register("patch")
@dataclass(frozen=True)
class Patch(ConfinedAscent):
    """PGD that changes only the pixels of one region, which is the same in all frames of a clip.

    ``where=saliency`` takes the window of ``size`` × ``size`` pixels (or the whole frame, if that is smaller) in which
    the objective's gradient at a random start has the largest sum of squares; this costs one query. ``where=box`` takes
    ``box``, which is ``top;left;height;width`` in fractions of the frame. ``where=mask`` takes ``mask``, the path of an
    image that is stretched to the frame, and changes what is lighter than mid-grey in it. The budget is the threat's,
    so under an L2 threat a smaller region may change more.

    ``steps``, ``step_size``, ``decay``, ``widening``, ``momentum``, ``judge`` and ``surrogate`` are as in ``pgd``.
    Raises :class:`BadData` for a mask that cannot be read or is black everywhere.
    """

    place = "region"

    where: Literal["box", "mask", "saliency"] = "saliency"
    size: int = 64
    box: str = "0.25;0.25;0.5;0.5"
    mask: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _fractions(self.box)
        if (self.where == "mask") != bool(self.mask):
            raise ValueError(
                f"where={self.where}, mask={self.mask!r}; expected where=mask together with mask=PATH of an image"
            )
        if self.size < 1:
            raise ValueError(f"size={self.size}; expected at least 1 pixel")

    def made_on(self) -> list[Sample]:
        """The mask, so that its bytes are part of the attack's identity; raises :class:`BadData` if unreadable."""
        if self.where != "mask":
            return []
        path = Path(self.mask)
        pixels = _read_mask(path)
        return [Sample("mask", lambda: (255 * pixels.to(torch.uint8)).expand(1, 3, *pixels.shape), path)]

    def part(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Part:
        region = self._region(oracle, x, threat, rng)
        return lambda delta: delta.where(region, 0.0)

    def _region(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        """``(N, 1, 1, H, W)`` bool, N possibly 1: what may change."""
        height, width = x.shape[-2:]
        if self.where == "saliency":
            _, grad = oracle.gradient(threat.random_start(x, rng.child()), self.surrogate)
            return busiest(threat.confine(grad, x).square().sum((1, 2)), self.size)[:, None, None]
        if self.where == "box":
            region = _rectangle(_fractions(self.box), height, width)
        else:
            pixels = _read_mask(Path(self.mask))[None, None].float()
            region = torch.nn.functional.interpolate(pixels, (height, width), mode="nearest-exact")[0, 0] > 0
        return region.to(x.device)[None, None, None]


def busiest(energy: Tensor, size: int) -> Tensor:
    """``(N, H, W)`` bool: the square window, cut to the frame, with the largest sum of ``energy``, ``(N, H, W)``.

    Of equal ones the first in reading order.
    """
    high, wide = (min(size, n) for n in energy.shape[1:])
    total = torch.nn.functional.pad(energy.double(), (1, 0, 1, 0)).cumsum(1).cumsum(2)
    rows = total[:, high:] - total[:, :-high]
    sums = rows[:, :, wide:] - rows[:, :, :-wide]
    best = sums.flatten(1).argmax(1)[:, None]
    top, left = best // sums.shape[2], best % sums.shape[2]
    rows, columns = (torch.arange(n, device=energy.device) for n in energy.shape[1:])
    down, across = (rows >= top) & (rows < top + high), (columns >= left) & (columns < left + wide)
    return down[:, :, None] & across[:, None]


def _fractions(box: str) -> tuple[float, float, float, float]:
    """Top, left, height and width; raises ValueError unless they are a box inside the frame."""
    try:
        top, left, height, width = map(float, box.split(";"))
        if min(top, left) >= 0 and min(height, width) > 0 and max(top + height, left + width) <= 1 + 1e-6:
            return top, left, height, width
    except ValueError:
        pass
    raise ValueError(
        f"box={box!r}; expected top;left;height;width in fractions of the frame, inside it, such as 0.25;0.25;0.5;0.5"
    )


def _rectangle(box: tuple[float, float, float, float], height: int, width: int) -> Tensor:
    """``(height, width)`` bool: the box to the nearest whole pixels, at least one."""
    top, left, high, wide = box
    first, across = min(round(top * height), height - 1), min(round(left * width), width - 1)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[
        first : max(round((top + high) * height), first + 1), across : max(round((left + wide) * width), across + 1)
    ] = True
    return inside


def _read_mask(path: Path) -> Tensor:
    """``(H, W)`` bool: where an image is lighter than mid-grey; raises :class:`BadData` if it cannot be a mask."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            inside = torch.from_numpy(np.array(image.convert("L")) > 127)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadData(
            f"mask={path} cannot be read as an image ({error}); expected a PNG, white where it may change"
        ) from None
    if not inside.any():
        raise BadData(f"mask={path} is black everywhere, so nothing may change; expected white where the attack may")
    return inside
