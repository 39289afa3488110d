"""The page's plots, as Plotly figures: rate–distortion arrows, security curves, heat maps, drift over frames.

Colours are Okabe & Ito's (:mod:`robustcodec.reporting.pictures`); markers and dashes say the same without colour.
Labels are escaped, for Plotly reads some HTML in them.
"""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from robustcodec.errors import counted
from robustcodec.page.tables import text
from robustcodec.page.view import View
from robustcodec.reporting.pictures import COLOURS
from robustcodec.reporting.points import WORST, arrows, attempts, drift, heat_map, security, worst_of_samples
from robustcodec.reporting.text import ends
from robustcodec.scores.columns import column

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "x")
DASHES = ("solid", "dash", "dot", "dashdot")
NEUTRAL = "#808080"  # legible on light and on dark
HEAT = ("delta_psnr", "delta_own_psnr", "vi_db", "rate_ratio")  # what a heat map can show; the first is shown first
INPUT = "input PSNR (dB): stronger attack →"


@dataclass(frozen=True)
class Drawing:
    """One plot. ``board``: (data, threat) it is of, no threat where it is of several; ``choices``: what a switch
    shows one at a time, the ``meta`` of its traces; ``rows``: lines of a heat map, which decide its height.
    """

    kind: str
    board: tuple[str, str]
    alt: str
    figure: str
    choices: tuple[str, ...] = ()
    rows: int = 0


def drawings(view: View) -> list[Drawing]:
    """All plots that the numbers of a view allow."""
    if view.rows.empty:
        return []
    names = list(dict.fromkeys([*view.ranking["entry"], *view.rows["entry"]]))
    styles = {name: _style(i) for i, name in enumerate(names)}
    return [
        *_rate_distortion(view, styles),
        *_security(view, styles),
        *_heat_maps(view.rows, names),
        *_drift(view, styles),
    ]


def _style(index: int) -> dict[str, Any]:
    """Colour, marker and dash of the entry at a place of the ranking; the black of the palette is left to the page."""
    colour = COLOURS[index % (len(COLOURS) - 1)]
    return {"colour": colour, "symbol": SYMBOLS[index % len(SYMBOLS)], "dash": DASHES[index % len(DASHES)]}


def safe(text: object) -> str:
    """``text`` as Plotly shows it letter by letter."""
    return html.escape(str(text), quote=False)


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [None if pd.isna(v) else round(float(v), 4) for v in values]


def _json(figure: go.Figure) -> str:
    table = json.loads(figure.to_json())
    table["layout"].pop("template", None)  # the page has a light and a dark one
    return json.dumps({"data": table["data"], "layout": table["layout"]}, separators=(",", ":"), sort_keys=True)


def _boards(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for (data, threat), group in frame.groupby(["data", "threat"], sort=True):
        yield (str(data), str(threat)), group


def _trace(x: Iterable[float], y: Iterable[float], name: str, style: Mapping[str, Any], **more: Any) -> go.Scatter:
    marker = {
        "color": style["colour"],
        "symbol": style["symbol"],
        "size": 8,
        "opacity": 1,
        "line": {"width": 0},
    } | more.pop("marker", {})
    line = {"color": style["colour"], "dash": style["dash"], "width": 2}
    return go.Scatter(x=_numbers(x), y=_numbers(y), name=safe(name), marker=marker, line=line, **more)


def _rate_distortion(view: View, styles: Mapping[str, dict[str, Any]]) -> Iterator[Drawing]:
    """Per board and entry an arrow from its clean mean to its mean under the worst attack on each sample."""
    for board, group in _boards(arrows(view.rows, ["entry"], view.worst)):
        figure = go.Figure()
        anchor = view.anchor[view.anchor["data"] == board[0]] if view.anchor is not None else pd.DataFrame()
        for codec, curve in anchor.groupby("codec") if len(anchor) else ():
            line = curve.sort_values("bpp")
            style = {"colour": NEUTRAL, "symbol": "line-ns-open", "dash": "longdash"}
            figure.add_trace(_trace(line["bpp"], line["psnr"], f"{codec}, clean", style, mode="lines+markers"))
        means = group.set_index("entry")[["bpp", "psnr", "adv_bpp", "adv_psnr"]]
        for entry in (name for name in styles if name in means.index):
            bpp, psnr, adv_bpp, adv_psnr = map(float, means.loc[entry])
            style = styles[entry]
            shared = {
                "legendgroup": safe(entry),
                "hovertemplate": "%{text}: %{y:.2f} dB at %{x:.3f} bpp<extra>%{fullData.name}</extra>",
            }
            ends = {"symbol": ["circle", "arrow"], "size": [1, 14], "angleref": "previous"}
            arrow = {
                "mode": "lines+markers",
                "marker": ends,
                "text": ["clean", "attacked"],
                "showlegend": False,
            } | shared
            solid = style | {"dash": "solid"}
            figure.add_trace(_trace((bpp, adv_bpp), (psnr, adv_psnr), entry, solid, **arrow))
            start = {"mode": "markers", "marker": {"size": 10}, "text": ["clean"]} | shared
            figure.add_trace(_trace((bpp,), (psnr,), entry, style, **start))
        rates, qualities = means[["bpp", "adv_bpp"]].to_numpy(), means[["psnr", "adv_psnr"]].to_numpy()
        figure.update_layout(  # an anchor may reach far beyond all entries
            xaxis={"title": {"text": "bits per pixel (real bytes)"}, "range": [0, 1.1 * float(rates.max())]},
            yaxis={"title": {"text": "PSNR (dB)"}, "range": [float(qualities.min()) - 1, float(qualities.max()) + 1]},
        )
        alt = f"Rate and distortion on {board[0]} under {board[1]}: an arrow per entry from clean to attacked"
        yield Drawing("rd", board, alt, _json(figure))


def _security(view: View, styles: Mapping[str, dict[str, Any]]) -> Iterator[Drawing]:
    """Per data set, loss of PSNR, rate factor and success rate, one below the other, against input PSNR, where budgets
    differ; the tooltip of a success rate has its interval.
    """
    points = security(view.rows, ["entry"])
    for (data, family), group in points.groupby(["data", "family"], sort=True):
        choices = (WORST, *sorted(set(group["line"]) - {WORST}))
        figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05)
        for line, entry in itertools.product(choices, styles):
            curve = group[(group["line"] == line) & (group["entry"] == entry)].sort_values("input_psnr")
            if curve.empty:
                continue
            shared = {"mode": "lines+markers", "meta": line, "visible": line == WORST, "legendgroup": entry}
            for row, score in ((1, "loss"), (2, "rate_ratio"), (3, "broken")):
                named = {"showlegend": row == 1} | shared | (_rates(curve) if score == "broken" else {})
                figure.add_trace(_trace(curve["input_psnr"], curve[score], entry, styles[entry], **named), row, 1)
        figure.update_xaxes(autorange="reversed")
        figure.update_layout(
            xaxis3={"title": {"text": INPUT}},
            yaxis={"title": {"text": "loss of PSNR (dB)"}},
            yaxis2={"title": {"text": "rate, attacked / clean"}},
            yaxis3={"title": {"text": "samples broken"}, "range": [-0.05, 1.05]},
        )
        alt = f"Loss of PSNR, rate factor and success rate on {data} as the budget of {family} grows, a line per entry"
        yield Drawing("security", (str(data), ""), alt, _json(figure), choices)


