"""Security curves: what a codec still shows, and how often it breaks, as the budget of the attacker grows.

Biggio & Roli, "Wild patterns", 2018 (https://arxiv.org/abs/1712.03141): a single budget says little about an attack.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd

from robustcodec.reporting.pictures import COLOURS, MARKERS, SCREEN, Look, figure_of
from robustcodec.reporting.tables import VICTIM, checked, victim
from robustcodec.scores.robustness import worst_case

WORST = "worst of all, per sample"


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per data set, victim, attack (with its objective) and threat, where a victim met several threats:
    ``input_psnr`` as reached, ``adv_psnr`` and clean ``psnr`` in dB, ``rate_ratio``, ``broken`` share; means over
    samples. The attack :data:`WORST` is the worst for each sample and score. Sorted by falling input PSNR.

    Raises :class:`StoreError` for rows that are not results.
    """
    rows = checked(rows)
    if rows.empty:
        return pd.DataFrame()
    names = [victim(*key) for key in rows[VICTIM].itertuples(index=False)]
    rows = rows.assign(victim=names, line=rows["attack"] + ", " + rows["objective"])
    scores = ["input_psnr", "adv_psnr", "psnr", "rate_ratio", "broken"]
    single = rows.groupby(["data", "victim", "line", "threat"], as_index=False)[scores].mean()
    worst = worst_case(rows).assign(line=WORST)
    worst["victim"] = [victim(*key) for key in worst[VICTIM].itertuples(index=False)]
    worst = worst.assign(adv_psnr=worst["robust_psnr"], broken=worst["break_db"].notna().astype(float))
    keys = ["data", "victim", "threat"]
    joint = worst.groupby([*keys, "line"], as_index=False)[["adv_psnr", "rate_ratio", "broken"]].mean()
    seen = rows.groupby(keys)[["input_psnr", "psnr"]].mean()
    at = [tuple(key) for key in joint[keys].itertuples(index=False)]
    joint[["input_psnr", "psnr"]] = seen.loc[at].to_numpy()
    both = pd.concat([single, joint], ignore_index=True)
    several = both.groupby(["data", "victim", "line"])["threat"].transform("nunique") > 1
    order = ["data", "victim", "line", "input_psnr"]
    return both[several].sort_values(order, ascending=[True, True, True, False], ignore_index=True)


def plot(points: pd.DataFrame, path: Path, look: Look = SCREEN) -> Path:
    """:func:`curves` of one data set: a column of panels per victim, attacked PSNR above, rate below.

    The budget grows to the right; the dashed line is the clean PSNR. Raises :class:`StoreError` if ``path`` cannot be
    written.
    """
    from matplotlib.lines import Line2D

    lines = [*sorted(set(points["line"]) - {WORST}), WORST]
    styles = {n: (COLOURS[i % (len(COLOURS) - 1)], MARKERS[i % len(MARKERS)]) for i, n in enumerate(lines[:-1])}
    styles[WORST] = (COLOURS[-1], "")
    panels = list(points.groupby("victim"))
    screen = 3.6 * len(panels) + 1.2 + 0.075 * max(map(len, lines)), max(5.5, 1 + 0.24 * len(lines))
    stronger = "input PSNR (dB): stronger attack →" if look.width is None else "input PSNR (dB)"
    with figure_of(*look.size(screen, 3.6, lines), path, look) as figure:
        axes = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row")
        for (above, below), (name, panel) in zip(axes.T, panels, strict=True):
            title = look.fold("\n".join(textwrap.wrap(str(name), 36)), 1 / len(panels))
            above.set_title(title, fontsize="medium")
            above.axhline(panel["psnr"].iloc[0], color="0.5", ls="--", lw=1)
            below.axhline(1, color="0.5", ls="--", lw=1)
            below.set_xlabel(stronger)
            for line, group in panel.groupby("line"):
                colour, marker = styles[str(line)]
                style = {"color": colour, "marker": marker, "markersize": 4, "lw": 2.5 if line == WORST else 1}
                above.plot(group["input_psnr"], group["adv_psnr"], **style)
                below.plot(group["input_psnr"], group["rate_ratio"], **style)
            for axis in (above, below):
                axis.grid(color="0.9")
                axis.set_axisbelow(True)
        axes[0, 0].set_ylabel("attacked PSNR (dB)")
        axes[1, 0].set_ylabel("rate, attacked / clean")
        axes[0, 0].invert_xaxis()
        handles = [
            Line2D([], [], color=c, marker=m, lw=2.5 if n == WORST else 1, label=n) for n, (c, m) in styles.items()
        ]
        look.legend(figure, handles)
    return path


def file_name(data: str) -> str:
    """``security-DATA``, of letters, digits and dashes."""
    return "security-" + "".join(c if c.isalnum() else "-" for c in data).strip("-")


def write(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """``security-DATA.png`` for each data set on which a victim met several budgets; none without."""
    points = curves(rows)
    if points.empty:
        return []
    return [plot(group, folder / f"{file_name(str(data))}.png") for data, group in points.groupby("data")]
