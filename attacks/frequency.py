"""PGD in a band of spatial frequencies, which shows the frequencies that a codec amplifies.

Guo, Frank & Weinberger, UAI 2019 (https://arxiv.org/abs/1809.08758), restrict attacks to low frequencies. Yin et al.,
NeurIPS 2019 (https://arxiv.org/abs/1906.08988), use bands of the Fourier spectrum as a diagnosis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from robustcodec.attacks._bands import band_pass
from robustcodec.attacks.confinement import ConfinedAscent, Part
from robustcodec.interfaces import Draws, Threat
from robustcodec.oracle import Oracle
from robustcodec.registry import attacks


@attacks.register("frequency")
@dataclass(frozen=True)
class Frequency(ConfinedAscent):
    """PGD whose perturbation contains only the radial frequencies from ``low`` to ``high``, in cycles per pixel.

    A frequency of 0 is the mean of a frame, 0.5 is the finest grating along rows or columns, and ``sqrt(0.5)`` is the
    chequerboard; values must satisfy 0 <= ``low`` < ``high`` <= 0.7071. The band is taken from the Fourier transform of
    each frame, which assumes that the frame repeats at its edges. The perturbation is exactly in its band until the
    threat clamps it to [0, 1] and rounds it to 8 bits. After that it also contains the noise of this rounding, about
    1/12 of a squared grey level, which is 1 % of the perturbation's energy at 40 dB.

    ``steps``, ``step_size``, ``decay``, ``widening``, ``momentum``, ``judge`` and ``surrogate`` are as in ``pgd``.
    """

    place = "band"

    low: float = 0.0
    high: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low < self.high <= math.sqrt(0.5) + 1e-6:
            raise ValueError(
                f"low={self.low}, high={self.high}; expected cycles per pixel with 0 <= low < high <= 0.7071, "
                "such as low=0,high=0.125"
            )

    def part(self, oracle: Oracle, x: Tensor, threat: Threat, rng: Draws) -> Part:
        return partial(band_pass, low=self.low, high=self.high)
