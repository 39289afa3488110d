"""CompressAI's networks, small and random, and smooth clips for them.

Fresh random networks have latents that all round to zero. :func:`lively` scales the last layers so that latents have
a spread of about 3 and probabilities of about that width.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcodec.registry import codecs


def clip(n: int, t: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth noise (N, T, 3, H, W)."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n * t, 3, height // 8 + 2, width // 8 + 2, generator=rng)
    fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    return fine.unflatten(0, (n, t))  # type: ignore[no-untyped-call, no-any-return]


def last_conv(module: nn.Module) -> Any:
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))][-1]


@cache
def lively(name: str) -> Any:
    """A tiny random codec whose latents, side information, probabilities and pictures are not degenerate."""
    codec: Any = codecs.build(f"{name}:weights=random")
    net, frames = codec.net, clip(2, 1, 128, 128, seed=9)[:, 0]
    hyper = net.latent_codec.hyper if hasattr(net, "latent_codec") else net
    with torch.no_grad():
        analysis = [m for m in net.g_a.children() if isinstance(m, nn.Conv2d)][-1]  # before an attention block, if any
        for _ in range(3):
            analysis.weight *= 3 / net.g_a(frames).std()
        if hasattr(hyper, "h_a"):
            last_conv(hyper.h_a).weight *= 3 / hyper.h_a(net.g_a(frames)).std()
        heads = [
            m for n, m in net.named_modules() if n.endswith("entropy_parameters") and not isinstance(m, nn.Identity)
        ]
        for head in heads or ([hyper.h_s] if hasattr(hyper, "h_s") else []):
            last_conv(head).weight *= 2
            halves = last_conv(head).bias.chunk(1 if name.startswith("bmshj2018") else 2)
            halves[-1 if name == "elic2022-chandelier" else 0].add_(3)  # the scales
        last_conv(net.g_s).bias += 0.5
        if hasattr(net, "scale_to_context"):
            net.scale_to_context.weight *= 5
    codec.refresh()
    return codec
