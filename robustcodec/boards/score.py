"""The score that ranks: how many more bits a codec under attack needs than a common anchor without an attack.

Both at the same PSNR against the clean source. Quality bought with bits earns nothing, for the anchor is charged for it
too (at a single rate what Bjøntegaard's rate difference, VCEG-M33, 2001, is over a range of rates).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from robustcodec.errors import BadData
from robustcodec.scores.columns import contributed, pairs
from robustcodec.scores.robustness import Worst, interval, worst_rows

WORST_IS = {"psnr": "leaves the least PSNR", "rate": "costs the most bits"}
RESAMPLES = 1000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Percent; ``beyond``: the PSNR lies outside the anchor's curve, which is then continued as a straight line."""

    percent: float
    low: float
    high: float
    beyond: bool


ATTEMPT = ("attack", "objective", "precision", "access")  # what makes two attempts on a sample different
WORST_TOO = ("vi_db", "rate_ratio")  # scores whose worst case is their largest value, by themselves


def standing(rows: pd.DataFrame, anchor: pd.DataFrame, worst: Worst) -> dict[str, float | str]:
    """Where one entry stands in one threat: the score and what it is made of; keys: those of
    :data:`robustcodec.boards.tables.COLUMNS` that are numbers, ``worst_attack``, and the scores of metrics that were
    asked for, clean and under each sample's worst attack.

    ``rows``: one per cell and sample, as :meth:`robustcodec.boards.entry.Entry.frame` gives them.
    """
    of_worst = worst_rows(rows, ["sample"], worst).set_index("sample")
    samples = [str(sample) for sample in of_worst.index]
    attacked = premium(of_worst["adv_bpp"], of_worst["adv_psnr"], anchor, samples)
    clean = premium(of_worst["bpp"], of_worst["psnr"], anchor, samples)
    robust = interval(of_worst["adv_psnr"])
    by_sample = rows.groupby("sample")
    names = Counter(of_worst["attack"] + ", " + of_worst["objective"])
    extra = pairs(contributed(rows))
    return {
        "score": attacked.percent,
        "score_low": attacked.low,
        "score_high": attacked.high,
        "clean_score": clean.percent,
        "bpp": float(of_worst["bpp"].mean()),
        "psnr": float(of_worst["psnr"].mean()),
        "ms_ssim": float(of_worst["ms_ssim"].mean()),
        "adv_bpp": float(of_worst["adv_bpp"].mean()),
        "robust_psnr": robust.mean,
        "robust_low": robust.low,
        "robust_high": robust.high,
        "drop": float(of_worst["psnr"].mean()) - robust.mean,
        **{name: float(by_sample[name].max().mean()) for name in WORST_TOO},
        "worst_attack": min(names, key=lambda name: (-names[name], name)),
        "attacks": len(rows.drop_duplicates([axis for axis in ATTEMPT if axis in rows])),
        "samples": len(samples),
        "decode_failures": int(rows["decode_failed"].sum()),
        "beyond": "yes" if attacked.beyond or clean.beyond else "no",
        **{name: float(of_worst[name].mean()) for name in extra},
    }


def premium(bpp: ArrayLike, psnr: ArrayLike, anchor: pd.DataFrame, samples: list[str]) -> Score:
    """What is coded at ``bpp`` with ``psnr`` dB, one value per sample, against the clean ``anchor``.

    ``anchor``: columns ``codec``, ``sample``, ``bpp``, ``psnr``, two codecs or more. Raises :class:`BadData` if it
    lacks a sample or its mean curve does not rise.
    """
    rates, qualities = (anchor.pivot(index="sample", columns="codec", values=name) for name in ("bpp", "psnr"))
    if missing := sorted(set(samples) - set(rates.index)):
        raise BadData(f"the anchor was not measured on {', '.join(missing[:3])}; make it again with leaderboard init")
    order = rates.mean().sort_values().index
    curve_bpp, curve_psnr = (table.loc[samples, order].to_numpy(dtype=float) for table in (rates, qualities))
    if len(order) < 2 or not (np.diff(curve_psnr.mean(0)) > 0).all():
        raise BadData("the anchor's mean PSNR does not rise with its rate; give it other qualities, at least two")
    rate, quality = np.asarray(bpp, dtype=float), np.asarray(psnr, dtype=float)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(samples), (RESAMPLES, len(samples)))
    drawn = np.array([_ratio(rate[d], quality[d], curve_bpp[d], curve_psnr[d]) for d in draws])
    low, high = np.quantile(drawn, [0.025, 0.975])
    value, mean = _ratio(rate, quality, curve_bpp, curve_psnr), quality.mean()
    beyond = not curve_psnr.mean(0)[0] <= mean <= curve_psnr.mean(0)[-1]
    return Score(100 * (value - 1), 100 * (float(low) - 1), 100 * (float(high) - 1), bool(beyond))


def _ratio(bpp: Array, psnr: Array, curve_bpp: Array, curve_psnr: Array) -> float:
    """Mean bits over those of the anchor at the mean PSNR; ``curve_*``: a row per sample, a column per point."""
    quality, rate = curve_psnr.mean(0), np.log(curve_bpp.mean(0))
    at = float(psnr.mean())
    piece = int(np.clip(np.searchsorted(quality, at) - 1, 0, len(quality) - 2))
    slope = (rate[piece + 1] - rate[piece]) / (quality[piece + 1] - quality[piece])
    return float(bpp.mean() / np.exp(rate[piece] + slope * (at - quality[piece])))
