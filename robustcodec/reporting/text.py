"""Values as text: in print, in a cell of a Markdown table, and in CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from robustcodec.reporting.printing import printable
from robustcodec.scores.columns import column
from robustcodec.scores.intervals import TOO_FEW
from robustcodec.scores.strength import BOUND, BOUNDED


def shown(value: object, digits: int = 2) -> str:
    """A value as tables print it: numbers with so many decimals, – where there is none, and no zero with a minus."""
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:z.{digits}f}"
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
        lines[name] = [
            f"{sign} {v}" if b == BOUND and v != "–" else v for v, b in zip(printed, lines["bound"], strict=True)
        ]
    return lines


# signs that Markdown takes for its own; _, & and what begins a line where they would be read as such
_MARKDOWN = re.compile(r"[\\|`*<\[~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|&(?=#?\w+;)|^(?=[#+-]+\s|>)", re.MULTILINE)
_FORMULA = re.compile(r"[=+\-@\t\r]")  # how a cell begins that spreadsheets run


def escape(text: str) -> str:
    """``text`` as it reads inside one cell of a GitHub Markdown table, or in a line of its own."""
    marked = _MARKDOWN.sub(lambda match: f"\\{match[0]}", printable(text))
    return re.sub(r"\r\n|\r|\n", "<br>", marked)


def code(text: str) -> str:
    """``text`` as Markdown shows code: between more backticks than it has beside each other."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{space}{' '.join(printable(text).split())}{space}{fence}"


def to_csv(frame: pd.DataFrame, digits: str | None = None) -> str:
    """``frame`` without its index as CSV, floats in the format ``digits``. Texts that a spreadsheet would run
    (``=cmd``, ``@x``, but not ``-1.5``) begin with an apostrophe, which makes it show them.
    """
    safe = frame.copy()
    for name, kind in frame.dtypes.items():
        if not pd.api.types.is_numeric_dtype(kind):
            safe[name] = frame[name].map(_unrun)
    safe.columns = pd.Index([_unrun(name) for name in frame])
    return safe.to_csv(index=False, float_format=digits, lineterminator="\n")


def _unrun(value: Any) -> Any:
    if not isinstance(value, str) or not _FORMULA.match(value) or _is_number(value):
        return value
    return f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
