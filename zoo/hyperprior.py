"""Hyperprior image codecs: with scales (Ballé et al., 2018, https://arxiv.org/abs/1802.01436), and with means and
scales (Minnen et al., 2018, https://arxiv.org/abs/1809.02736, without its context model).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import ClassVar

from compressai.models import MeanScaleHyperprior, ScaleHyperprior
from compressai.zoo.image import cfgs
from torch import Tensor

from robustcodec.probing import LATENTS, MEANS, SCALES, SIDE, probe
from robustcodec.registry import codecs
from robustcodec.rounding import round_latent
from robustcodec.zoo import _entropy
from robustcodec.zoo._latent import LatentCodec
from robustcodec.zoo.container import chain
from robustcodec.zoo.frames import Latents


@codecs.register("bmshj2018-hyperprior")
class Hyperprior(LatentCodec):
    """Image codec whose latents are Gaussian with zero mean and a scale that coded side information gives."""

    family = "bmshj2018-hyperprior"
    paper = "https://arxiv.org/abs/1802.01436"
    architecture = ScaleHyperprior
    latent_layers: ClassVar[tuple[tuple[str, int], ...]] = (("g_a.6", 1),)
    widths = {q: {"N": n, "M": m} for q, (n, m) in cfgs["bmshj2018-hyperprior"].items()}

    def hyper_input(self, y: Tensor) -> Tensor:
        """What the hyper-analysis sees of ``y``."""
        return y.abs()

    def gaussian(self, z_hat: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scales and means (None: zero) of the latents."""
        return self.exactly("h_s", z_hat), None

    def latents(self, frames: Tensor) -> Latents:
        y = self.net.g_a(frames).float()
        bottleneck, conditional = self.net.entropy_bottleneck, self.net.gaussian_conditional

        @cache
        def z_hat() -> Tensor:
            z = self.net.h_a(self.hyper_input(y)).float()
            return probe(SIDE, _entropy.bottleneck_round(bottleneck, z), z)

        @cache
        def gaussian() -> tuple[Tensor, Tensor | None]:
            scales, means = self.gaussian(z_hat())
            return probe(SCALES, scales, z_hat()), None if means is None else probe(MEANS, means, z_hat())

        @cache
        def y_hat() -> Tensor:
            return probe(LATENTS, round_latent(y, gaussian()[1] if self.has_means else None), y)

        def part_bits() -> list[Tensor]:
            scales, means = gaussian()
            return [
                _entropy.gaussian_bits(conditional, y_hat(), scales, means),
                _entropy.bottleneck_bits(bottleneck, z_hat()),
            ]

        return Latents(y_hat, part_bits, lambda: [y_hat(), z_hat()])

    has_means = False  # without means the reconstruction does not need z, so an attacker need not pay for it

    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        y = self.net.g_a(frame)
        z_data, z_hat, z_crc = _entropy.encode_bottleneck(
            self.net.entropy_bottleneck, self.net.h_a(self.hyper_input(y))
        )
        y_data, y_crc = _entropy.encode_gaussian(self.net.gaussian_conditional, y, *self.gaussian(z_hat))
        return [y_data, z_data], chain(z_crc, y_crc)

    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        size = height // self.stride, width // self.stride
        z_hat, z_crc = _entropy.decode_bottleneck(self.net.entropy_bottleneck, parts[1], *size)
        y_hat, y_crc = _entropy.decode_gaussian(self.net.gaussian_conditional, parts[0], *self.gaussian(z_hat))
        return self.synthesise(y_hat), chain(z_crc, y_crc)


@codecs.register("mbt2018-mean")
class MeanScale(Hyperprior):
    """Image codec whose latents are Gaussian with a mean and a scale that coded side information gives.

    Latents are rounded about their means.
    """

    family = "mbt2018-mean"
    paper = "https://arxiv.org/abs/1809.02736"
    architecture = MeanScaleHyperprior
    latent_layers = (("g_a.6", 1), ("h_s.4", 2))  # the latter gives scales, then means
    widths = {q: {"N": n, "M": m} for q, (n, m) in cfgs["mbt2018-mean"].items()}
    has_means = True

    def hyper_input(self, y: Tensor) -> Tensor:
        return y

    def gaussian(self, z_hat: Tensor) -> tuple[Tensor, Tensor | None]:
        scales, means = self.exactly("h_s", z_hat).chunk(2, 1)
        return scales, means
