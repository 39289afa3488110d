"""The score that ranks: how many more bits a codec under attack needs than a common anchor without an attack.

Both at the same PSNR against the clean source. Quality bought with bits earns nothing, for the anchor is charged for it
too (at a single rate what Bjøntegaard's rate difference, VCEG-M33, 2001, is over a range of rates). But less is taken
from a poorer picture: only entries of like quality compare.

The score also chooses which attack on a sample is the worst: the one that raises the score of all samples together the
most (:func:`worst_for`). A sample has no score of its own that it could be chosen by: many a sample's PSNR lies outside
the anchor's curve, where any premium would be made up, while the mean over samples lies inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustcodec.errors import BadData
from robustcodec.scores.columns import contributed, pairs
from robustcodec.scores.intervals import Estimate, leaving_out, mean_of
from robustcodec.scores.robustness import WORST_TOO, WorstRows, by_psnr, worst_rows
from robustcodec.scores.strength import BOUND, met_strong

Array = NDArray[np.float64]
ATTEMPT = ("attack", "objective", "precision", "access")  # what makes two attempts on a sample different
GAIN = 1e-9  # of the logarithm of the score: what an exchange of attacks must raise it by


@dataclass(frozen=True)
class Anchor:
    """The clean points of the anchor: rates in bpp and PSNR in dB, a row per sample and a column per point."""

    samples: tuple[str, ...]
    bpp: Array
    psnr: Array

    @classmethod
    def on(cls, points: pd.DataFrame, samples: Sequence[str]) -> Anchor:
        """Of ``points`` (columns ``codec``, ``sample``, ``bpp``, ``psnr``; two codecs or more) on those ``samples``.

        Raises :class:`BadData` if one of its points lacks a sample, or its mean curve does not rise.
        """
        rates, qualities = (points.pivot(index="sample", columns="codec", values=name) for name in ("bpp", "psnr"))
        if missing := sorted(set(samples) - set(rates.dropna().index)):
            raise BadData(
                f"the anchor was not measured on {', '.join(missing[:3])}; make it again with leaderboard init"
            )
        order = rates.mean().sort_values().index
        bpp, psnr = (table.loc[list(samples), order].to_numpy(dtype=float) for table in (rates, qualities))
        if len(order) < 2 or not (np.diff(psnr.mean(0)) > 0).all():
            raise BadData("the anchor's mean PSNR does not rise with its rate; give it other qualities, at least two")
        return cls(tuple(samples), bpp, psnr)

    def reaches(self, psnr: float) -> bool:
        """Whether a mean PSNR lies on its mean curve, which beyond its ends is continued as a straight line."""
        quality = self.psnr.mean(0)
        return bool(quality[0] <= psnr <= quality[-1])


def log_ratio(bpp: Array, psnr: Array, anchor_bpp: Array, anchor_psnr: Array) -> Array:
    """Natural logarithm of mean bits over those of the anchor's mean curve at the mean PSNR.

    All are means over samples; ``anchor_*`` have the points of the curve in their last axis, one more than the others.
    """
    rate, quality = np.log(anchor_bpp), anchor_psnr
    piece = np.clip((quality < psnr[..., None]).sum(-1) - 1, 0, quality.shape[-1] - 2)[..., None]

    def at(curve: Array, place: NDArray[np.intp]) -> Array:
        return np.take_along_axis(np.broadcast_to(curve, (*place.shape[:-1], curve.shape[-1])), place, -1)[..., 0]

    slope = (at(rate, piece + 1) - at(rate, piece)) / (at(quality, piece + 1) - at(quality, piece))
    needed: Array = at(rate, piece) + slope * (psnr - at(quality, piece))
    return np.log(bpp) - needed


def premium(bpp: Array, psnr: Array, anchor: Anchor) -> Estimate:
    """The logarithm of the score of what is coded at ``bpp`` with ``psnr`` dB, one value per sample of the ``anchor``;
    entry and anchor are both without the source that is left out.
    """
    numbers = bpp, psnr, anchor.bpp, anchor.psnr
    value = log_ratio(*(np.asarray(each, dtype=float).mean(0) for each in numbers))
    without = log_ratio(*(leaving_out(np.asarray(each, dtype=float), anchor.samples) for each in numbers))
    return Estimate(float(value), without, len(anchor.samples))


def percent(logarithm: float) -> float:
    """A logarithm of :func:`premium`, or the difference of two, as a score."""
    return 100 * float(np.expm1(logarithm))


def worst_for(points: pd.DataFrame) -> WorstRows:
    """What chooses of each sample the attack with which the score against the anchor's ``points`` is the highest, given
    the attacks that are chosen on the other samples of the same contender.

    It begins with the least PSNR of each sample and exchanges attacks, sample by sample, as long as the score rises: no
    other attack on any one sample would raise it further. Attacks that leave the score as it is (sizes are whole bytes)
    are told apart by the lower PSNR, then by their names.
    """

    def choose(rows: pd.DataFrame, of: Sequence[str]) -> pd.DataFrame:
        *contender, sample = of
        ordered = by_psnr(rows, of).reset_index(drop=True)
        groups = [group for _, group in ordered.groupby(contender)] if contender else [ordered]
        chosen = [_chosen(group, sample, points) for group in groups if len(group)]
        return ordered.loc[np.concatenate(chosen)].reset_index(drop=True) if chosen else ordered

    return choose


def _chosen(rows: pd.DataFrame, sample: str, points: pd.DataFrame) -> NDArray[np.intp]:
    """The labels of the chosen rows of one contender, whose rows are sorted by sample and PSNR."""
    by_sample = {str(name): group for name, group in rows.groupby(sample, sort=False)}
    anchor = Anchor.on(points, list(by_sample))
    curve = anchor.bpp.mean(0), anchor.psnr.mean(0)
    attempts = [group[["adv_bpp", "adv_psnr"]].to_numpy(dtype=float) for group in by_sample.values()]
    count, choice = len(attempts), [0] * len(attempts)
    total = np.sum([each[0] for each in attempts], axis=0)  # bits and PSNR
    score, rises = float(log_ratio(total[0] / count, total[1] / count, *curve)), True
    while rises:
        rises = False
        for place, each in enumerate(attempts):
            totals = total - each[choice[place]] + each
            scores = log_ratio(totals[:, 0] / count, totals[:, 1] / count, *curve)
            best = int(np.argmax(scores > scores.max() - GAIN))  # of equal ones the first: the least PSNR, then by name
            if scores[best] > score + GAIN:
                choice[place], total, score, rises = best, totals[best], float(scores[best]), True
    return np.array([group.index[pick] for group, pick in zip(by_sample.values(), choice, strict=True)], dtype=np.intp)


@dataclass(frozen=True)
class Standing:
    """Where one entry stands in one threat: the logarithm of its score, which differences are taken of, and all numbers
    of its line by the names of :data:`robustcodec.boards.ranking.COLUMNS`, with the scores of metrics that were asked
    for, clean and under the attacks that the score chose.
    """

    premium: Estimate
    line: dict[str, float | str]

    @property
    def bound(self) -> bool:
        """Whether nothing strong attacked it."""
        return self.line["bound"] == BOUND


def standing(rows: pd.DataFrame, points: pd.DataFrame) -> Standing:
    """Of one entry in one threat. ``rows``: one per cell and sample, as :meth:`robustcodec.boards.entry.Entry.frame`
    gives them; ``points``: of the anchor.
    """
    least = worst_rows(rows, ["sample"]).set_index("sample")
    chosen = worst_for(points)(rows, ["sample"]).set_index("sample")
    anchor = Anchor.on(points, [str(sample) for sample in chosen.index])
    attacked, clean = (
        premium(chosen[f"{prefix}bpp"].to_numpy(float), chosen[f"{prefix}psnr"].to_numpy(float), anchor)
        for prefix in ("adv_", "")
    )
    score, robust = attacked.interval(), mean_of(least["adv_psnr"]).interval()
    by_sample = rows.groupby("sample")
    names = Counter(chosen["attack"] + ", " + chosen["objective"])
    reached = all(anchor.reaches(float(chosen[name].mean())) for name in ("psnr", "adv_psnr"))
    means = [name for name in ("bpp", "psnr", "ms_ssim", "adv_bpp", "adv_psnr", "input_linf") if name in chosen]
    worst = {name: by_sample[name].max() for name in WORST_TOO if name in rows}
    own = {"delta_own_psnr": float(least["delta_own_psnr"].mean())} if "delta_own_psnr" in least else {}
    line = {
        "score": percent(score.mean),
        "score_low": percent(score.low),
        "score_high": percent(score.high),
        "bound": "" if met_strong(rows) else BOUND,
        "clean_score": percent(clean.value),
        **{name: float(chosen[name].mean()) for name in means},
        "robust_psnr": robust.mean,
        "robust_low": robust.low,
        "robust_high": robust.high,
        "drop": float(least["psnr"].mean()) - robust.mean,
        **own,
        **{name: float(values.mean()) for name, values in worst.items()},
        "unbroken": 1 - float(by_sample["broken"].max().mean()),
        "worst_attack": min(names, key=lambda name: (-names[name], name)),
        "attacks": len(rows.drop_duplicates([axis for axis in ATTEMPT if axis in rows])),
        "samples": len(chosen),
        "decode_failures": int(rows["decode_failed"].sum()),
        "beyond": "no" if reached else "yes",
        **{name: float(chosen[name].mean()) for name in pairs(contributed(rows))},
    }
    return Standing(attacked, line)
