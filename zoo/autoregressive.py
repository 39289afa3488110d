"""Image codecs with an autoregressive context: Minnen et al., 2018 (https://arxiv.org/abs/1809.02736) and the anchor
and attention networks after Cheng et al., 2020 (https://arxiv.org/abs/2001.01568).

Each latent is decoded given all latents before it in reading order. The ``forward`` is exact nevertheless: a scan
without gradient finds the latents that the decoder will see, then one parallel pass gives values and gradients.
"""

from __future__ import annotations

from compressai.models import Cheng2020Anchor, Cheng2020Attention, JointAutoregressiveHierarchicalPriors
from compressai.zoo.image import cfgs

from robustcodec.registry import codecs
from robustcodec.zoo._raster import RasterCodec


@codecs.register("mbt2018")
class Joint(RasterCodec):
    """Image codec with a joint autoregressive and hierarchical prior, of convolutions and GDN.

    Each latent is Gaussian, with a mean and a scale that follow from side information and from the latents decoded
    before.
    """

    family = "mbt2018"
    paper = "https://arxiv.org/abs/1809.02736"
    architecture = JointAutoregressiveHierarchicalPriors
    widths = {q: {"N": n, "M": m} for q, (n, m) in cfgs["mbt2018"].items()}


@codecs.register("cheng2020-anchor")
class ChengAnchor(RasterCodec):
    """Image codec with residual blocks, sub-pixel convolutions and an autoregressive context.

    As in CompressAI, each latent has one Gaussian, not the mixture of the paper.
    """

    family = "cheng2020-anchor"
    paper = "https://arxiv.org/abs/2001.01568"
    architecture = Cheng2020Anchor
    widths = {q: {"N": n} for q, (n,) in cfgs["cheng2020-anchor"].items()}
    widths_from = {"N": ("g_a.0.conv1.weight", 0)}


@codecs.register("cheng2020-attn")
class ChengAttention(ChengAnchor):
    """Image codec like ``cheng2020-anchor``, with simplified attention blocks in the transforms."""

    family = "cheng2020-attn"
    paper = "https://arxiv.org/abs/2001.01568"
    architecture = Cheng2020Attention
    widths = {q: {"N": n} for q, (n,) in cfgs["cheng2020-attn"].items()}
