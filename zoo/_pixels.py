"""Layers that change the resolution, in forms that CPUs like, above all those next to the pixels: a strided convolution
of three channels and its transpose.

Their libraries compute a transposed convolution to three channels at a third of their speed. As a convolution to the
four phases of every pixel, shuffled together, it is the same sum in another order (sub-pixel convolution, Shi et al.,
2016, https://arxiv.org/abs/1609.05158). It makes the picture in the synthesis, and in the analysis the gradient to it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustcodec.zoo._upsampling import Upsampling

COLOURS = 3
FORM = {"kernel_size": (5, 5), "stride": (2, 2), "padding": (2, 2), "dilation": (1, 1), "groups": 1}


class FromPixels(nn.Conv2d):
    """The first layer of an analysis; frozen, its gradient to the input is :func:`to_pixels`."""

    def _get_name(self) -> str:
        return "Conv2d"

    def forward(self, x: Tensor) -> Tensor:
        even = x.shape[-2] % 2 == x.shape[-1] % 2 == 0
        if x.device.type != "cpu" or self.weight.requires_grad or not even:
            return super().forward(x)
        return _Analysed.apply(x, self.weight, self.bias)  # type: ignore[no-any-return]


class ToPixels(Upsampling):
    """The last layer of a synthesis."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.device.type != "cpu" or self.training or output_size is not None:
            return super().forward(x, output_size)
        return to_pixels(x, self.weight, self.bias)


def to_pixels(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1)`` with a kernel of 5 × 5.

    Value ``2 i + a`` of the result is the sum over ``d`` of ``x[i + d] · weight[a + 2 - 2 d]``.
    """
    inputs, outputs = weight.shape[:2]
    taps = F.pad(weight, (0, 1, 0, 1)).view(inputs, outputs, 3, 2, 3, 2).flip(2, 4)
    phases = taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
    kernel = phases.contiguous(memory_format=torch.channels_last)
    each = None if bias is None else bias.repeat_interleave(4)
    # whoever asks for a gradient may take a view of it
    return F.pixel_shuffle(F.conv2d(x, kernel, each, padding=1), 2).contiguous()


class _Analysed(torch.autograd.Function):
    """A strided convolution with frozen weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.dtype = x.dtype
        return F.conv2d(x, weight, bias, stride=2, padding=2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            return to_pixels(grad, weight.to(grad.dtype)).to(ctx.dtype), None, None


def resampled_quickly(net: nn.Module) -> nn.Module:
    """``net`` with such layers computed by :class:`FromPixels`, :class:`ToPixels` and, where they are trained,
    :class:`Upsampling`; its state dict is unchanged.
    """
    for module in net.modules():
        if type(module) not in (nn.Conv2d, nn.ConvTranspose2d) or module.padding_mode != "zeros":
            continue
        near = all(getattr(module, name) == value for name, value in FORM.items())
        if type(module) is nn.ConvTranspose2d:
            last = near and (module.out_channels, module.output_padding) == (COLOURS, (1, 1))
            module.__class__ = ToPixels if last else Upsampling
        elif near and module.in_channels == COLOURS:
            module.__class__ = FromPixels
    return net
