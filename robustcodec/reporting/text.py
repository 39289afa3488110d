"""Values as text: in print, and in a cell of a Markdown table."""

from __future__ import annotations

import re

import pandas as pd

from robustcodec.scores.columns import column


def shown(value: object, digits: int = 2) -> str:
    """A value as tables print it: numbers with so many decimals, – where there is none."""
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.{digits}f}"
    return "–" if value is None or value is pd.NA else str(value)


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
