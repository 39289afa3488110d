"""Security curves: what a codec still shows, what it costs and how often it breaks as the budget of the attacker grows.

Biggio & Roli, "Wild patterns", 2018 (https://arxiv.org/abs/1712.03141): a single budget says little about an attack.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from robustcodec.files import write_whole
from robustcodec.reporting.pictures import COLOURS, MARKERS, SCREEN, Look, figure_of
from robustcodec.reporting.points import WORST, labels, security
from robustcodec.reporting.tables import checked
from robustcodec.reporting.text import to_csv

DRAWN = 12  # contenders at most, side by side


def points_by_figure(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The name (``security-DATA``) and the points of a figure per data set and family of threats, where a contender met
    several budgets of it; the family is in the name where a data set has several. Points are of
    :func:`~robustcodec.reporting.points.security`, with ``contender`` as their label.

    Raises :class:`StoreError` for rows that are not results.
    """
    rows = checked(rows)
    if rows.empty:
        return
    points = security(rows.assign(contender=labels(rows)), ["contender"])
    for data, group in points.groupby("data"):
        several = group["family"].nunique() > 1
        for family, figure in group.groupby("family"):
            yield _file_name(f"{data}-{family}" if several else str(data)), figure


def plot(points: pd.DataFrame, path: Path, look: Look = SCREEN) -> Path:
    """:func:`points_by_figure`: a column of panels per contender: attacked PSNR, rate, and the share of samples broken,
    with its 95 % interval for the worst attack on each sample.

    The budget grows to the right; the dashed line is the clean PSNR. Of more contenders than :data:`DRAWN`, those that
    are left with the least PSNR are drawn, which the figure says. Raises :class:`StoreError` if ``path`` cannot be
    written.
    """
    from matplotlib.lines import Line2D

    least = points[points["line"] == WORST].groupby("contender")["adv_psnr"].mean().sort_values(kind="stable")
    if len(least) > DRAWN:
        points = points[points["contender"].isin(least.index[:DRAWN])]
    lines = [*sorted(set(points["line"]) - {WORST}), WORST]
    styles = {n: (COLOURS[i % (len(COLOURS) - 1)], MARKERS[i % len(MARKERS)]) for i, n in enumerate(lines[:-1])}
    styles[WORST] = (COLOURS[-1], "")
    panels = list(points.groupby("contender"))
    screen = 3.6 * len(panels) + 1.2 + 0.075 * max(map(len, lines)), max(7.5, 1 + 0.24 * len(lines))
    stronger = "input PSNR (dB): stronger attack →" if look.width is None else "input PSNR (dB)"
    with figure_of(*look.size(screen, 5.0, lines), path, look) as figure:
        if len(least) > DRAWN:
            figure.suptitle(
                f"the {DRAWN} of {len(least)} with the least PSNR left; all are in the table", fontsize="medium"
            )
        axes = figure.subplots(3, len(panels), squeeze=False, sharex=True, sharey="row")
        for (above, rate, broken), (name, panel) in zip(axes.T, panels, strict=True):
            title = look.fold("\n".join(textwrap.wrap(str(name), 36)), 1 / len(panels))
            above.set_title(title, fontsize="medium")
            above.axhline(panel["psnr"].iloc[0], color="0.5", ls="--", lw=1)
            rate.axhline(1, color="0.5", ls="--", lw=1)
            broken.set_xlabel(stronger)
            for line, group in panel.groupby("line"):
                colour, marker = styles[str(line)]
                style = {"color": colour, "marker": marker, "markersize": 4, "lw": 2.5 if line == WORST else 1}
                above.plot(group["input_psnr"], group["adv_psnr"], **style)
                rate.plot(group["input_psnr"], group["rate_ratio"], **style)
                broken.plot(group["input_psnr"], group["broken"], **style)
                if line == WORST:
                    ends = group["broken_low"], group["broken_high"]
                    broken.fill_between(group["input_psnr"], *ends, color=colour, alpha=0.15, lw=0)
            for axis in (above, rate, broken):
                axis.grid(color="0.9")
                axis.set_axisbelow(True)
        axes[0, 0].set_ylabel("attacked PSNR (dB)")
        axes[1, 0].set_ylabel("rate, attacked / clean")
        axes[2, 0].set_ylabel("share of samples broken")
        axes[2, 0].set_ylim(-0.05, 1.05)
        axes[0, 0].invert_xaxis()
        handles = [
            Line2D([], [], color=c, marker=m, lw=2.5 if n == WORST else 1, label=n) for n, (c, m) in styles.items()
        ]
        look.legend(figure, handles)
    return path


def _file_name(data: str) -> str:
    """``security-DATA``, of letters, digits and dashes."""
    return "security-" + "".join(c if c.isalnum() else "-" for c in data).strip("-")


def write(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write PNGs of :func:`points_by_figure`, and their points as CSV; none where no contender met several budgets."""
    paths: list[Path] = []
    for name, points in points_by_figure(rows):
        table = to_csv(points, "%.6g")
        write_whole(folder / f"{name}.csv", table.encode())
        paths += [plot(points, folder / f"{name}.png"), folder / f"{name}.csv"]
    return paths
