"""Variable-rate image codecs: one network, and a gain that scales latents before rounding (Kamisli et al., 2024,
https://arxiv.org/abs/2402.18930).

The gain travels in the stream, so the codec decodes any stream, whatever its own gain. There are versions with a scale
hyperprior, a mean-scale hyperprior and an autoregressive context. When latents are reconstructed, a small network moves
each symbol that is not zero by a learned offset.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, Literal

import torch
from compressai.entropy_models import EntropyBottleneckVbr
from compressai.models import JointAutoregressiveHierarchicalPriorsVbr, MeanScaleHyperpriorVbr, ScaleHyperpriorVbr
from compressai.zoo.image_vbr import cfgs
from torch import Tensor

from robustcodec.errors import StreamError
from robustcodec.probing import LATENTS, MEANS, SCALES, SIDE, probe
from robustcodec.registry import codecs
from robustcodec.rounding import round_latent
from robustcodec.stream import symbol_crc
from robustcodec.zoo import _entropy
from robustcodec.zoo._latent import LatentCodec
from robustcodec.zoo._pretrained import OFFICIAL_TAG
from robustcodec.zoo._raster import RasterCodec
from robustcodec.zoo.container import chain
from robustcodec.zoo.frames import Latents

LEVELS = 8
MIN_GAIN, MAX_GAIN = 2.0**-10, 8.0  # the latter is eight times finer than the finest that was trained
GAIN = struct.Struct("<f")


def _widths(family: str) -> dict[int, dict[str, int]]:
    n, m = cfgs[family]
    return {q: {"N": n, "M": m} for q in range(1, LEVELS + 1)}


class VariableRate(LatentCodec):
    """The gain, and what depends on it: the grid of the side information and the offsets of latents."""

    def __init__(
        self,
        *,
        tag: str | None = None,
        quality: int | None = None,
        metric: Literal["mse", "ms-ssim"] = "mse",
        weights: str | None = None,
        seed: int = 0,
        gain: float | None = None,
    ) -> None:
        """``quality`` (1 to 8) chooses one of the trained gains of the network; without it the last one is used, which
        gives the best picture. ``gain`` (1/1024 to 8) overrides it, and any value in between is a rate of its own.

        ``tag``, ``metric``, ``weights`` and ``seed`` say where the weights come from, as for :class:`LatentCodec`.
        """
        super().__init__(tag=tag, quality=quality, metric=metric, weights=weights, seed=seed)
        official = OFFICIAL_TAG.fullmatch(tag or "")
        level = int(official[2]) if official else quality or LEVELS
        if gain is None:
            gain = abs(float(self.net.Gain.detach()[level - 1]))
        if not MIN_GAIN <= gain <= MAX_GAIN:
            raise ValueError(f"gain={gain} is out of range; expected {MIN_GAIN:g} to {MAX_GAIN:g}")
        (self.gain,) = GAIN.unpack(GAIN.pack(gain))
        self._tables_of: float | None = None

    @classmethod
    def fingerprint(cls, **params: Any) -> str:
        return super().fingerprint(**{k: v for k, v in params.items() if k != "gain"})

    def aux_loss(self) -> Tensor | None:
        return self.net.entropy_bottleneck.loss()  # type: ignore[no-any-return]

    def state(self) -> dict[str, Tensor]:
        drop = ("_offset", "_quantized_cdf", "_cdf_length") if self._variable_side else ()
        return {k: v for k, v in super().state().items() if not k.endswith(drop)}

    def refresh(self) -> None:
        self.net.update(force=True)
        if not self._variable_side:
            self.net.entropy_bottleneck.update(force=True, update_quantiles=True)
        self._exact_modules.clear()
        self._model_id = self._tables_of = None

    def round_side(self, z: Tensor, gain: float) -> Tensor:
        """Side information on the grid that ``gain`` asks for."""
        centres, step = _entropy.medians(self.net.entropy_bottleneck, z), self._step(gain, z.device)
        return round_latent((z - centres) / step) * step + centres

    def side_bits(self, z_hat: Tensor, gain: float) -> Tensor:
        """``(B,)`` bits of the side information's part, which begins with the gain."""
        step = self._step(gain, z_hat.device) if self._variable_side else None
        return _entropy.bottleneck_bits(self.net.entropy_bottleneck, z_hat, step) + 8 * GAIN.size

    def encode_side(self, z: Tensor, gain: float) -> tuple[bytes, Tensor, int]:
        """Part, decoded side information and checksum."""
        bottleneck = self._bottleneck(gain)
        z_hat = self.round_side(z, gain)
        step = (self._step(gain, z.device),) if self._variable_side else ()
        return GAIN.pack(gain) + bottleneck.compress(z, *step)[0], z_hat, self._side_crc(z_hat, gain)

    def decode_side(self, data: bytes, height: int, width: int) -> tuple[Tensor, int, float]:
        """Side information, checksum and the gain it was coded with."""
        if len(data) <= GAIN.size or not MIN_GAIN <= (gain := GAIN.unpack_from(data)[0]) <= MAX_GAIN:
            raise StreamError(
                f"the stream names no gain from {MIN_GAIN:g} to {MAX_GAIN:g}; it was not written by this codec"
            )
        bottleneck = self._bottleneck(gain)
        step = (self._step(gain, self.net.Gain.device),) if self._variable_side else ()
        _entropy.require_room(bottleneck, data[GAIN.size :], height, width)
        z_hat = bottleneck.decompress([data[GAIN.size :]], (height, width), *step)
        return z_hat, self._side_crc(z_hat, gain), gain

    def side_steps(self, z_hat: Tensor, gain: float) -> Tensor:
        """Side information in steps of its rounding."""
        return z_hat / self._step(gain, z_hat.device)

    def dequantise(self, symbols: Tensor, scales: Tensor, means: Tensor | None, gain: float) -> Tensor:
        """Latents from symbols: non-zero ones are moved by a learned offset, then scaled back."""
        spread = self.net.gaussian_conditional.lower_bound_scale(scales * gain)
        offset = -self.exactly("QuantABCD", torch.stack((spread, torch.full_like(spread, gain)), -1))[..., 0]
        moved = symbols + symbols.sign() * offset * (symbols.abs() >= 0.5)
        return moved / gain if means is None else moved / gain + means

    @property
    def _variable_side(self) -> bool:
        return isinstance(self.net.entropy_bottleneck, EntropyBottleneckVbr)

    def _step(self, gain: float, device: torch.device) -> Tensor:
        """Quantisation step of the side information, a scalar."""
        if not self._variable_side:
            return torch.ones((), device=device)
        step = self.exactly("gayn2zqstep", torch.full((1,), 1.0 / gain, device=device))
        return self.net.lower_bound_zqstep(step)[0]  # type: ignore[no-any-return]

    def _bottleneck(self, gain: float) -> EntropyBottleneckVbr:
        """The bottleneck with the tables of ``gain``."""
        bottleneck = self.net.entropy_bottleneck
        if self._variable_side and self._tables_of != gain:
            bottleneck.update_variable(force=True, qs=self._step(gain, self.net.Gain.device))
            self._tables_of = gain
        return bottleneck

    def _side_crc(self, z_hat: Tensor, gain: float) -> int:
        centred = (z_hat - _entropy.medians(self.net.entropy_bottleneck, z_hat)) / self._step(gain, z_hat.device)
        return symbol_crc(centred.round().to(torch.int32).cpu().numpy().tobytes())


