"""The page's plots, as Plotly figures: rate and distortion, security curves, heat maps, drift over frames.

A family of codecs has one colour, a variant its marker (:mod:`.styles`), a lower bound of damage a hollow one; the
legend says that once, and which entry a point is of is said on hover. Labels are escaped, for Plotly reads some HTML in
them.
"""

from __future__ import annotations

import html
import itertools
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from robustcodec.errors import counted
from robustcodec.page.styles import GREY, MARKERS, Style, Styles
from robustcodec.page.tables import text
from robustcodec.page.view import View
from robustcodec.reporting.points import WORST, arrows, attempts, drift, heat_map, security, worst_of_samples
from robustcodec.reporting.text import ends
from robustcodec.scores.columns import column
from robustcodec.scores.strength import BOUND

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


def drawings(view: View, styles: Styles) -> list[Drawing]:
    """All plots that the numbers of a view allow; ``styles``: those of its entries, in the order to draw them."""
    if view.rows.empty:
        return []
    return [
        *_rate_distortion(view, styles),
        *_security(view, styles),
        *_heat_maps(view.rows, list(styles)),
        *_drift(view, styles),
    ]


def _bounds(view: View, data: str, threat: str = "") -> set[str]:
    """The entries whose damage is a lower bound, at a threat or at any."""
    lines = view.ranking
    if "bound" not in lines:
        return set()
    here = (lines["bound"] == BOUND) & (lines["data"] == data) & ((lines["threat"] == threat) | (not threat))
    return set(lines.loc[here, "entry"])


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


def _trace(x: Iterable[float], y: Iterable[float], name: str, style: Style, hollow: bool, **more: Any) -> go.Scatter:
    marker = {"symbol": style.marker + "-open" * hollow, "size": 8, "opacity": 1} | more.pop("marker", {})
    return go.Scatter(
        x=_numbers(x),
        y=_numbers(y),
        name=safe(name),
        marker={"color": style.colour} | marker,
        line={"color": style.colour, "width": 2} | more.pop("line", {}),
        legendgroup=safe(style.group),
        showlegend=False,
        **more,
    )


def _legend(styles: Iterable[Style], hollow: bool) -> Iterator[go.Scatter]:
    """What colours and markers mean: traces without a point. A family in grey is among the others."""
    shown = list(styles)
    coloured = {style.group: style.colour for style in shown if style.colour != GREY}
    others = {style.group: GREY for style in shown if style.colour == GREY}
    for group, colour in {**coloured, **others}.items():
        yield _key(group, {"color": colour, "symbol": "circle"}, {"color": colour})
    for kind, marker in MARKERS.items():
        if kind != "bare" and any(style.kind == kind for style in shown):
            yield _key(kind, {"color": GREY, "symbol": marker})
    if hollow:
        yield _key("hollow: lower bound", {"color": GREY, "symbol": "circle-open"})


def _key(name: str, marker: Mapping[str, Any], line: Mapping[str, Any] | None = None) -> go.Scatter:
    mode = "lines+markers" if line else "markers"
    return go.Scatter(
        x=[None], y=[None], name=safe(name), legendgroup=safe(name), mode=mode, line=line, marker={"size": 8, **marker}
    )


