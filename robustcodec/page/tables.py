"""Numbers as the page shows them: labels, digits, and the tables beside one entry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from robustcodec.reporting import tables as report
from robustcodec.reporting.text import DIGITS
from robustcodec.scores.robustness import Worst, worst_rows

LABELS = {
    "rank": "#",
    "bpp": "bpp",
    "psnr": "PSNR",
    "ms_ssim": "MS-SSIM",
    "robust_psnr": "robust PSNR",
    "robust_low": "robust low",
    "robust_high": "robust high",
    "vi_db": "VI dB",
    "rate_ratio": "rate ×",
    "break_db": "break dB",
    "adv_psnr": "attacked PSNR",
    "adv_bpp": "attacked bpp",
    "delta_psnr": "loss of PSNR",
    "input_psnr": "input PSNR",
    "loss": "loss of PSNR",
}
ATTACKS = ("threat", "data", "attack", "objective", "adv_psnr", "delta_psnr", "vi_db", "rate_ratio", "input_psnr")
ATTACKS_TOO = ("broken", "queries", "decode_failed", "samples")
SAMPLES = ("threat", "data", "sample", "attack", "bpp", "psnr", "adv_bpp", "adv_psnr", "loss", "rate_ratio")
SAMPLES_TOO = ("vi_db", "input_psnr", "decode_failed")
MEANINGS = {
    **{name: report.ATTACKS[name] for name in (*ATTACKS, *ATTACKS_TOO) if name in report.ATTACKS},
    "sample": "the name of an image or clip within its data set",
    "loss": "clean PSNR − PSNR under the worst attack in dB, of one sample",
    "adv_bpp": report.ATTACKS["adv_bpp"],
    "decode_failed": "share of attacked streams that the decoder could not decode; such a sample counts as 0 dB",
}


def label(column: str) -> str:
    """A column's name in print."""
    return LABELS.get(column, column.replace("_", " "))


def digits(column: str) -> int:
    """How many decimals a column is shown with."""
    return DIGITS.get(column, 2)


def text(value: object, column: str) -> str:
    """A value in print: numbers with the decimals of their column, whole ones without, – where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or value is pd.NA:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits(column)}f}".replace("-", "−")
    return str(value)


def worst_of_samples(rows: pd.DataFrame, worst: Worst) -> pd.DataFrame:
    """The row of the worst attack on each sample of each entry, data set and threat, and its ``loss`` in dB."""
    hit = worst_rows(rows, ["entry", "data", "threat", "sample"], worst)
    return hit.assign(loss=hit["psnr"] - hit["adv_psnr"])


def _plain(value: Any, column: str) -> Any:
    """As JSON has it, with no more digits than are shown and sorted by."""
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        return round(number, digits(column) + 1) if math.isfinite(number) else None
    return value


def _table(frame: pd.DataFrame, columns: Iterable[str]) -> dict[str, Any]:
    known = [c for c in columns if c in frame]
    heads = [
        {
            "name": label(c),
            "about": MEANINGS.get(c),
            "number": bool(pd.api.types.is_numeric_dtype(frame[c])),
            "digits": digits(c) if pd.api.types.is_float_dtype(frame[c]) else 0,
        }
        for c in known
    ]
    lines = [
        [_plain(v, c) for v, c in zip(line, known, strict=True)]
        for line in frame[known].itertuples(index=False, name=None)
    ]
    return {"columns": heads, "rows": lines}


def of_entries(rows: pd.DataFrame, worst: Worst) -> dict[str, dict[str, Any]]:
    """By entry, the table of its attacks (means over samples) and that of its samples (under the worst attack)."""
    if rows.empty:
        return {}
    keys = ["threat", "data", "attack", "objective"]
    scores = [c for c in (*ATTACKS, *ATTACKS_TOO) if c in rows and c not in keys]
    groups = rows.groupby(["entry", *keys], sort=True)
    attacks = groups[scores].mean().assign(samples=groups["sample"].nunique()).reset_index()
    hit = dict(list(worst_of_samples(rows, worst).groupby("entry")))
    return {
        str(entry): {
            "attacks": _table(group, (*ATTACKS, *ATTACKS_TOO)),
            "samples": _table(hit[entry], (*SAMPLES, *SAMPLES_TOO)),
        }
        for entry, group in attacks.groupby("entry")
    }


def captions(rows: pd.DataFrame, worst: Worst) -> dict[tuple[str, str, str, str], dict[str, str]]:
    """By entry, threat, data and sample: the numbers under its pictures, as printed."""
    if rows.empty:
        return {}
    shown = ("bpp", "psnr", "adv_bpp", "adv_psnr", "input_psnr")
    return {
        (row["entry"], row["threat"], row["data"], row["sample"]): {c: text(row[c], c) for c in shown}
        for row in worst_of_samples(rows, worst).to_dict("records")
    }


def glossary(meanings: dict[str, str], columns: Sequence[str]) -> list[tuple[str, str]]:
    """Label and meaning of the ranking's columns, then of those beside an entry that it has not."""
    known = {label(c): meanings[c] for c in columns if c in meanings}
    beside = {label(c): meaning for c, meaning in MEANINGS.items()}
    return [*known.items(), *((name, meaning) for name, meaning in beside.items() if name not in known)]
