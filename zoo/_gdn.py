"""Generalised divisive normalisation (Ballé et al., 2016, https://arxiv.org/abs/1511.06281), kept in one precision.

CompressAI's layer squares in float32 under autocast and multiplies float32 by bfloat16, which costs more than
the convolutions around it. Parameters and values in float32 are the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn


class SteadyGDN(GDN):  # type: ignore[misc]
    """GDN whose arithmetic stays in the precision of its input."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            beta = self.beta_reparam(self.beta).to(x.dtype)
            gamma = self.gamma_reparam(self.gamma).to(x.dtype)
            norm = F.conv2d(x * x, gamma[:, :, None, None], beta)
            return x * (norm.sqrt() if self.inverse else norm.rsqrt())


def steady(net: nn.Module) -> nn.Module:
    """``net`` with every GDN layer computed by :class:`SteadyGDN`; its state dict is unchanged."""
    for module in net.modules():
        if type(module) is GDN:
            module.__class__ = SteadyGDN
    return net
