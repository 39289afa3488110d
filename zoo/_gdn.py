"""Generalised divisive normalisation (Ballé et al., 2016, https://arxiv.org/abs/1511.06281), kept in one precision.

CompressAI's layer squares in float32 under autocast and multiplies float32 by bfloat16, which costs more than
the convolutions around it. Parameters and values in float32 are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from compressai.layers import GDN
from torch import Tensor, nn

PIXELS = 1024  # normalised together on a CPU


class SteadyGDN(GDN):  # type: ignore[misc]
    """GDN whose arithmetic stays in the precision of its input, in one cheap autograd function."""

    def _get_name(self) -> str:
        return "IGDN" if self.inverse else "GDN"

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            # not kept between forwards: it costs 30 microseconds, and writing through .data leaves no trace by which a
            # cache could tell that it is out of date
            beta = self.beta_reparam(self.beta).to(x.dtype)
            gamma = self.gamma_reparam(self.gamma).to(x.dtype)
            if torch.is_grad_enabled() and any(t.requires_grad for t in (x, gamma, beta)):
                return _Normalise.apply(x, gamma, beta, self.inverse)  # type: ignore[no-any-return]
            return _normalised(x, gamma, beta, self.inverse)


def _normalised(x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool) -> Tensor:
    """What :class:`_Normalise` gives, to the bit, of ``x`` and one tensor like it alone."""
    y = torch.empty_like(x, memory_format=torch.channels_last)
    for x_, y_ in _blocks(x, y, pixels=PIXELS * torch.get_num_threads()):
        torch.addmm(beta, x_.square(), gamma.t(), out=y_)
        (y_.sqrt_() if inverse else y_.pow_(-0.5)).mul_(x_)
    return y


def _plain(x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool) -> Tensor:
    norm = F.conv2d(x * x, gamma[:, :, None, None], beta)
    return x * (norm.sqrt() if inverse else norm.rsqrt())


class _Normalise(torch.autograd.Function):
    """``y = x s``, ``s = (beta + gamma x²)^-½`` (inverse: ``^½``).

    With ``h = g x s³`` (inverse: ``g x / s``) a gradient ``g`` of ``y`` becomes ``g s ∓ x gammaᵀh`` of ``x``, and
    summed over pixels ``∓½ h`` of ``beta`` and ``∓½ h (x²)ᵀ`` of ``gamma``, if they are asked for; the lower signs are
    of the inverse. Computed some pixels at a time, by the cheapest spelling: CPUs square and raise to -½ faster than
    they multiply and take ``rsqrt``, twice as fast in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, inverse: bool) -> Tensor:
        s, y = (torch.empty_like(x, memory_format=torch.channels_last) for _ in range(2))
        for x_, s_, y_ in _blocks(x, s, y):
            torch.addmm(beta, x_.square(), gamma.t(), out=s_)
            torch.mul(x_, s_.sqrt_() if inverse else s_.pow_(-0.5), out=y_)
        ctx.inverse = inverse
        ctx.save_for_backward(x, s, gamma, beta)  # not y: residual blocks add to it in place
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, s, gamma, beta = ctx.saved_tensors
        wanted, sign = ctx.needs_input_grad, 1 if ctx.inverse else -1
        with torch.autocast(x.device.type, enabled=False):
            if torch.is_grad_enabled():  # the gradient will be differentiated again
                asked = [t for t, want in zip((x, gamma, beta), wanted[:3], strict=True) if want]
                again = iter(torch.autograd.grad(_plain(x, gamma, beta, ctx.inverse), asked, grad, create_graph=True))
                return *(next(again) if want else None for want in wanted[:3]), None
            out = torch.empty_like(s)
            of_gamma, of_beta = (
                torch.zeros_like(p) if want else None for p, want in zip((gamma, beta), wanted[1:3], strict=True)
            )
            for g_, x_, s_, out_ in _blocks(grad, x, s, out):
                torch.mul(g_, s_, out=out_)
                h = (g_ * x_).div_(s_) if ctx.inverse else (out_ * x_).mul_(s_.square())
                out_.addcmul_(x_, h @ gamma, value=sign)
                if of_gamma is not None:
                    of_gamma.addmm_(h.t(), x_.square(), alpha=sign / 2)
                if of_beta is not None:
                    of_beta.add_(h.sum(0), alpha=sign / 2)
            return out, of_gamma, of_beta, None


def _blocks(*clips: Tensor, pixels: int = PIXELS) -> Iterator[tuple[Tensor, ...]]:
    """The same pixels of each clip, ``(pixels, C)``, few enough to stay in a CPU's cache; views if channels-last.

    All of them at once elsewhere, and in bfloat16, where starting a product costs more than memory does.
    """
    rows = [clip.permute(0, 2, 3, 1).reshape(-1, clip.shape[1]) for clip in clips]
    cached = rows[0].device.type == "cpu" and rows[0].dtype != torch.bfloat16
    return zip(*(torch.split(r, pixels if cached else max(len(r), 1)) for r in rows), strict=True)


def steady(net: nn.Module) -> nn.Module:
    """``net`` with every GDN layer computed by :class:`SteadyGDN`; its state dict is unchanged."""
    for module in net.modules():
        if type(module) is GDN:
            module.__class__ = SteadyGDN
    return net
