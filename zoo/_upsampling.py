"""Transposed convolutions whose gradients CPUs compute as those of the convolution that they transpose.

With the library's own gradients a layer's step takes longer (`python benchmarks/upsampling.py`). Both are the same
sums: a transposed convolution of ``x`` is the gradient of a convolution to its input, so the gradient of its
weights is that of the convolution of ``grad`` whose output has the gradient ``x``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Upsampling(nn.ConvTranspose2d):
    """A transposed convolution that is trained quickly on a CPU; frozen or elsewhere it is torch's."""

    def _get_name(self) -> str:
        return "ConvTranspose2d"

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        trained = torch.is_grad_enabled() and self.weight.requires_grad
        if x.device.type != "cpu" or not trained or output_size is not None or x.ndim != 4:
            return super().forward(x, output_size)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        form = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        y: Tensor = _Transposed.apply(x, weight, form)
        return y if bias is None else y + bias[:, None, None]


class _Transposed(torch.autograd.Function):
    """``conv_transpose2d(x, weight)`` with stride, padding, output padding, groups and dilation of ``form``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, form: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.form = form
        stride, padding, extra, groups, dilation = form
        return F.conv_transpose2d(x, weight, None, stride, padding, extra, groups, dilation)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, _, groups, dilation = ctx.form
        of_x = of_weight = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                of_x = F.conv2d(grad, weight, None, stride, padding, dilation, groups)
            if ctx.needs_input_grad[1]:
                form = stride, padding, dilation, False, (0, 0), groups
                of_weight = torch.ops.aten.convolution_backward(x, grad, weight, None, *form, (False, True, False))[1]
        return of_x, of_weight, None