def _rates(curve: pd.DataFrame) -> dict[str, Any]:
    """The text of each point of a success rate."""
    intervals = zip(curve["broken_low"], curve["broken_high"], curve["samples"], strict=True)
    text = [f"95 %: {ends(low, high)}; {counted(n, 'sample')}" for low, high, n in intervals]
    return {"text": text, "hovertemplate": "%{y:.2f} broken at %{x:.2f} dB (%{text})<extra>%{fullData.name}</extra>"}


def _heat_maps(rows: pd.DataFrame, names: list[str]) -> Iterator[Drawing]:
    """Per board, entry down and attack across: three scores, the mean over samples in each cell."""
    for board, group in _boards(rows.assign(line=attempts(rows))):
        figure = go.Figure()
        lines = 0
        for score in (score for score in HEAT if score in group):
            matrix = heat_map(group, score, ["entry"], ["line"])
            matrix = matrix.reindex([name for name in reversed(names) if name in matrix.index])
            lines = len(matrix)
            numbers = [[text(float(value), score) for value in line] for line in matrix.to_numpy()]
            figure.add_trace(
                go.Heatmap(
                    z=[_numbers(line) for line in matrix.to_numpy()],
                    x=[safe(name) for name in matrix.columns],
                    y=[safe(name) for name in matrix.index],
                    text=numbers,
                    texttemplate="%{text}",
                    hovertemplate="%{y}<br>%{x}: %{text}<extra></extra>",
                    colorscale="Cividis",
                    xgap=2,
                    ygap=2,
                    meta=column(score).title,
                    visible=score == HEAT[0],
                    colorbar={"thickness": 12},
                )
            )
        figure.update_layout(xaxis={"side": "top", "type": "category"}, yaxis={"type": "category"})
        alt = f"Heat map of attack and entry on {board[0]} under {board[1]}; the numbers are in the cells"
        yield Drawing(
            "heat", board, alt, _json(figure), tuple(column(score).title for score in HEAT if score in group), lines
        )


def _drift(view: View, styles: Mapping[str, dict[str, Any]]) -> Iterator[Drawing]:
    """Per board of clips, the dB that each frame loses, the mean over samples: a line per entry."""
    if view.curves.empty:
        return
    worst = worst_of_samples(view.rows, ["entry"])
    for board, group in _boards(view.curves):
        points = drift(group, ["entry"], ("objective", "precision"), worst)
        choices = (WORST, *sorted(set(points["line"]) - {WORST}))
        figure = go.Figure()
        for line, entry in itertools.product(choices, styles):
            curve = points[(points["line"] == line) & (points["entry"] == entry)]
            if curve.empty:
                continue
            more = {"mode": "lines+markers", "meta": line, "visible": line == WORST}
            figure.add_trace(_trace(curve["frame"], curve["loss"], entry, styles[entry], **more))
        figure.update_layout(
            xaxis={"title": {"text": "frame"}, "dtick": 1 if group["frame"].nunique() <= 24 else None},
            yaxis={"title": {"text": "loss of PSNR to the attack (dB)"}},
        )
        alt = f"Loss of PSNR by frame on {board[0]} under {board[1]}, a line per entry"
        yield Drawing("drift", board, alt, _json(figure), choices)
