"""Factorised-prior image codecs (Ballé et al., 2018, https://arxiv.org/abs/1802.01436), with GDN and with ReLU."""

from __future__ import annotations

from collections.abc import Sequence

from compressai.models import FactorizedPrior, FactorizedPriorReLU
from compressai.zoo.image import cfgs
from torch import Tensor

from robustcodec.probing import LATENTS, probe
from robustcodec.registry import codecs
from robustcodec.zoo import _entropy
from robustcodec.zoo._latent import LatentCodec
from robustcodec.zoo.frames import Latents


@codecs.register("bmshj2018-factorized")
class Factorized(LatentCodec):
    """Image codec whose latents are coded with one learned density per channel, without side information.

    The latents ``y = g_a(x)`` are rounded about the medians of these densities. The transforms use GDN.
    """

    family = "bmshj2018-factorized"
    paper = "https://arxiv.org/abs/1802.01436"
    architecture = FactorizedPrior
    widths = {q: {"N": n, "M": m} for q, (n, m) in cfgs["bmshj2018-factorized"].items()}
    stride = 16
    part_names = ("y",)

    def latents(self, frames: Tensor) -> Latents:
        bottleneck = self.net.entropy_bottleneck
        y = self.net.g_a(frames).float()
        y_hat = probe(LATENTS, _entropy.bottleneck_round(bottleneck, y), y)
        return Latents(lambda: y_hat, lambda: [_entropy.bottleneck_bits(bottleneck, y_hat)], lambda: [y_hat])

    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        data, _, crc = _entropy.encode_bottleneck(self.net.entropy_bottleneck, self.net.g_a(frame))
        return [data], crc

    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        size = height // self.stride, width // self.stride
        y_hat, crc = _entropy.decode_bottleneck(self.net.entropy_bottleneck, parts[0], *size)
        return self.synthesise(y_hat), crc


@codecs.register("bmshj2018-factorized-relu")
class FactorizedReLU(Factorized):
    """Image codec like ``bmshj2018-factorized``, with ReLU in the place of GDN."""

    family = "bmshj2018-factorized-relu"
    architecture = FactorizedPriorReLU
