"""What plots show, computed once for everyone who draws it: arrows of rate and distortion, security curves, heat maps,
drift over frames.

All take one row per cell and sample, and say with ``by`` whose points are wanted: columns that name a contender, or an
entry of the page. Two data sets, objectives or families of threats are never averaged together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from robustcodec.errors import UserError
from robustcodec.registry import threats
from robustcodec.reporting.tables import checked, label_of
from robustcodec.scores.intervals import share
from robustcodec.scores.robustness import BOARD, CONTENDER, WorstRows, worst_rows

WORST = "worst attack on each sample"  # the name of that line among those of single attacks


def labels(rows: pd.DataFrame) -> list[str]:
    """The short name of each row's contender."""
    return [label_of(*key) for key in rows[CONTENDER].itertuples(index=False)]


def attempts(rows: pd.DataFrame, axes: Sequence[str] = ("objective", "precision")) -> pd.Series[str]:
    """What each row's attack is called: its name, and of ``axes`` those in which ``rows`` differ."""
    several = [axis for axis in axes if axis in rows and rows[axis].nunique() > 1]
    names: pd.Series[str] = rows["attack"].map(str)
    return names.str.cat(rows[several].astype(str), sep=", ") if several else names


def worst_of_samples(rows: pd.DataFrame, by: Sequence[str], worst: WorstRows = worst_rows) -> pd.DataFrame:
    """The row of the worst attack on each sample of each ``by``, data set and threat, and its ``loss`` in dB; by
    default of the attack that leaves the least PSNR.
    """
    points = worst(rows, [*by, *BOARD, "sample"])
    return points.assign(loss=points["psnr"] - points["adv_psnr"])


def arrows(rows: pd.DataFrame, by: Sequence[str], worst: WorstRows = worst_rows) -> pd.DataFrame:
    """Where an arrow of rate and distortion starts and ends: of each data set, threat and ``by`` the clean mean
    (``bpp``, ``psnr`` in dB) and the mean under the worst attack on each sample (``adv_bpp``, ``adv_psnr``).
    """
    points = worst_of_samples(rows, by, worst)
    return points.groupby([*BOARD, *by], as_index=False)[["bpp", "psnr", "adv_bpp", "adv_psnr"]].mean()


def ends(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Where each attack leads by itself: ``adv_bpp`` and ``adv_psnr``, means over samples that it left decodable."""
    keys = [*BOARD, *by, *(axis for axis in ("attack", "objective", "precision") if axis in rows)]
    return rows.groupby(keys, as_index=False)[["adv_bpp", "adv_psnr"]].mean().dropna()


def security(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """One line per data set, ``family`` of threats (:func:`family`), ``by``, attack (``line``) and threat, where a line
    has several threats: means over samples of ``input_psnr`` as reached, clean ``psnr``, ``adv_psnr``, ``loss`` in dB,
    ``rate_ratio`` and the success rate: the share of samples that the attack broke (``broken``), with the ends of its
    95 % interval (``broken_low``, ``broken_high``), and over how many ``samples``. Sorted by falling input PSNR.

    The line :data:`WORST` is of the attack that leaves the least PSNR of each sample; its rate is the highest, and a
    sample is broken if any attack broke it.
    """
    scores = ["input_psnr", "psnr", "adv_psnr", "loss", "rate_ratio", "broken"]
    single = rows.assign(line=attempts(rows), loss=rows["psnr"] - rows["adv_psnr"])
    sample = [*by, *BOARD, "sample"]
    joint = worst_of_samples(rows, by).assign(line=WORST)  # sorted by ``sample``, as groups are
    joint[["rate_ratio", "broken"]] = rows.groupby(sample)[["rate_ratio", "broken"]].max().to_numpy()
    both = pd.concat([frame[[*sample, "line", *scores]] for frame in (single, joint)], ignore_index=True)
    both["family"] = both["threat"].map(family)
    line = ["data", "family", *by, "line"]
    samples = both.groupby([*line, "threat", "sample"], as_index=False)[scores].mean()
    groups = samples.groupby([*line, "threat"])
    means = groups[scores].mean().assign(samples=groups.size()).reset_index()
    ends = [share(rate * n, n) for rate, n in zip(means["broken"], means["samples"], strict=True)]
    means = means.assign(broken_low=[end.low for end in ends], broken_high=[end.high for end in ends])
    means = means[means.groupby(line)["threat"].transform("nunique") > 1]
    rising = [True] * len(line)
    return means.sort_values([*line, "input_psnr"], ascending=[*rising, False], ignore_index=True)


def family(threat: str) -> str:
    """What threats of different budgets share: ``psnr:40,frames=first+linf:8`` → ``psnr,frames=first+linf``; of what is
    no threat, as rows of unknown origin may hold, itself.
    """
    try:
        members = threats.layers(threat)
    except UserError:
        return threat
    return "+".join(re.sub(r":[^,]*", "", str(spec), count=1) for spec in members)


def heat_map(rows: pd.DataFrame, score: str, down: Sequence[str], across: Sequence[str]) -> pd.DataFrame:
    """The mean of a score over samples in each cell of columns ``down`` and ``across``; NaN where nothing was run."""
    return rows.pivot_table(index=list(down), columns=list(across), values=score, aggfunc="mean")


def vi_matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """:func:`heat_map` of ``vi_db`` in dB: a row per codec (with its defense), a column per attack and threat.

    The objective, the precision and the data set are named only where there are several. Raises :class:`StoreError` for
    rows that are not results.
    """
    rows = checked(rows)
    several = rows["data"].nunique() > 1
    labelled = pd.DataFrame(
        {
            "codec": labels(rows),
            "attack": attempts(rows) if len(rows) else [],
            "threat": rows["threat"] + (", " + rows["data"] if several else ""),
            "vi_db": rows["vi_db"].astype(float),
        }
    )
    return heat_map(labelled, "vi_db", ["codec"], ["attack", "threat"])


def drift(
    curves: pd.DataFrame, by: Sequence[str], axes: Sequence[str], worst: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The dB that each frame loses to an attack: ``loss`` by ``by``, ``line`` and ``frame``, the mean over samples.

    ``curves``: of :meth:`Store.curves`; ``axes``: as for :func:`attempts`. ``worst``: of :func:`worst_of_samples`, for
    a :data:`WORST` line too. Frames whose attacked stream could not be decoded are left out.
    """
    lost = curves.assign(line=attempts(curves, axes), loss=curves["psnr"] - curves["adv_psnr"])
    if worst is not None:
        chosen = lost.merge(worst[["cell", "sample"]].drop_duplicates(), on=["cell", "sample"])
        lost = pd.concat([lost, chosen.assign(line=WORST)], ignore_index=True)
    return lost.groupby([*by, "line", "frame"], as_index=False)[["loss"]].mean().dropna()
