"""The ranking as the page shows it: few columns at first, intervals beside their numbers, lower bounds marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from robustcodec.page.styles import Styles
from robustcodec.page.tables import digits, head, text
from robustcodec.page.view import View
from robustcodec.reporting.text import bounded, spread
from robustcodec.scores.columns import column
from robustcodec.scores.strength import BOUND, BOUNDED

INTERVALS = {  # columns that stand beside the number that they are of
    "rank": ("rank_low", "rank_high"),
    "score": ("score_low", "score_high"),
    "robust_psnr": ("robust_low", "robust_high"),
}
PLACE = ("data", "threat")  # one value each where one of them is chosen
WHY_BOUND = (
    "A lower bound: no attack that looks inside this codec was run (through its defense, if it has one), so the worst "
    "case is at least as bad. It has no rank."
)


def board_of(data: object, threat: object) -> str:
    """What the page calls a data set and threat."""
    return f"{data} · {threat}"


def columns_of(view: View) -> list[dict[str, Any]]:
    """The columns, those of :attr:`View.main` first and in its order; ``more``: what is shown on demand."""
    beside = {name for name, ends in INTERVALS.items() if name in view.ranking for name in ends}
    names = [name for name in map(str, view.ranking) if name not in beside]
    main = [name for name in (*PLACE, *view.main) if name in names] if view.main else names
    return [
        {
            "name": name,
            "head": head(name),
            "number": bool(pd.api.types.is_numeric_dtype(view.ranking[name])),
            "about": view.meanings.get(name, ""),
            "more": name not in main,
        }
        for name in [*main, *(name for name in names if name not in main)]
    ]


def lines_of(view: View, styles: Styles) -> list[dict[str, Any]]:
    """Its lines, each with the cells of :func:`columns_of`."""
    columns = columns_of(view)
    printed = _printed(view.ranking)
    lines = zip(view.ranking.to_dict("records"), printed.to_dict("records"), strict=True)
    return [_line(view, styles, columns, line, shown) for line, shown in lines]


def _line(
    view: View, styles: Styles, columns: list[dict[str, Any]], line: Mapping[Any, Any], shown: Mapping[Any, Any]
) -> dict[str, Any]:
    bound = line.get("bound") == BOUND
    return {
        "entry": line["entry"],
        "board": board_of(line["data"], line["threat"]),
        "style": styles[line["entry"]],
        "bound": bound,
        "disputed": line["entry"] in view.details and bool(view.details[line["entry"]].disputed),
        "found": not pd.isna(line.get("best_known", math.nan)),
        "cells": [
            {
                "column": each["name"],
                "text": text(shown[each["name"]], each["name"]),
                "interval": _interval(line, each["name"]),
                "number": each["number"],
                "order": _order(line[each["name"]]),
                "why": WHY_BOUND if bound and each["name"] in BOUNDED else "",
            }
            for each in columns
        ],
    }


def _printed(ranking: pd.DataFrame) -> pd.DataFrame:
    """``ranking`` with percents as they are said, and signs before lower bounds, where it has them."""
    percents = {name: ranking[name].map(_percent) for name in map(str, ranking) if column(name).unit == "%"}
    told = ranking.assign(**percents)
    return bounded(told) if "bound" in told else told


def _percent(value: Any) -> str:
    return "–" if pd.isna(value) else f"{value:+.0f} %".replace("-", "−")


def _interval(line: Mapping[Any, Any], name: str) -> str:
    """What is left open of a number, in parentheses; nothing where nothing is."""
    if name == "rank" and "rank_low" in line:
        left = spread(line)
        return f"({left})" if "–" in left and left != "–" else ""
    low, high = (line.get(end, math.nan) for end in INTERVALS.get(name, ("", "")))
    if pd.isna(low) or pd.isna(high):
        return ""
    decimals = 0 if column(name).unit == "%" else digits(name) - 1
    return f"({low:.{decimals}f} … {high:.{decimals}f})".replace("-", "−")


def _order(value: Any) -> str:
    """What a cell is sorted by: the number, empty where there is none."""
    return "" if value is None or pd.isna(value) else str(value)
