"""Networks of the rate–distortion autoencoder: 3-D residual encoder and decoder, and the scalar codebook.

Habibian et al., "Video Compression With Rate-Distortion Autoencoders", ICCV 2019
(https://arxiv.org/abs/1908.05717); trunk and quantiser after Mentzer et al., CVPR 2018
(https://arxiv.org/abs/1801.04260). Clips are ``(B, 3, T, H, W)`` here, time before space as in 3-D convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from robustcodec.rounding import choose_level
from robustcodec.weights.described import count, width

Norm = Literal["none", "batch"]
Temporal = Literal["none", "prev", "gru"]
SPATIAL_STRIDE = 8
KERNEL = (3, 5, 5)  # of the strided convolutions


@dataclass(frozen=True)
class Architecture:
    """Sizes of everything: what a card calls ``architecture``."""

    width: int  # features of the trunk
    groups: int  # of three residual blocks each, before a last one
    channels: int  # of the latent
    time_strides: tuple[int, int, int]  # of the three strided convolutions
    prior_width: int
    prior_layers: int
    levels: int = 8  # of the codebook
    temporal: Temporal = "prev"  # what the prior knows of earlier latent slices
    gop: int = 8  # frames coded together, independent of all others
    norm: Norm = "none"

    def __post_init__(self) -> None:
        if len(self.time_strides) != 3 or min(self.time_strides) < 1:
            raise ValueError(f"time_strides={self.time_strides}; expected three positive numbers")
        if self.gop < 1 or self.gop % prod(self.time_strides):
            raise ValueError(f"gop={self.gop}; expected a positive multiple of {prod(self.time_strides)} frames")
        if self.levels < 2 or min(self.width, self.channels, self.prior_width, self.prior_layers) < 1:
            raise ValueError(f"{self} has a size that is too small; expected positive ones and at least 2 levels")


CONFIGS = {
    "tiny": Architecture(48, 1, 16, (1, 2, 1), prior_width=16, prior_layers=3),
    "mid": Architecture(96, 2, 24, (1, 2, 1), prior_width=32, prior_layers=4, norm="batch"),
    # sizes after the papers; depth of the prior, temporal strides and levels are not published
    "paper": Architecture(128, 5, 32, (1, 2, 2), prior_width=64, prior_layers=5, temporal="gru", gop=16, norm="batch"),
}


def stored(state: Mapping[str, Tensor]) -> dict[str, int]:
    """What the tensors of a checkpoint say of its :class:`Architecture`."""
    return {
        "width": width(state, "encoder.3.weight"),
        "groups": count(state, "encoder.6.") - 1,
        "channels": width(state, "encoder.7.weight"),
        "prior_width": width(state, "prior.hidden.weight"),
        "prior_layers": count(state, "prior.layers."),
        "levels": width(state, "codebook.centres"),
    }


def _initialise(network: nn.Module, spread: float = 1.0) -> nn.Module:
    """He initialisation of strided convolutions (https://arxiv.org/abs/1502.01852), the last one times ``spread``."""
    strided = [m for m in network if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))]  # type: ignore[attr-defined]
    for m in strided:
        inputs = m.in_channels * prod(m.kernel_size)
        if m.transposed:
            inputs //= prod(m.stride)  # an output sees only every stride-th tap
        nn.init.normal_(m.weight, std=(2 / inputs) ** 0.5 * (spread if m is strided[-1] else 1))
        if m.bias is not None:
            nn.init.zeros_(m.bias)
    return network


def _norm(kind: Norm, width: int) -> nn.Module:
    return nn.BatchNorm3d(width) if kind == "batch" else nn.Identity()


class Block(nn.Module):
    """Two 3×3×3 convolutions around a rectifier, added to the input; starts as the identity without a norm."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        last = nn.Conv3d(width, width, 3, padding=1, bias=bias)
        self.body = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1, bias=bias), _norm(norm, width), nn.ReLU(), last, _norm(norm, width)
        )
        if norm == "none":
            nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class Skip(nn.Sequential):
    """Modules in sequence, with the input added to their output."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)  # type: ignore[no-any-return, no-untyped-call]


def _trunk(a: Architecture) -> nn.Module:
    groups = [Skip(*(Block(a.width, a.norm) for _ in range(3))) for _ in range(a.groups)]
    return Skip(*groups, Block(a.width, a.norm))


def encoder(a: Architecture) -> nn.Module:
    """``(B, 3, T, H, W)`` in [0, 1] → latent ``(B, channels, T / stride, H / 8, W / 8)``."""

    def down(inputs: int, outputs: int, time_stride: int) -> nn.Conv3d:
        return nn.Conv3d(inputs, outputs, KERNEL, stride=(time_stride, 2, 2), padding=(1, 2, 2))

    first, second, third = a.time_strides
    half = a.width // 2
    network = nn.Sequential(
        down(3, half, first),
        _norm(a.norm, half),
        nn.ReLU(),
        down(half, a.width, second),
        _norm(a.norm, a.width),
        nn.ReLU(),
        _trunk(a),
        down(a.width, a.channels, third),
    )
    return _initialise(network, spread=0.4)  # latents spread over the codebook


def decoder(a: Architecture) -> nn.Module:
    """The mirror image of :func:`encoder`; its output is not clamped."""

    def up(inputs: int, outputs: int, time_stride: int) -> nn.ConvTranspose3d:
        # a kernel of 4 doubles the length of time exactly and treats even and odd frames alike
        time_kernel = KERNEL[0] if time_stride == 1 else 4
        return nn.ConvTranspose3d(
            inputs,
            outputs,
            (time_kernel, *KERNEL[1:]),
            stride=(time_stride, 2, 2),
            padding=(1, 2, 2),
            output_padding=(0, 1, 1),
        )

    first, second, third = a.time_strides
    half = a.width // 2
    network = nn.Sequential(
        up(a.channels, a.width, third),
        _norm(a.norm, a.width),
        nn.ReLU(),
        _trunk(a),
        up(a.width, half, second),
        _norm(a.norm, half),
        nn.ReLU(),
        up(half, 3, first),
    )
    return _initialise(network, spread=0.05)


class Codebook(nn.Module):
    """Scalar centres shared by all channels; soft assignment by distance, hard in value.

    Centres start one apart, where ``softmax(-(z - c)²)`` averages them to ``z`` itself almost exactly, so the soft
    value has slope 1 within the range of the centres.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.arange(levels) - (levels - 1) / 2)

    def forward(self, z: Tensor) -> Tensor:
        """Assignment ``(…, levels)`` of ``z`` to the centres: one-hot in value, its gradient that of the softmax."""
        return choose_level(torch.softmax(-(z.float()[..., None] - self.centres).square(), -1))

    def symbols(self, z: Tensor) -> Tensor:
        """Index of the nearest centre, int64, like ``z``: what :meth:`forward` assigns to."""
        return torch.softmax(-(z.float()[..., None] - self.centres).square(), -1).argmax(-1)

    def values(self, assignment: Tensor) -> Tensor:
        """Centres chosen by ``assignment``."""
        return assignment @ self.centres
