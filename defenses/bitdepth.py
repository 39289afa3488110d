"""Bit-depth reduction, "feature squeezing" (Xu et al., NDSS 2018, https://arxiv.org/abs/1704.01155), before coding.

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
    """Rounds every value to one of ``2**bits`` equally spaced ones, 0 and 1 among them; ``bits`` 1 to 8.

    It rounds, so its gradient is a surrogate, and the one that an attack names for latents: ``surrogate=noise`` is the
    uniform noise with which Chen & Ma attack it, ``straight-through`` keeps the rounded values, ``none`` skips it.
    Damage that an attack reports is always that of rounded values.
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