def _rate_distortion(view: View, styles: Styles) -> Iterator[Drawing]:
    """Per board the clean means of each family's rates, joined by a line, and below them the means under the worst
    attack on each sample, joined by a dashed one. A faint line leads from one to the other.
    """
    for board, group in _boards(arrows(view.rows, ["entry"], view.worst)):
        figure = go.Figure()
        means = group.set_index("entry")[["bpp", "psnr", "adv_bpp", "adv_psnr"]]
        here = {name: style for name, style in styles.items() if name in means.index}
        bounds = _bounds(view, *board)
        for curve in dict.fromkeys(style.curve for style in here.values()):
            joined = means.loc[[name for name, style in here.items() if style.curve == curve]].sort_values("bpp")
            figure.add_traces(list(_clean_and_attacked(joined, here[str(joined.index[0])], bounds)))
        figure.add_traces([*_anchor(view, board[0]), *_legend(here.values(), bool(bounds & here.keys()))])
        rates, qualities = means[["bpp", "adv_bpp"]].to_numpy(), means[["psnr", "adv_psnr"]].to_numpy()
        figure.update_layout(  # an anchor may reach far beyond all entries
            xaxis={"title": {"text": "bits per pixel (real bytes)"}, "range": [0, 1.1 * float(rates.max())]},
            yaxis={"title": {"text": "PSNR (dB)"}, "range": [float(qualities.min()) - 1, float(qualities.max()) + 1]},
        )
        alt = f"Rate and distortion on {board[0]} under {board[1]}: a line per family, a dashed one under attack"
        yield Drawing("rd", board, alt, _json(figure))


def _clean_and_attacked(rates: pd.DataFrame, style: Style, bounds: Collection[str]) -> Iterator[go.Scatter]:
    """Of the rates of one curve, by rising clean rate: the ways from clean to attacked, then both lines."""
    hollow = len(rates) > 0 and set(rates.index) <= set(bounds)
    names = [safe(name) for name in rates.index]
    x, y = (rates.assign(end=math.nan)[[name, f"adv_{name}", "end"]].to_numpy().ravel() for name in ("bpp", "psnr"))
    yield _trace(x, y, style.curve, style, hollow, mode="lines", line={"width": 1}, opacity=0.35, hoverinfo="skip")
    for what, prefix, dash in (("clean", "", "solid"), ("attacked", "adv_", "dash")):
        yield _trace(
            rates[f"{prefix}bpp"],
            rates[f"{prefix}psnr"],
            style.curve,
            style,
            hollow,
            mode="lines+markers",
            line={"dash": dash},
            text=names,
            hovertemplate=f"%{{text}}<br>{what}: %{{y:.2f}} dB at %{{x:.3f}} bpp<extra></extra>",
        )


def _anchor(view: View, data: str) -> Iterator[go.Scatter]:
    if view.anchor is None:
        return
    for codec, curve in view.anchor[view.anchor["data"] == data].groupby("codec"):
        line = curve.sort_values("bpp")
        yield go.Scatter(
            x=_numbers(line["bpp"]),
            y=_numbers(line["psnr"]),
            name=safe(f"{codec}, clean"),
            mode="lines",
            line={"color": GREY, "dash": "dot", "width": 2},
            hovertemplate="%{fullData.name}: %{y:.2f} dB at %{x:.3f} bpp<extra></extra>",
        )


def _security(view: View, styles: Styles) -> Iterator[Drawing]:
    """Per data set, loss of PSNR, rate factor and success rate, one below the other, against input PSNR, where budgets
    differ; the tooltip of a success rate has its interval.
    """
    points = security(view.rows, ["entry"])
    for (data, family), group in points.groupby(["data", "family"], sort=True):
        choices = (WORST, *sorted(set(group["line"]) - {WORST}))
        bounds = _bounds(view, str(data))
        figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05)
        for line, entry in itertools.product(choices, styles):
            curve = group[(group["line"] == line) & (group["entry"] == entry)].sort_values("input_psnr")
            if curve.empty:
                continue
            for row, (score, unit) in enumerate((("loss", "dB lost"), ("rate_ratio", "× the rate"), ("broken", ""))):
                said = _rates(curve) if score == "broken" else f"%{{y:.2f}} {unit} at %{{x:.2f}} dB"
                more = {"mode": "lines+markers", "meta": line, "visible": line == WORST} | _hover(entry, said)
                style = styles[entry]
                figure.add_trace(
                    _trace(curve["input_psnr"], curve[score], entry, style, entry in bounds, **more), row + 1, 1
                )
        figure.add_traces(list(_legend(_drawn(styles, group["entry"]), bool(bounds & set(group["entry"])))))
        figure.update_xaxes(autorange="reversed")
        figure.update_layout(
            xaxis3={"title": {"text": INPUT}},
            yaxis={"title": {"text": "loss of PSNR (dB)"}},
            yaxis2={"title": {"text": "rate, attacked / clean"}},
            yaxis3={"title": {"text": "samples broken"}, "range": [-0.05, 1.05]},
        )
        alt = f"Loss of PSNR, rate factor and success rate on {data} as the budget of {family} grows, a line per entry"
        yield Drawing("security", (str(data), ""), alt, _json(figure), choices)