@codecs.register("bmshj2018-hyperprior-vbr")
class HyperpriorVbr(VariableRate):
    """Variable-rate image codec whose latents are Gaussian with zero mean and a scale that side information gives."""

    family = "bmshj2018-hyperprior-vbr"
    paper = "https://arxiv.org/abs/2402.18930"
    architecture = partial(ScaleHyperpriorVbr, vr_entbttlnck=True)
    widths = _widths("bmshj2018-hyperprior-vbr")

    def hyper_input(self, y: Tensor) -> Tensor:
        """What the hyper-analysis sees of ``y``."""
        return y.abs()

    def gaussian(self, z_hat: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scales and means (None: zero) of the latents."""
        return self.exactly("h_s", z_hat), None

    def latents(self, frames: Tensor) -> Latents:
        y = self.net.g_a(frames).float()
        gain = self.gain

        @cache
        def z_hat() -> Tensor:
            z = self.net.h_a(self.hyper_input(y)).float()
            return probe(SIDE, self.round_side(z, gain), z)

        @cache
        def gaussian() -> tuple[Tensor, Tensor | None]:
            scales, means = self.gaussian(z_hat())
            return probe(SCALES, scales, z_hat()), None if means is None else probe(MEANS, means, z_hat())

        @cache
        def symbols() -> Tensor:
            means = gaussian()[1]
            return probe(LATENTS, round_latent((y if means is None else y - means) * gain))

        def part_bits() -> list[Tensor]:
            y_bits = _entropy.gaussian_bits(self.net.gaussian_conditional, symbols(), gaussian()[0] * gain, None)
            return [y_bits, self.side_bits(z_hat(), gain)]

        def coded() -> list[Tensor]:
            means = gaussian()[1]
            y_steps = symbols() if means is None else symbols() + gain * means
            return [y_steps, self.side_steps(z_hat(), gain)]

        def y_hat() -> Tensor:
            return probe(LATENTS, self.dequantise(symbols(), *gaussian(), gain), y)

        return Latents(cache(y_hat), part_bits, coded)

    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        y = self.net.g_a(frame).float()
        z_data, z_hat, z_crc = self.encode_side(self.net.h_a(self.hyper_input(y)), self.gain)
        scales, means = self.gaussian(z_hat)
        centred = (y if means is None else y - means) * self.gain
        y_data, y_crc = _entropy.encode_gaussian(self.net.gaussian_conditional, centred, scales * self.gain, None)
        return [y_data, z_data], chain(z_crc, y_crc)

    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        z_hat, z_crc, gain = self.decode_side(parts[1], height // self.stride, width // self.stride)
        scales, means = self.gaussian(z_hat)
        symbols, y_crc = _entropy.decode_gaussian(self.net.gaussian_conditional, parts[0], scales * gain, None)
        y_hat = self.dequantise(symbols, scales, means, gain)
        return self.synthesise(y_hat), chain(z_crc, y_crc)


@codecs.register("mbt2018-mean-vbr")
class MeanScaleVbr(HyperpriorVbr):
    """Variable-rate image codec whose latents are Gaussian with a mean and a scale that side information gives."""

    family = "mbt2018-mean-vbr"
    paper = "https://arxiv.org/abs/2402.18930"
    architecture = partial(MeanScaleHyperpriorVbr, vr_entbttlnck=True)
    widths = _widths("mbt2018-mean-vbr")

    def hyper_input(self, y: Tensor) -> Tensor:
        return y

    def gaussian(self, z_hat: Tensor) -> tuple[Tensor, Tensor | None]:
        scales, means = self.exactly("h_s", z_hat).chunk(2, 1)
        return scales, means


@codecs.register("mbt2018-vbr")
class JointVbr(VariableRate, RasterCodec):
    """Variable-rate image codec whose latents are Gaussian, given side information and the latents decoded before."""

    family = "mbt2018-vbr"
    paper = "https://arxiv.org/abs/2402.18930"
    architecture = JointAutoregressiveHierarchicalPriorsVbr
    widths = _widths("mbt2018-vbr")

    def shift(self, gain: float) -> Tensor | None:
        return self.exactly("scale_to_context", torch.full((1,), gain, device=self.net.Gain.device))
