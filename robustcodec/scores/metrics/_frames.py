"""Scores of single frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustcodec.scores.metrics.pixels import difference


def frame_mean(score: Callable[[Tensor, Tensor], Tensor], reference: Tensor, test: Tensor) -> Tensor:
    """``score`` of frames ``(1, 3, H, W)``, averaged over T. One at a time: a clip's feature maps fill a memory."""
    difference(reference, test)
    pairs = zip(reference.flatten(0, 1), test.flatten(0, 1), strict=True)
    return torch.stack([score(r[None], s[None]) for r, s in pairs]).view(reference.shape[:2]).mean(1)