def _drawn(styles: Styles, entries: Collection[str]) -> Sequence[Style]:
    names = set(entries)
    return [style for name, style in styles.items() if name in names]


def _hover(entry: str, said: str | Sequence[str]) -> dict[str, Any]:
    """The text of each point of an entry's line: one for all of them, or one of each."""
    if isinstance(said, str):
        return {"hovertemplate": f"%{{fullData.name}}<br>{said}<extra></extra>"}
    return {"text": list(said), "hovertemplate": "%{fullData.name}<br>%{text}<extra></extra>"}


def _rates(curve: pd.DataFrame) -> list[str]:
    """The text of each point of a success rate."""
    columns = ("broken", "input_psnr", "broken_low", "broken_high", "samples")
    return [
        f"{rate:.2f} broken at {at:.2f} dB (95 %: {ends(low, high)}; {counted(n, 'sample')})"
        for rate, at, low, high, n in curve[[*columns]].itertuples(index=False)
    ]


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
        attacks = [safe(name) for name in sorted(group["line"].unique())]
        across = {"side": "top", "type": "category", "tickvals": attacks, "ticktext": _short(attacks)}
        figure.update_layout(xaxis=across, yaxis={"type": "category", "dtick": 1})
        alt = f"Heat map of attack and entry on {board[0]} under {board[1]}; the numbers are in the cells"
        yield Drawing(
            "heat", board, alt, _json(figure), tuple(column(score).title for score in HEAT if score in group), lines
        )


def _short(attacks: Sequence[str]) -> list[str]:
    """Attacks without their parameters, where that tells them apart; hover has them in full."""
    bare = [re.sub(r":.*?(?=, [^=]*$|$)", "", name) for name in attacks]
    return [short if bare.count(short) == 1 else whole for short, whole in zip(bare, attacks, strict=True)]


def _drift(view: View, styles: Styles) -> Iterator[Drawing]:
    """Per board of clips, the dB that each frame loses, the mean over samples: a line per entry."""
    if view.curves.empty:
        return
    worst = worst_of_samples(view.rows, ["entry"])
    for board, group in _boards(view.curves):
        points = drift(group, ["entry"], ("objective", "precision"), worst)
        choices = (WORST, *sorted(set(points["line"]) - {WORST}))
        bounds = _bounds(view, *board)
        figure = go.Figure()
        for line, entry in itertools.product(choices, styles):
            curve = points[(points["line"] == line) & (points["entry"] == entry)]
            if curve.empty:
                continue
            more = {"mode": "lines+markers", "meta": line, "visible": line == WORST}
            more |= _hover(entry, "%{y:.2f} dB lost in frame %{x}")
            figure.add_trace(_trace(curve["frame"], curve["loss"], entry, styles[entry], entry in bounds, **more))
        figure.add_traces(list(_legend(_drawn(styles, points["entry"]), bool(bounds & set(points["entry"])))))
        figure.update_layout(
            xaxis={"title": {"text": "frame"}, "dtick": 1 if group["frame"].nunique() <= 24 else None},
            yaxis={"title": {"text": "loss of PSNR to the attack (dB)"}},
        )
        alt = f"Loss of PSNR by frame on {board[0]} under {board[1]}, a line per entry"
        yield Drawing("drift", board, alt, _json(figure), choices)
