"""Rate–distortion curves as tables, BD-rates and plots.

As in Fig. 4 of Veerabadran et al., "Adversarial Distortion for Learned Video Compression", CVPRW 2020
(https://arxiv.org/abs/2004.09508). BD-rates are between curves of means over clips, by :mod:`robustcodec.scores.rate`.
The same numbers give the same bytes.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import pandas as pd

from robustcodec.errors import BadData, counted
from robustcodec.files import write_whole
from robustcodec.interfaces import Metric
from robustcodec.reporting import pictures
from robustcodec.reporting.text import escape, shown, to_csv
from robustcodec.scores import rate
from robustcodec.scores.perception import SET_SCORES, SetScore
from robustcodec.studies.compare import SECONDS, Failure


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each codec the mean over clips, which weigh the same: ladders in their order, each by rising ``bpp``.

    A codec that lacks a clip which another one has is left out: its mean would be of other clips.
    """
    clips = rows["clip"].nunique()
    scores = list(rows.columns[rows.columns.get_loc("bpp") :])
    groups = rows.groupby(["ladder", "codec"], sort=False)
    table = groups[scores].mean().assign(clips=groups["clip"].nunique()).reset_index()
    order = {ladder: i for i, ladder in enumerate(rows["ladder"].unique())}
    whole = table[table["clips"] == clips]
    return whole.sort_values(
        ["ladder", "bpp"], key=lambda column: column.map(order) if column.name == "ladder" else column
    ).reset_index(drop=True)


def bd_rates(points: pd.DataFrame, metrics: Sequence[Metric]) -> tuple[pd.DataFrame, list[str]]:
    """BD-rate in percent of each ladder of :func:`means` against the first, by metric, and why some are NaN.

    Negative: fewer bits than the first ladder at equal quality. Metrics for which lower is better are negated.
    """
    ladders = list(points["ladder"].unique())
    table = pd.DataFrame(float("nan"), index=ladders[1:], columns=[metric.name for metric in metrics])
    notes: list[str] = []
    by_ladder = {ladder: group for ladder, group in points.groupby("ladder")}
    for ladder, metric in itertools.product(ladders[1:], metrics):
        sign = 1 if metric.higher_is_better else -1
        anchor, test = ((by_ladder[n]["bpp"], sign * by_ladder[n][metric.name]) for n in (ladders[0], ladder))
        try:
            table.loc[ladder, metric.name] = rate.bd_rate(*anchor, *test)
        except BadData as error:
            notes.append(f"{ladder} in {metric.column.label}: {error}")
    return table, notes


def with_sets(points: pd.DataFrame, sets: pd.DataFrame | None) -> pd.DataFrame:
    """:func:`means` with the scores of whole sets, if there are any, as columns."""
    return points if sets is None else points.join(sets, on="codec")


def write(
    rows: pd.DataFrame,
    failures: Sequence[Failure],
    metrics: Sequence[Metric],
    data: str,
    folder: Path,
    sets: pd.DataFrame | None = None,
) -> list[Path]:
    """Write ``rd.csv`` (a row per codec and clip), ``times.csv`` (wall times, the only file that a second measurement
    changes), ``rd.md`` (means and BD-rates) and ``rd-METRIC.png`` and ``.pdf`` of each metric that has a value.

    ``rows``, ``failures``: of :func:`compare`; ``data``: the data set, of whose path the last
    part is named; ``sets``: of :func:`robustcodec.studies.compare_sets.set_scores`. Raises :class:`StoreError` if the
    folder cannot be written.
    """
    points = with_sets(means(rows), sets)
    of_sets = [] if sets is None else [SET_SCORES[str(name)] for name in sets]
    data = without_folders(data)
    tables = {
        "rd.csv": to_csv(rows.drop(columns=SECONDS), "%.6g"),
        "times.csv": to_csv(rows[["codec", "clip", *SECONDS]].drop_duplicates(), "%.4f"),
        "rd.md": markdown(points, failures, metrics, data, of_sets),
    }
    for file, text in tables.items():
        write_whole(folder / file, text.encode())
    columns: list[Metric | SetScore] = [*metrics, *of_sets]
    drawn = [metric for metric in columns if points[metric.name].notna().any()]
    plots = [path for metric in drawn for path in plot(points, metric, data, folder / f"rd-{metric.name}.png")]
    return [*(folder / file for file in tables), *plots]


def without_folders(data: str) -> str:
    """``folder:/where/it/is/clips,crop=256`` as ``folder:clips,crop=256``."""
    return re.sub(r"[^:,=]*/(?=[^/,])", "", data)


