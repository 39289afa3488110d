"""Geometric self-ensemble (Chen & Ma, TCSVT 2023, https://arxiv.org/abs/2112.08691).

The encoder codes flips and rotations of a clip and sends the one that its codec reconstructs best; the decoder turns it
back. The published code does not count the 3 bits that name the view; here they are a byte of the stream.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from robustcodec.defenses._criterion import LMBDA, Criterion, Rule, cheapest, soft_shares
from robustcodec.defenses._moves import View, read_index
from robustcodec.defenses.wrapping import Change, Step, StepwiseCodec
from robustcodec.interfaces import Codec, Defense, Output
from robustcodec.registry import defenses
from robustcodec.rounding import choices_are_soft


@defenses.register("self-ensemble")
@dataclass(frozen=True)
class SelfEnsemble(Defense):
    """Codes several flips and rotations of each clip and sends the best one, which the decoder turns back.

    ``views``: 1, 2 (as it is, and mirrored), 4 (both also upside down) or 8 (all four also transposed); or a list such
    as ``0;3;5``, in which bit 0 of a number mirrors, bit 1 turns upside down, and bit 2 then transposes. ``criterion``:
    the best view has the smallest MSE between itself and its reconstruction (``own-input``), the fewest ``bits``, or
    the least bits per pixel + ``lmbda`` · 255² · MSE (``rd``). ``lmbda`` (positive) counts for ``rd`` alone.
    """

    views: int | str = 8
    neutral = MappingProxyType({"criterion": "own-input", "lmbda": LMBDA})
    criterion: Rule = "own-input"
    lmbda: float = LMBDA

    def __post_init__(self) -> None:
        if self.lmbda <= 0:
            raise ValueError(f"lmbda={self.lmbda}; expected a positive weight of the distortion")
        if self.lmbda != LMBDA and self.criterion != "rd":
            raise ValueError(f"lmbda={self.lmbda} has no meaning for criterion={self.criterion}; use criterion=rd")
        _ = self.indices

    @property
    def indices(self) -> tuple[int, ...]:
        """The views, in the order in which they are preferred where they are equally good."""
        if isinstance(self.views, int) and self.views in (1, 2, 4, 8):
            return tuple(range(self.views))
        text = str(self.views)
        indices = tuple(map(int, text.split(";"))) if re.fullmatch(r"[0-7](;[0-7])+", text) else ()
        if not indices or len(set(indices)) != len(indices):
            raise ValueError(f"views={text}; expected 1, 2, 4 or 8, or different views from 0 to 7 such as 0;3;5")
        return indices

    def wrap(self, codec: Codec) -> Codec:
        return SelfEnsembleCodec(codec, self.indices, Criterion(self.criterion, self.lmbda))


class SelfEnsembleCodec(StepwiseCodec):
    """Codes each sample in its best view; one byte in front of the inner stream names it. Gradients go through the
    chosen view only; the choice itself has none. Under annealed rounding the choice is soft: pictures and bits are
    means over the views, weighted by what each costs, so that an attack meets the views that it might drive the choice
    to.
    """

    side = "view"

    def __init__(self, inner: Codec, views: Sequence[int], criterion: Criterion) -> None:
        super().__init__(inner, "self-ensemble", fixed=len(views) == 1)
        self.views, self.criterion = [View(k) for k in views], criterion

    def forward(self, x: Tensor) -> Output:
        return self._softly(x) if choices_are_soft() else super().forward(x)

    def _softly(self, x: Tensor) -> Output:
        moved = [view.apply(x) for view in self.views]
        outs: list[Output] = [self.inner(clips) for clips in moved]
        costs = [self.criterion.of(out, clips, 1) for out, clips in zip(outs, moved, strict=True)]
        shares = soft_shares(torch.stack(costs, 1))

        def x_hat() -> Tensor:
            shown = torch.stack([view.undo(out.x_hat) for view, out in zip(self.views, outs, strict=True)], 1)
            return torch.einsum("nk,nktchw->ntchw", shares, shown)

        return Output(x_hat, lambda: (shares * torch.stack([out.bits for out in outs], 1)).sum(1) + 8)

    def steps(self, x: Tensor, real: bool) -> list[Step]:
        chosen = [self.views[i] for i in self.choose(x, real)]
        return [Step(rows, view.apply, view.undo, view.pack()) for view, rows in self.alike(chosen)]

    def read(self, stream: bytes) -> tuple[int, Change]:
        return 1, View(read_index(stream, [view.k for view in self.views], "view")).undo

    def choose(self, x: Tensor, real: bool) -> list[int]:
        """The best view of each sample of ``x`` ``(N, T, 3, H, W)``, by its place in the list of views."""
        costs = [self.criterion.cost(self.inner, view.apply(x), 1, real) for view in self.views]
        return cheapest(torch.stack(costs, dim=1))
