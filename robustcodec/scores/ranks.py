"""Who is better than whom: all pairs of contenders on the same samples, and what that leaves of their ranks.

A rank is an interval: from 1 + the number of contenders that are significantly better to their number − that of those
that are significantly worse. Differences are paired by sample; their p-values are corrected for the number of pairs
(Holm, 1979, https://www.jstor.org/stable/4615733), so with 95 % no pair of a table is put into the wrong order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from robustcodec.scores.intervals import LEVEL, Estimate, mean_of

PAIRS = ["one", "other", "difference", "low", "high", "samples", "p", "p_holm"]
RANKS = ["rank", "rank_low", "rank_high"]
Difference = Callable[[str, str], Estimate]  # of two contenders, the first minus the second


def paired(values: Mapping[str, pd.Series[float]]) -> Difference:
    """Mean differences of a score over the samples, which the indices name, that both have a value of."""
    return lambda one, other: mean_of(values[one] - values[other])


def pairs(names: Sequence[str], difference: Difference) -> pd.DataFrame:
    """One line per pair, columns :data:`PAIRS`: the difference ``one`` − ``other`` with its 95 % interval, its p-value,
    and the same corrected for all pairs; NaN where they share too few samples.
    """
    lines = []
    for one, other in combinations(names, 2):
        estimate = difference(one, other)
        ends = estimate.interval()
        lines.append((one, other, ends.mean, ends.low, ends.high, ends.n, estimate.p_value()))
    table = pd.DataFrame(lines, columns=PAIRS[:-1])
    return table.assign(p_holm=holm(table["p"]))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values such that those below ``a`` hold together with an error of ``a``; NaN stays and counts as a test."""
    given = np.asarray(p_values, dtype=float)
    order = np.argsort(given, kind="stable")  # NaN comes last
    corrected = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)), 1)
    out = np.empty_like(given)
    out[order] = corrected
    return out


def ranks(scores: Mapping[str, float], tested: pd.DataFrame, better: Literal["low", "high"]) -> pd.DataFrame:
    """By name: ``rank`` by the scores alone (equal ones share it), and the ends of its interval.

    ``tested``: :func:`pairs` of all names, in a score of which the ``better`` one is low or high.
    """
    values = pd.Series(scores, dtype=float)
    rank = values.rank(method="min", ascending=better == "low", na_option="bottom").astype(int)
    decided = tested[tested["p_holm"] < 1 - LEVEL]
    first_wins = (decided["difference"] < 0) == (better == "low")
    ahead = decided["one"].where(first_wins, decided["other"]).value_counts()
    behind = decided["other"].where(first_wins, decided["one"]).value_counts()
    low = 1 + behind.reindex(values.index, fill_value=0)
    high = len(values) - ahead.reindex(values.index, fill_value=0)
    return pd.DataFrame({"rank": rank, "rank_low": low, "rank_high": high})
