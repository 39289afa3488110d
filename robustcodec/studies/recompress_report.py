"""Recompression as tables and a plot: what is left after how many generations, and what each costs.

A number is the mean over samples, which weigh the same; where one sample has none, there is no mean. The same numbers
give the same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from robustcodec.errors import counted
from robustcodec.files import write_whole
from robustcodec.interfaces import Metric
from robustcodec.reporting import pictures, text
from robustcodec.reporting.text import escape, to_csv
from robustcodec.scores.columns import column
from robustcodec.studies.compare import Failure
from robustcodec.studies.compare_report import markdown_rows, without_folders
from robustcodec.studies.recompress import words

LINE = ["between", "codec", "defense", "first"]
STROKES = ("-", "--", ":", "-.")  # clean comes first


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each line of :func:`~robustcodec.studies.recompress.study` and generation the means over samples:
    :data:`LINE`, ``generation``, ``bpp`` and the scores. NaN where a sample has no value, such as one that could not be
    decoded.
    """
    scores = list(rows.columns[rows.columns.get_loc("bpp") :])
    groups = rows.groupby([*LINE, "generation"], sort=False)
    whole = groups[scores].count() == rows["sample"].nunique()
    return groups[scores].mean().where(whole).reset_index().dropna(subset=["bpp"]).reset_index(drop=True)


def shown(generations: int) -> list[int]:
    """Which generations a table shows: 1, 2, 3, 5, 10, 20, 50 … and the last."""
    steps = [1, 2, 3, *(m * 10**k for k in range(len(str(generations))) for m in (5, 10, 20))]
    return sorted({step for step in steps if step < generations} | {generations})


def markdown(rows: pd.DataFrame, failures: Sequence[Failure], metrics: Sequence[Metric], data: str) -> str:
    """:func:`means` as Markdown: for each way between generations a table per score, and what is missing."""
    points = means(rows)
    samples, last = rows["sample"].nunique(), int(rows["generation"].max()) if len(rows) else 0
    parts = [
        f"# Recompression: {escape(data)}",
        f"Each number is the mean over {counted(samples, 'sample')}. Every generation is coded to real bytes, "
        "decoded from them and rounded to 8 bits; the next one codes what came of it. Scores are against the clean "
        "source, also where the first input was attacked; shifts are undone exactly before scoring.",
    ]
    for between, group in points.groupby("between", sort=False):
        parts.append(f"## Between generations: {escape(str(between))}")
        for name, (title, digits) in _scores(metrics).items():
            table = [
                [words(*key), *(text.shown(value, digits) for value in line.reindex(shown(last)))]
                for key, line in _lines(group, name)
            ]
            parts += [f"### {title}", markdown_rows(["codec and first input", *map(str, shown(last))], table)]
    if failures:
        missing = [[failure.codec, failure.clip, failure.reason] for failure in failures]
        parts += ["## Not measured", markdown_rows(["line", "sample", "why"], missing, numbers=False)]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def _scores(metrics: Sequence[Metric]) -> dict[str, tuple[str, int]]:
    """By column: what it is called in print, and its decimals."""
    previous = column("previous_psnr")
    return {
        **{metric.name: (metric.column.title, metric.digits) for metric in metrics},
        "bpp": ("bits per pixel (real bytes)", 4),
        previous.name: (previous.title, previous.digits),
    }


def _defended(defense: str) -> str:
    return "no defense" if defense == "none" else defense


def _lines(points: pd.DataFrame, score: str) -> Iterator[tuple[tuple[str, str, str], pd.Series[float]]]:
    """Codec, defense and first input, with the score by generation."""
    for (codec, defense, first), line in points.groupby(LINE[1:], sort=False):
        yield (str(codec), str(defense), str(first)), line.set_index("generation")[score]


def plot(points: pd.DataFrame, metrics: Sequence[Metric], data: str, path: Path) -> Path:
    """A PNG of :func:`means`: metrics that have a value and bits per pixel over generations; a column per ``between``.

    Colour is the codec, the marker the defense, the stroke the first input. Raises :class:`StoreError` if ``path``
    cannot be written.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    def styles(column: str, looks: Sequence[str]) -> dict[str, str]:
        return {name: looks[i % len(looks)] for i, name in enumerate(points[column].unique())}

    titles = {name: title for name, (title, _) in _scores(metrics).items() if name != "previous_psnr"}
    drawn = {name: title for name, title in titles.items() if points[name].notna().any()}
    betweens = list(points.groupby("between", sort=False))
    colours, markers = styles("codec", pictures.COLOURS), styles("defense", pictures.MARKERS)
    strokes = styles("first", STROKES)
    longest = max(map(len, [*colours, *markers, *strokes]))
    entries = len(colours) + len(markers) + len(strokes)
    wide = 4.5 * len(betweens) + 1 + 0.075 * longest
    with pictures.figure_of(wide, max(2.6 * len(drawn), 1 + 0.24 * entries), path) as figure:
        axes = figure.subplots(len(drawn), len(betweens), squeeze=False, sharex=True, sharey="row")
        for across, (between, group) in enumerate(betweens):
            for axis, name in zip(axes[:, across], drawn, strict=True):
                for (codec, defense, first), line in _lines(group, name):
                    look = {"color": colours[codec], "marker": markers[defense], "linestyle": strokes[first]}
                    axis.plot(line.index, line, markersize=4, **look)
                axis.grid(color="0.9")
                axis.set_axisbelow(True)
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            step = [] if between == "none" else [f"between: {between}"]
            axes[0, across].set_title("\n".join([*textwrap.wrap(data, 50), *step]), fontsize="medium")
            axes[-1, across].set_xlabel("generation")
        for axis, title in zip(axes[:, 0], drawn.values(), strict=True):
            axis.set_ylabel(title)
        handles = [
            *(Line2D([], [], color=colour, lw=3, label=name) for name, colour in colours.items()),
            *(Line2D([], [], ls="", marker=m, color="0.3", label=_defended(d)) for d, m in markers.items()),
            *(Line2D([], [], ls=stroke, color="0.3", label=name) for name, stroke in strokes.items()),
        ]
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return path


def write(
    rows: pd.DataFrame, failures: Sequence[Failure], metrics: Sequence[Metric], data: str, folder: Path
) -> list[Path]:
    """Write ``recompression.csv`` (a row per line, sample and generation), ``recompression.md`` (means) and, if there
    is anything to draw, ``recompression.png``.

    ``rows``, ``failures``: of :func:`~robustcodec.studies.recompress.study`; ``data``: the data set, of whose path the
    last part is named. Raises :class:`StoreError` if the folder cannot be written.
    """
    data = without_folders(data)
    table, summary = folder / "recompression.csv", folder / "recompression.md"
    write_whole(table, to_csv(rows, "%.6g").encode())
    write_whole(summary, markdown(rows, failures, metrics, data).encode())
    points = means(rows)
    return [table, summary, *([plot(points, metrics, data, folder / "recompression.png")] if len(points) else [])]
