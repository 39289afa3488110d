"""Numbers as the page shows them: heads, digits, and the tables beside one entry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from robustcodec.reporting.points import worst_of_samples
from robustcodec.running.store import with_precision
from robustcodec.scores.columns import column, contributed
from robustcodec.scores.robustness import WorstRows

ATTEMPT = ("threat", "data", "attack", "objective", "precision")
ATTACKS = (*ATTEMPT, "adv_psnr", "delta_psnr", "delta_own_psnr", "vi_db", "rate_ratio", "input_psnr", "input_linf")
ATTACKS_TOO = ("broken", "queries", "decode_failed", "samples")
SAMPLES = ("threat", "data", "sample", "attack", "bpp", "psnr", "adv_bpp", "adv_psnr", "loss", "rate_ratio")
SAMPLES_TOO = ("delta_own_psnr", "vi_db", "input_psnr", "input_linf", "decode_failed")
CLEAN = ("bpp", "psnr")  # the ranking explains them
LAST = ("sample", "loss", "adv_bpp", "decode_failed")  # in the glossary
HEADS = {  # short ones with their units, so that a table fits a page
    "rank": "rank",
    "score": "score (%)",
    "clean_score": "unattacked (%)",
    "best_known": "best known (%)",
    "best_known_psnr": "best (dB)",
    "psnr": "clean (dB)",
    "adv_psnr": "attacked (dB)",
    "robust_psnr": "robust (dB)",
    "drop": "loss (dB)",
    "loss": "loss (dB)",
    "delta_psnr": "loss (dB)",
    "delta_own_psnr": "own loss (dB)",
    "adv_ms_ssim": "att. MS-SSIM",
    "vi_db": "VI (dB)",
    "break_db": "break (dB)",
    "input_psnr": "input (dB)",
    "input_linf": "L∞ (1/255)",
    "decode_failures": "undecodable",
    "decode_failed": "undecodable",
}


def head(name: str) -> str:
    """What stands above a column: at most some 14 letters for those of this package."""
    return HEADS.get(name) or column(name).title


def digits(name: str) -> int:
    """How many decimals a column is shown with."""
    return column(name).digits


def text(value: object, name: str) -> str:
    """A value in print: numbers with the decimals of their column, whole ones without, – where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or value is pd.NA:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits(name)}f}".replace("-", "−")
    return str(value)


def _plain(value: Any, name: str) -> Any:
    """As JSON has it, with no more digits than are shown and sorted by."""
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        return round(number, digits(name) + 1) if math.isfinite(number) else None
    return value


def _table(frame: pd.DataFrame, names: Iterable[str]) -> dict[str, Any]:
    shown = [name for name in names if name in frame]
    heads = [
        {
            "name": head(name),
            "about": None if name in CLEAN else column(name).meaning,
            "number": bool(pd.api.types.is_numeric_dtype(frame[name])),
            "digits": digits(name) if pd.api.types.is_float_dtype(frame[name]) else 0,
        }
        for name in shown
    ]
    lines = [
        [_plain(value, name) for value, name in zip(line, shown, strict=True)]
        for line in frame[shown].itertuples(index=False, name=None)
    ]
    return {"columns": heads, "rows": lines}


def _several_precisions(rows: pd.DataFrame) -> bool:
    """Whether any entry's attacks were crafted in several; a single one is among the facts of the entry."""
    return "precision" in rows and bool((rows.groupby("entry")["precision"].nunique() > 1).any())


def _of_attacks(rows: pd.DataFrame) -> list[str]:
    """The columns of the table of attacks, with what metrics and objectives brought."""
    unsaid = () if _several_precisions(rows) else ("precision",)
    return [*(name for name in (*ATTACKS, *ATTACKS_TOO) if name not in unsaid), *contributed(rows)]


def of_entries(rows: pd.DataFrame, worst: WorstRows) -> dict[str, dict[str, Any]]:
    """By entry, the table of its attacks (means over samples) and that of its samples (under the attack that counts
    in the ranking).
    """
    if rows.empty:
        return {}
    rows = with_precision(rows)
    scores = [name for name in (*ATTACKS, *ATTACKS_TOO, *contributed(rows)) if name in rows and name not in ATTEMPT]
    groups = rows.groupby(["entry", *ATTEMPT], sort=True)
    attacks = groups[scores].mean().assign(samples=groups["sample"].nunique()).reset_index()
    samples = dict(list(worst_of_samples(rows, ["entry"], worst).groupby("entry")))
    return {
        str(entry): {
            "attacks": _table(group, _of_attacks(group)),
            "samples": _table(samples[entry], (*SAMPLES, *SAMPLES_TOO, *contributed(samples[entry]))),
        }
        for entry, group in attacks.groupby("entry")
    }


def captions(rows: pd.DataFrame) -> dict[tuple[str, str, str, str], dict[str, str]]:
    """By entry, threat, data and sample: the numbers under its pictures, as printed."""
    if rows.empty:
        return {}
    shown = ("bpp", "psnr", "adv_bpp", "adv_psnr", "input_psnr")
    return {
        (row["entry"], row["threat"], row["data"], row["sample"]): {name: text(row[name], name) for name in shown}
        for row in worst_of_samples(rows, ["entry"]).to_dict("records")
    }


def glossary(meanings: dict[str, str], ranked: Sequence[str], rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Head and meaning of the ranking's columns, then of those beside an entry of ``rows`` that it has not."""
    in_ranking = {head(name): meanings[name] for name in ranked if name in meanings}
    first = [name for name in _of_attacks(rows) if name not in LAST]
    beside = {head(name): column(name).meaning for name in (*first, *LAST)}
    return [*in_ranking.items(), *((name, meaning) for name, meaning in beside.items() if name not in in_ranking)]
