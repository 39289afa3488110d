"""From clips before and after an attack to scores: what it cost, its worst case, and how sure we are.

Vulnerability: Chen & Ma, Towards robust neural image compression, 2023, https://arxiv.org/abs/2112.08691.
Scores are plain floats that are finite or NaN; who writes JSON turns NaN into null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from robustcodec.errors import BadData
from robustcodec.interfaces import Metric
from robustcodec.scores import temporal
from robustcodec.scores.metrics import decibels, squared_error
from robustcodec.scores.rate import bd_rate, bpp, kbps

if TYPE_CHECKING:  # a worker scores samples without pandas, and starts sooner without it
    import pandas as pd

NAN = float("nan")
FAILED_PSNR = 0.0  # dB, MSE 1: the largest error a picture in [0, 1] can have


@torch.no_grad()
def clean_scores(
    x: Tensor, x_hat: Tensor, bits: float, bits_est: float, metrics: Mapping[str, Metric], fps: float | None = None
) -> dict[str, float]:
    """What a sample scores without an attack: ``bpp``, ``bpp_est``, ``kbps``, ``flicker`` and each metric ``M``.

    Arguments and keys as in :func:`sample_scores`, for which they can be kept: no attack changes them.
    """
    _one_sample(x)
    return {
        "bpp": bpp(bits, x.shape),
        "bpp_est": bpp(bits_est, x.shape),
        "kbps": NAN if fps is None else kbps(bits, x.shape, fps),
        **{name: metric.score(x, x_hat) for name, metric in metrics.items()},
        "flicker": temporal.flicker(x, x_hat).item(),
    }


@torch.no_grad()
def sample_scores(
    x: Tensor,
    x_hat: Tensor,
    x_adv: Tensor,
    x_adv_hat: Tensor | None,
    bits: float,
    adv_bits: float,
    bits_est: float,
    adv_bits_est: float,
    metrics: Mapping[str, Metric],
    fps: float | None = None,
    clean: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """All scores of one sample.

    ``x``, ``x_adv``: clean and attacked input; ``x_hat``, ``x_adv_hat``: what the decoder made of their bytes;
    each ``(1, T, 3, H, W)`` in [0, 1], rounded to 8 bits. ``x_adv_hat=None``: the decoder failed.
    ``bits`` and ``adv_bits`` are of the real streams, ``…_est`` of the codec's estimate (NaN if it has none).
    ``fps``: frames per second, if known. ``clean``: :func:`clean_scores` of this sample, if at hand.

    Keys are those of :data:`robustcodec.scores.columns.RESULTS` that are measured on one sample, and of each metric
    ``M`` both ``M`` of ``x_hat`` and ``adv_M`` of ``x_adv_hat``, against the clean ``x``; definitions in formulas:
    ``vi_db`` 10 log10(MSE(x_adv_hat, x_hat) / MSE(x_adv, x)), ``delta_psnr`` psnr(x, x_hat) − psnr(x, x_adv_hat),
    ``delta_own_psnr`` psnr(x, x_hat) − psnr(x_adv, x_adv_hat), ``mse_out`` MSE(x_adv_hat, x_hat).

    Edges: without a perturbation ``vi_db`` is NaN. Equal reconstructions count, in ``vi_db``, as differing by one
    8-bit level in one value, the least that 8-bit clips can differ by: finite, and no lower than what was seen.
    After a failed decode every score of ``x_adv_hat`` is NaN; rates and input scores stand. PSNRs stop at 100 dB.
    Flicker, drift and recovery of a clip of one frame are NaN, and so are kilobits per second without ``fps``.

    Raises :class:`ValueError` unless each clip is a single sample of one shape.
    """
    _one_sample(x)
    mse_in, mse_clean = squared_error(x, x_adv), squared_error(x, x_hat)
    if clean is None:
        clean = clean_scores(x, x_hat, bits, bits_est, metrics, fps)
    out = {
        **clean,
        "adv_bpp": bpp(adv_bits, x.shape),
        "adv_bpp_est": bpp(adv_bits_est, x.shape),
        "adv_kbps": NAN if fps is None else kbps(adv_bits, x.shape, fps),
        "rate_ratio": _ratio(adv_bits, bits),
        "rate_ratio_est": _ratio(adv_bits_est, bits_est),
        "input_psnr": decibels(mse_in).item(),
        "input_linf": (x_adv - x).abs().max().item() * 255,
        "input_l2": math.sqrt(mse_in.item() * x.numel()),
        "vi_db": NAN,
        "delta_psnr": NAN,
        "delta_own_psnr": NAN,
        "mse_out": NAN,
        "adv_flicker": NAN,
        "drift_last": NAN,
        "drift_max": NAN,
        "recovery": NAN,
        "decode_failed": float(x_adv_hat is None),
    }
    for name, metric in metrics.items():
        out[f"adv_{name}"] = NAN if x_adv_hat is None else metric.score(x, x_adv_hat)
    if x_adv_hat is None:
        return out
    psnr_clean = decibels(mse_clean)
    mse_out = squared_error(x_hat, x_adv_hat).item()
    out["delta_psnr"] = (psnr_clean - decibels(squared_error(x, x_adv_hat))).item()
    out["delta_own_psnr"] = (psnr_clean - decibels(squared_error(x_adv, x_adv_hat))).item()
    out["mse_out"] = mse_out
    if mse_in.item() > 0:
        out["vi_db"] = 10 * math.log10(max(mse_out, 255**-2 / x.numel()) / mse_in.item())
    if x.shape[1] > 1:
        drift = temporal.drift(x, x_hat, x_adv_hat)
        out["adv_flicker"] = temporal.flicker(x, x_adv_hat).item()
        out["drift_last"], out["drift_max"] = drift[0, -1].item(), drift.max().item()
        out["recovery"] = temporal.recovery(drift, temporal.perturbed(x, x_adv)).item()
    return out


def break_scores(damage: float, level: float, input_psnr: float, failed: bool) -> dict[str, float]:
    """``damage`` of the attack's objective on real bytes; ``broken``: 1.0 if it reached ``level`` or the decoder
    ``failed``, else 0.0; ``break_db``: ``input_psnr`` of a perturbation that breaks the codec, else NaN. No damage at
    all breaks nothing, also where a codec that reproduces its input has a level of 0.
    """
    broken = failed or damage >= level and damage != 0
    return {"damage": damage, "broken": float(broken), "break_db": input_psnr if broken else NAN}


WORST_TOO = ("vi_db", "rate_ratio", "break_db")  # scores whose worst case is their largest value
BOARD = ["data", "threat"]  # contenders are ranked against each other inside these
CONTENDER = ["codec", "defense", "access"]
WORST_OF = [*CONTENDER, "threat", "data", "sample"]


def worst_case(rows: pd.DataFrame) -> pd.DataFrame:
    """The worst attack on each sample: least ``adv_psnr`` over attacks, objectives (and seeds).

    ``rows``: one per cell and sample, with columns ``codec, defense, access, threat, objective, data, attack,
    sample, adv_psnr`` and, optionally, ``decode_failed``: a decoder that failed showed nothing, which counts as
    0 dB rather than dropping out. Returns one row per (codec, defense, access, threat, data, sample), sorted,
    with ``robust_psnr`` in dB, ``worst_attack`` and ``worst_objective``; ties go to the first by name. Where no
    attack has a score, ``robust_psnr`` is NaN and both names are None. Of :data:`WORST_TOO` it has those that
    ``rows`` have, each the largest by itself: another attack may be the worst for another score.

    Compare only codecs that met the same attacks. Raises :class:`BadData` if a column is missing.
    """
    needed = [*WORST_OF, "attack", "objective", "adv_psnr"]
    if missing := [c for c in needed if c not in rows.columns]:
        raise BadData(f"the rows lack {', '.join(missing)}; expected the columns {', '.join(needed)}")
    scored = rows[needed].assign(robust_psnr=shown_psnr(rows))
    worst = scored.sort_values(["robust_psnr", "attack", "objective"], kind="stable").drop_duplicates(WORST_OF)
    for name in ("attack", "objective"):
        worst[f"worst_{name}"] = worst[name].astype(object).where(worst["robust_psnr"].notna(), None)
    columns = [*WORST_OF, "robust_psnr", "worst_attack", "worst_objective"]
    worst = worst[columns].sort_values(WORST_OF, kind="stable").reset_index(drop=True)
    known = [c for c in WORST_TOO if c in rows]
    worst[known] = rows.groupby(WORST_OF)[known].max().to_numpy()  # sorted by the same keys
    return worst


# the whole row of the worst attack in each group of columns, sorted by them; the last column names the sample
WorstRows: TypeAlias = "Callable[[pd.DataFrame, Sequence[str]], pd.DataFrame]"


def shown_psnr(rows: pd.DataFrame) -> pd.Series[float]:
    """``adv_psnr`` in dB of each row; a decoder that failed showed nothing, which is :data:`FAILED_PSNR`."""
    shown = rows["adv_psnr"].astype("float64")
    return shown.mask(rows["decode_failed"] == 1, FAILED_PSNR) if "decode_failed" in rows else shown


def by_psnr(rows: pd.DataFrame, of: Sequence[str]) -> pd.DataFrame:
    """``rows``, one per cell and sample, with :func:`shown_psnr`, sorted by columns ``of``, then the worst PSNR first;
    ties go by the names of attack, objective, precision and access.
    """
    ties = [c for c in ("attack", "objective", "precision", "access") if c in rows]
    return rows.assign(adv_psnr=shown_psnr(rows)).sort_values([*of, "adv_psnr", *ties], kind="stable")


def worst_rows(rows: pd.DataFrame, of: Sequence[str]) -> pd.DataFrame:
    """The whole row of the attack that leaves the least PSNR in each group of columns ``of``, sorted by them."""
    return by_psnr(rows, of).drop_duplicates(list(of)).reset_index(drop=True)


def bd_rate_attacked(bpp: ArrayLike, psnr: ArrayLike, adv_bpp: ArrayLike, adv_psnr: ArrayLike) -> float:
    """BD-rate (pchip, percent) of the attacked curve against the clean one, over a codec's quality levels.

    One point per level, clean and attacked, each a mean over samples. Positive: under attack the same PSNR costs
    that many more bits. Raises :class:`BadData` where it does not exist: a strong attack leaves a curve that no
    longer rises with rate, or one wholly below the clean curve.
    """
    return bd_rate(bpp, psnr, adv_bpp, adv_psnr)


def _one_sample(x: Tensor) -> None:
    if x.ndim != 5 or len(x) != 1:
        raise ValueError(f"a clip of shape {tuple(x.shape)} was given; expected one sample (1, T, 3, H, W)")


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else NAN
