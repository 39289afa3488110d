"""cAdv: smooth changes of colour, after Bhattad et al., ICLR 2020 (https://arxiv.org/abs/1904.06347).

The paper feeds the luminance of an image to a colourisation network and attacks the colour hints of that network. Here
the attack changes chroma directly, without a network: it adds a coarse grid of a* and b* offsets per frame, which is
interpolated bilinearly, to the clip in CIE L*a*b*, and keeps L*. The smoothness of the grid takes the place of what the
network knows about plausible colours. The published presets (Adam at 1e-5 and 2e-5) are learning rates on the inputs of
the network, which mean nothing without it, so this attack has no presets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustcodec.attacks._colour import to_lab, to_rgb
from robustcodec.attacks._published import SOFT, Adam, levelled
from robustcodec.attacks.ascent import Best, due, per_sample
from robustcodec.interfaces import Attack, Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks
from robustcodec.rounding import Crafting

START = 0.16  # of the radius


@attacks.register("cadv")
@dataclass(frozen=True)
class CAdv(Attack):
    """Smooth changes of colour at constant lightness, found by Adam on a coarse grid of chroma offsets.

    The grid has one pair of a* and b* offsets per ``cell`` × ``cell`` pixels of each frame, and Adam takes ``steps``
    steps. ``lr`` is the learning rate, as a fraction of the size at which random offsets reach the threat's radius. The
    offsets are scaled down when the change that they make is longer than the radius; under an L∞ threat the limit is
    the L2 length of a corner of its ball. Lightness changes only where a colour leaves the gamut, and when the threat
    projects and rounds to 8 bits.

    After every ``judge``-th step and after the last, the input is judged: it is projected, rounded to 8 bits and coded
    with the codec's real rounding. The best input judged is returned. ``surrogate`` says how a gradient passes the
    rounding of latents: ``annealed`` (a soft rounding that sharpens in stages), ``soft``, ``noise``,
    ``straight-through`` or ``none``.
    """

    general = False

    steps: int = 50
    lr: float = 0.5
    cell: int = 4
    judge: int = 10
    surrogate: Crafting = "annealed"

    def __post_init__(self) -> None:
        if min(self.steps, self.cell, self.judge) < 1 or not self.lr > 0:
            raise ValueError(
                f"steps={self.steps}, cell={self.cell}, judge={self.judge}, lr={self.lr}; expected at least 1 of each "
                "and a positive fraction of the radius"
            )

    def run(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Tensor:
        best, lab = Best(x), to_lab(x)
        height, width = (math.ceil(side / self.cell) for side in x.shape[-2:])
        grid = rng.normal(torch.Size((*x.shape[:2], 2, height, width))).to(x.device)
        largest = threat.radius(x).to(x.dtype)
        if threat.norm == "linf":
            largest = largest * math.sqrt(x[0].numel())

        def length(grid: Tensor) -> Tensor:
            """Of the change that ``grid`` makes, in units of the largest."""
            change = threat.confine(_recolour(x, lab, grid) - x, x)
            return per_sample(torch.linalg.vector_norm(change.flatten(1), dim=1) / largest)

        scale = 1 / length(1e-2 * grid).clamp(min=1e-6) * 1e-2  # what is small enough changes colours linearly
        grid, adam = START * scale * grid, Adam(grid, SOFT)
        for step in range(self.steps):
            oracle.progress = step / self.steps
            leaf = grid.detach().requires_grad_(True)
            with torch.enable_grad():
                coloured = _recolour(x, lab, leaf)
            _, grad = oracle.gradient(threat.project(coloured.detach(), x), self.surrogate)
            # the projection is passed as if it were not there
            (slope,) = torch.autograd.grad(coloured, leaf, threat.confine(grad, x))
            grid = grid + self.lr * scale * adam.step(-levelled(slope))
            grid = grid / length(grid).clamp(min=1)
            if due(step, self.steps, self.judge):
                best.judge(_recolour(x, lab, grid), x, oracle, threat)
        return best.x


def _recolour(x: Tensor, lab: Tensor, grid: Tensor) -> Tensor:
    """``x``, whose L*a*b* are ``lab``, with the offsets of ``grid`` ``(N, T, 2, h, w)`` added to a* and b*."""
    offsets = functional.interpolate(grid.flatten(0, 1), x.shape[-2:], mode="bilinear", align_corners=False)
    offsets = functional.pad(offsets.reshape(*x.shape[:2], 2, *x.shape[3:]), (0, 0, 0, 0, 1, 0))
    return x + to_rgb(lab + offsets) - to_rgb(lab)
