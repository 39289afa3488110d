"""Small networks of the shapes that papers since 2022 have, written as their authors write them: on CompressAI's
entropy models, with their own loops over channel slices or windows, their own coder calls, and ``ste_round``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from compressai.models.utils import conv, deconv
from torch import Tensor, nn


def ste_round(x: Tensor) -> Tensor:
    return torch.round(x) - x.detach() + x


def lively(net: Any, spread: float = 3.0) -> Any:
    """``net`` with latents of such a spread: those of fresh random weights all round to zero."""
    with torch.no_grad():
        coarse = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(9))
        frames = F.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1)
        last = [m for m in net.g_a.modules() if isinstance(m, nn.Conv2d)][-1]
        last.weight *= spread / net.g_a(frames).std()
        last.weight *= spread / net.g_a(frames).std()
        shown: Any = [m for m in net.g_s.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)][-1]
        shown.bias += 0.5
    net.update(force=True)
    return net.eval()


class Slices(CompressionModel):  # type: ignore[misc]
    """Channel slices, each given those before, with residuals of the rounding (TCM, CCA, DCAE)."""

    def __init__(self, N: int = 8, M: int = 12, slices: int = 3) -> None:
        super().__init__()
        self.M, self.slices, each = M, slices, M // slices
        self.g_a = nn.Sequential(conv(3, N), nn.GELU(), conv(N, N), nn.GELU(), conv(N, N), nn.GELU(), conv(N, M))
        self.g_s = nn.Sequential(
            deconv(M, N), nn.GELU(), deconv(N, N), nn.GELU(), deconv(N, N), nn.GELU(), deconv(N, 3)
        )
        self.h_a = nn.Sequential(conv(M, N), nn.GELU(), conv(N, N))
        self.h_mean_s = nn.Sequential(deconv(N, N), nn.GELU(), deconv(N, M))
        self.h_scale_s = nn.Sequential(deconv(N, N), nn.GELU(), deconv(N, M))
        given = [M + k * each for k in range(slices)]
        self.cc_mean_transforms = nn.ModuleList([conv(g, each, 3, 1) for g in given])
        self.cc_scale_transforms = nn.ModuleList([conv(g, each, 3, 1) for g in given])
        self.lrp_transforms = nn.ModuleList([conv(g + each, each, 3, 1) for g in given])
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.g_a(x)
        z = self.h_a(y)
        _, z_likelihoods = self.entropy_bottleneck(z)
        offset = self.entropy_bottleneck._get_medians()
        z_hat = self.rounded(z - offset) + offset
        means, scales = self.h_mean_s(z_hat), self.h_scale_s(z_hat)
        done: list[Tensor] = []
        likelihoods = []
        for k, y_slice in enumerate(y.chunk(self.slices, 1)):
            mu, scale = self._given(k, means, scales, done)
            likelihoods.append(self.gaussian_conditional(y_slice, scale, mu)[1])
            done.append(self._refined(k, means, done, self.rounded(y_slice - mu) + mu))
        y_likelihoods = torch.cat(likelihoods, 1)
        return {"x_hat": self.g_s(torch.cat(done, 1)), "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    def rounded(self, x: Tensor) -> Tensor:
        return ste_round(x)

    def _given(self, k: int, means: Tensor, scales: Tensor, done: list[Tensor]) -> tuple[Tensor, Tensor]:
        mean_support, scale_support = torch.cat([means, *done], 1), torch.cat([scales, *done], 1)
        return self.cc_mean_transforms[k](mean_support), self.cc_scale_transforms[k](scale_support) + 4

    def _refined(self, k: int, means: Tensor, done: list[Tensor], y_hat: Tensor) -> Tensor:
        lrp: Tensor = self.lrp_transforms[k](torch.cat([means, *done, y_hat], 1))
        return y_hat + 0.5 * torch.tanh(lrp)

    def compress(self, x: Tensor) -> dict[str, Any]:
        y = self.g_a(x)
        z = self.h_a(y)
        z_strings = self.entropy_bottleneck.compress(z)
        z_hat = self.entropy_bottleneck.decompress(z_strings, z.size()[-2:])
        means, scales = self.h_mean_s(z_hat), self.h_scale_s(z_hat)
        done: list[Tensor] = []
        symbols: list[int] = []
        indexes: list[int] = []
        for k, y_slice in enumerate(y.chunk(self.slices, 1)):
            mu, scale = self._given(k, means, scales, done)
            q = self.gaussian_conditional.quantize(y_slice, "symbols", mu)
            symbols += q.reshape(-1).tolist()
            indexes += self.gaussian_conditional.build_indexes(scale).reshape(-1).tolist()
            done.append(self._refined(k, means, done, q + mu))
        encoder = BufferedRansEncoder()
        encoder.encode_with_indexes(symbols, indexes, *self._tables())
        return {"strings": [[encoder.flush()], z_strings], "shape": z.size()[-2:]}

    def _tables(self) -> tuple[Any, ...]:
        g = self.gaussian_conditional
        return g.quantized_cdf.tolist(), g.cdf_length.tolist(), g.offset.tolist()

    def decompress(self, strings: Any, shape: Any) -> dict[str, Any]:
        z_hat = self.entropy_bottleneck.decompress(strings[1], shape)
        means, scales = self.h_mean_s(z_hat), self.h_scale_s(z_hat)
        decoder = RansDecoder()
        decoder.set_stream(strings[0][0])
        done: list[Tensor] = []
        for k in range(self.slices):
            mu, scale = self._given(k, means, scales, done)
            indexes = self.gaussian_conditional.build_indexes(scale)
            values = decoder.decode_stream(indexes.reshape(-1).tolist(), *self._tables())
            q = torch.Tensor(values).reshape(mu.shape)
            done.append(self._refined(k, means, done, self.gaussian_conditional.dequantize(q, mu)))
        return {"x_hat": self.g_s(torch.cat(done, 1)).clamp_(0, 1)}


class BareSlices(Slices):
    """The same with a rounding whose gradient is zero, as a network has that was trained with noise."""

    def rounded(self, x: Tensor) -> Tensor:
        return torch.round(x)


class Windows(CompressionModel):  # type: ignore[misc]
    """Attention in windows of 4 × 4 latents that fold dimensions with ``view``, a bottleneck alone: STF's kind."""

    def __init__(self, M: int = 8, window: int = 4) -> None:
        super().__init__()
        self.window = window
        self.g_a = nn.Sequential(conv(3, M), nn.GELU(), conv(M, M))
        self.mix = nn.Linear(M, M)
        self.g_s = nn.Sequential(deconv(M, M), nn.GELU(), deconv(M, 3))
        self.entropy_bottleneck = EntropyBottleneck(M)

    def attend(self, y: Tensor) -> Tensor:
        b, c, h, w = y.shape
        k = self.window
        tokens = y.view(b, c, h * w).view(b, c, h // k, k, w // k, k).permute(0, 2, 4, 3, 5, 1).reshape(-1, k * k, c)
        tokens = tokens + torch.softmax(tokens @ tokens.transpose(1, 2), -1) @ self.mix(tokens)
        back: Tensor = tokens.view(b, h // k, w // k, k, k, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
        return back

    def forward(self, x: Tensor) -> dict[str, Any]:
        y_hat, likelihoods = self.entropy_bottleneck(self.attend(self.g_a(x)))
        return {"x_hat": self.g_s(y_hat), "likelihoods": {"y": likelihoods}, "para": None}

    def compress(self, x: Tensor) -> dict[str, Any]:
        y = self.attend(self.g_a(x))
        return {"strings": [self.entropy_bottleneck.compress(y)], "shape": y.size()[-2:], "cost_time": 0.1}

    def decompress(self, strings: Any, shape: Any) -> dict[str, Any]:
        return {"x_hat": self.g_s(self.entropy_bottleneck.decompress(strings[0], shape))}
