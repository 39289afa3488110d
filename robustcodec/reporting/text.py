"""Values as text: in print, and in a cell of a Markdown table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from robustcodec.scores.columns import column
from robustcodec.scores.intervals import TOO_FEW
from robustcodec.scores.strength import BOUND, BOUNDED


def shown(value: object, digits: int = 2) -> str:
    """A value as tables print it: numbers with so many decimals, – where there is none."""
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.{digits}f}"
    return "–" if value is None or value is pd.NA else str(value)


def ends(low: float, high: float, digits: int = 2, sign: str = "-") -> str:
    """An interval in print; it says so where samples were too few for one."""
    return TOO_FEW if pd.isna(low) else f"{low:{sign}.{digits}f} to {high:{sign}.{digits}f}"


def place(line: Mapping[Any, Any]) -> str:
    """A rank in print: ``4``, or ``4 (2–9)`` where the samples leave it open; – of a lower bound."""
    left = spread(line)
    return f"{line['rank']} ({left})" if "–" in left and left != "–" else left


def spread(line: Mapping[Any, Any]) -> str:
    """The ranks that the samples leave open: ``2–9``, or one; – of a lower bound."""
    if pd.isna(line["rank"]):
        return "–"
    low, high = line["rank_low"], line["rank_high"]
    return f"{low}" if low == high else f"{low}–{high}"


def bounded(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with a sign before what is a lower bound of damage: ≥ where low values speak for a codec, else ≤."""
    lines = table.copy()
    known = [name for name in BOUNDED if name in lines] if (lines["bound"] == BOUND).any() else []
    for name in known:
        one = column(name)
        sign = "≤" if one.better == "high" else "≥"
        printed = [value if isinstance(value, str) else shown(value, one.digits) for value in lines[name]]
        lines[name] = [f"{sign} {v}" if b == BOUND else v for v, b in zip(printed, lines["bound"], strict=True)]
    return lines


def escape(text: str) -> str:
    """``text`` as it reads inside one cell of a GitHub Markdown table."""
    return re.sub(r"\r\n|\r|\n", "<br>", re.sub(r"([\\|`*<\[])", r"\\\1", text))


def to_markdown(frame: pd.DataFrame) -> str:
    """``frame`` as a GitHub Markdown table: numbers to the right, a named index as the first columns, NaN as –."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    names = [", ".join(str(p) for p in (c if isinstance(c, tuple) else (c,)) if p != "") for c in frame.columns]
    ruler = ["---:" if pd.api.types.is_numeric_dtype(dtype) else "---" for dtype in frame.dtypes]
    body = [
        [escape(shown(value, column(name).digits)) for name, value in zip(names, line, strict=True)]
        for line in frame.itertuples(index=False, name=None)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in [[escape(n) for n in names], ruler, *body])
