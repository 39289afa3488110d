"""Bit-depth reduction before coding, known as "feature squeezing" (Xu et al., NDSS 2018,
https://arxiv.org/abs/1704.01155).

Chen & Ma (TCSVT 2023, https://arxiv.org/abs/2112.08691) try 6 bits on codecs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustcodec.defenses.preprocessing import Preprocessor
from robustcodec.registry import defenses
from robustcodec.rounding import round_latent


@defenses.register("bitdepth")
@dataclass(frozen=True)
class BitDepth(Preprocessor):
    """Rounds every value to fewer bits before coding.

    ``bits`` is 1 to 8: a value becomes the nearest of ``2**bits`` equally spaced ones, which include 0 and 1. A
    rounding has no gradient, so attacks get that of a surrogate, the same that they choose for latents:
    ``surrogate=noise`` is the uniform noise with which Chen & Ma attack this defense, ``straight-through`` keeps the
    rounded values, and ``none`` skips the rounding. The damage that an attack reports is always that of rounded values.
    """

    label = "bitdepth (gradient by the surrogate of rounding)"

    bits: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"bits={self.bits}; expected 1 to 8")

    def preprocess(self, x: Tensor) -> Tensor:
        return reduced(x, self.bits)


def reduced(x: Tensor, bits: int) -> Tensor:
    """``x`` in [0, 1] rounded to multiples of ``1 / (2**bits - 1)``, gradient by the surrogate of the rounding.

    Under the surrogate ``noise`` values may leave [0, 1] by half a step.
    """
    top = 2**bits - 1
    levels: Tensor = round_latent(x * top)
    return levels.div(top)
