"""How sure a number is: estimates over samples, their 95 % intervals, and differences between two of them.

An :class:`Estimate` knows what it would be without each source (an image or a video that one or more samples are of).
From these the jackknife gives its standard error (Miller, 1974, https://doi.org/10.1093/biomet/61.1.1), and Student's t
the interval: for a mean over independent samples the textbook's, but with one degree of freedom less. Scores are
skewed, and with ``n - 1`` degrees some intervals cover 91 % at five samples where they say 95; the percentile bootstrap
covers 80. ``python benchmarks/interval_coverage.py`` compares what was tried, on real scores.

Means of a skewed score alone (the loss of PSNR, the ratio of rates) reach 85 to 90 % with any of these below twelve
samples, so tables publish no interval of them, only of differences, which are not skewed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

LEVEL = 0.95
FEWEST = 5  # sources; fewer say nothing about how others would score
TOO_FEW = "too few samples"
NAN = float("nan")
_PART = re.compile(r"@\d+$|-in-motion-\d+$")  # of a sample's name: which segment of a video, which motion over a photo
Array = NDArray[np.float64]


def source_of(sample: str) -> str:
    """The image or video that a sample is of: segments of one video (``name@12``) share it, and so do several motions
    over one photograph (``name-in-motion-1``).
    """
    return _PART.sub("", sample)


@dataclass(frozen=True)
class Interval:
    """An estimate over ``n`` samples and the ends of its interval: NaN where too few samples say nothing of it."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Estimate:
    """A number over ``n`` samples: its ``value``, and by source (sorted by name) its value ``without`` that one."""

    value: float
    without: Array
    n: int

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference, paired by source. Raises :class:`ValueError` unless both are over as many sources."""
        if len(self.without) != len(other.without):
            raise ValueError(f"{len(self.without)} sources against {len(other.without)}; expected the same ones")
        return Estimate(self.value - other.value, self.without - other.without, min(self.n, other.n))

    @property
    def error(self) -> float:
        """The standard error; NaN below :data:`FEWEST` sources."""
        sources = len(self.without)
        if sources < FEWEST:
            return NAN
        return math.sqrt((sources - 1) * float(self.without.var()))

    def interval(self, level: float = LEVEL) -> Interval:
        """The interval at ``level``; raises :class:`ValueError` for a level that is no share."""
        if not 0 < level < 1:
            raise ValueError(f"level={level}; expected 0 < level < 1")
        half = float(stdtrit(self._freedom, (1 + level) / 2)) * self.error if math.isfinite(self.error) else NAN
        return Interval(self.value, self.value - half, self.value + half, self.n)

    def p_value(self) -> float:
        """How likely a value as far from 0 is where the truth is 0; NaN below :data:`FEWEST` sources."""
        if math.isnan(self.error) or math.isnan(self.value):
            return NAN
        if abs(self.value) <= 1e-12:
            return 1.0
        return 2 * float(stdtr(self._freedom, -abs(self.value) / self.error)) if self.error > 0 else 0.0

    @property
    def _freedom(self) -> int:
        return len(self.without) - 2


def leaving_out(values: Array, samples: Iterable[str]) -> Array:
    """Means of ``values`` over samples (the first axis) without each source, in the order of their names."""
    sources, place = np.unique([source_of(sample) for sample in samples], return_inverse=True)
    inside = np.equal.outer(np.arange(len(sources)), place).astype(float)
    left = len(place) - inside.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums: Array = values.sum(0) - np.tensordot(inside, values, 1)
        means: Array = sums / left.reshape(-1, *[1] * (values.ndim - 1))
    return means


def mean_of(values: pd.Series[Any]) -> Estimate:
    """The mean over samples, which the index names; what has no number is left out."""
    known = values.dropna()
    numbers = known.to_numpy(dtype=float)
    value = float(numbers.mean()) if len(numbers) else NAN
    return Estimate(value, leaving_out(numbers, map(str, known.index)), len(numbers))


def interval(values: Iterable[float | None], level: float = LEVEL) -> Interval:
    """Mean of ``values`` and its interval; ``n`` counts those that are numbers.

    A :class:`pandas.Series` names its samples in its index, for those of one source; values without names are each of
    their own. Raises :class:`ValueError` for a level that is no share.
    """
    named = values if isinstance(values, pd.Series) else pd.Series(list(values), dtype=float)
    return mean_of(named).interval(level)


def share(hits: float, n: int, level: float = LEVEL) -> Interval:
    """``hits`` of ``n`` samples (fractions are means over several runs of one) and the interval of that share (Wilson,
    1927, https://doi.org/10.2307/2276774).
    """
    if n == 0:
        return Interval(NAN, NAN, NAN, 0)
    z = float(ndtri((1 + level) / 2))
    rate = hits / n
    centre, scale = (rate + z * z / (2 * n)) / (1 + z * z / n), 1 / (1 + z * z / n)
    half = scale * z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) if n >= FEWEST else NAN
    return Interval(rate, centre - half, centre + half, n)