def percent(value: float) -> str:
    """A BD-rate as printed."""
    return "–" if math.isnan(value) else f"{value:+.1f} %"


def markdown(
    points: pd.DataFrame,
    failures: Sequence[Failure],
    metrics: Sequence[Metric],
    data: str,
    of_sets: Sequence[SetScore] = (),
) -> str:
    """:func:`means` by ladder, BD-rates against the first of them, and what is missing, as Markdown."""
    clips = int(points["clips"].max()) if len(points) else 0
    parts = [
        f"# Rate and distortion: {escape(data)}",
        f"Each line is the mean over {counted(clips, 'clip')}, which weigh the same. Rates are real bytes; "
        "scores are of what those bytes decode to, rounded to 8 bits, against the source.",
    ]
    if of_sets:
        said = "; ".join(f"{score.column.label}: {score.column.meaning}" for score in of_sets)
        parts.append(f"Scores of all frames as one set, which depend on how many frames there are: {said}.")
    columns: list[Metric | SetScore] = [*metrics, *of_sets]
    for ladder, group in points.groupby("ladder", sort=False):
        lines = [
            [row["codec"], f"{row['bpp']:.4f}", *(shown(row[metric.name], metric.digits) for metric in columns)]
            for row in group.to_dict("records")
        ]
        parts += [
            f"## {escape(str(ladder))}",
            markdown_rows(["codec", "bpp", *(metric.column.title for metric in columns)], lines),
        ]
    if points["ladder"].nunique() > 1:
        table, notes = bd_rates(points, metrics)
        anchor = escape(points["ladder"].iloc[0])
        gains = [
            [ladder, *map(percent, line)]
            for ladder, line in zip(table.index, table.to_numpy(dtype=float).tolist(), strict=True)
        ]
        parts += [
            f"## BD-rate against {anchor}",
            "Mean difference of rate at equal quality, over the qualities that both curves reach; negative: fewer "
            f"bits than {anchor}. Curves of means over clips, PCHIP interpolation of log-rate.",
            markdown_rows(["ladder", *(metric.column.title for metric in metrics)], gains),
            *(["\n".join(f"* {escape(note)}" for note in notes)] if notes else []),
        ]
    if failures:
        lines = [[failure.codec, failure.clip, failure.reason] for failure in failures]
        parts += [
            "## Not measured",
            "A codec that lacks a clip which another one has is in no mean and no curve.",
            markdown_rows(["codec", "clip", "why"], lines, numbers=False),
        ]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def markdown_rows(head: Sequence[str], lines: Iterable[Sequence[str]], numbers: bool = True) -> str:
    ruler = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    body = [[escape(cell) for cell in line] for line in (head, *lines)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (body[0], ruler, *body[1:]))


def plot(points: pd.DataFrame, metric: Metric | SetScore, data: str, path: Path) -> list[Path]:
    """A PNG at ``path`` and a PDF beside it: ``metric`` over the logarithm of bits per pixel, a line per ladder.

    ``points``: of :func:`means`. Raises :class:`StoreError` if they cannot be written.
    """
    from matplotlib import rcParams
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    clips = int(points["clips"].max())
    named = points["ladder"].unique()
    vector = BytesIO()
    beside = len(named) > 3  # inside, so many names would cover the curves
    with pictures.figure_of(8 if beside else 5.5, 4, path) as figure:
        rcParams["pdf.fonttype"] = 42  # text that can be searched and edited
        axis = figure.subplots()
        axis.set(xscale="log", xlabel="bits per pixel (real bytes)")
        axis.set_ylabel(metric.column.title + ("" if metric.higher_is_better else ", lower is better"))
        title = [*textwrap.wrap(data, 60), "one clip" if clips == 1 else f"mean over {clips} clips at each point"]
        axis.set_title("\n".join(title), fontsize="medium")
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        for i, (ladder, line) in enumerate(points.groupby("ladder", sort=False)):
            axis.plot(
                line["bpp"],
                line[metric.name],
                color=pictures.COLOURS[i % len(pictures.COLOURS)],
                marker=pictures.MARKERS[i % len(pictures.MARKERS)],
                markersize=5,
                label=ladder,
            )
        wide = points["bpp"].max() > 20 * points["bpp"].min()
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 7)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        if beside:
            figure.legend(loc="outside right upper", frameon=False)
        else:
            axis.legend(loc="best", framealpha=0.9)
        figure.savefig(vector, format="pdf", metadata={"CreationDate": None})
    write_whole(path.with_suffix(".pdf"), vector.getvalue())
    return [path, path.with_suffix(".pdf")]
