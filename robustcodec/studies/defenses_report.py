"""Defenses side by side: what each costs on clean clips, what it gains under attack, and whether the gain survives an
attacker who knows it.

Gains are of the worst case per sample (RobustBench's, Croce et al., 2021, https://arxiv.org/abs/2010.09670) over the
attacks that the bare and the defended codec both met, paired by sample. A defense is judged by attacks made for it:
Athalye et al., 2018 (https://arxiv.org/abs/1802.00420), Tramèr et al., 2020 (https://arxiv.org/abs/2002.08347).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robustcodec.errors import BadData, StoreError
from robustcodec.files import write_whole
from robustcodec.reporting.pictures import COLOURS, MARKERS, figure_of
from robustcodec.reporting.tables import RUN, checked
from robustcodec.reporting.text import code, ends, escape, to_csv, to_markdown
from robustcodec.scores import rate
from robustcodec.scores.columns import DEFENDED, GAINS, select
from robustcodec.scores.intervals import NAN, TOO_FEW, Interval, interval
from robustcodec.scores.ranks import paired
from robustcodec.scores.robustness import BOARD, shown_psnr
from robustcodec.studies.ladders import ladders

KNOWLEDGE = ("oblivious", "adaptive")
GAINED = [*BOARD, "ladder", "defense", *(f"{k}{end}" for k in KNOWLEDGE for end in ("", "_low", "_high", "_attacks"))]
GAINED += ["verdict"]
COSTS = ["codecs", "samples", "bd_rate", "delta_bpp", "delta_psnr"]
FACTORS = ["encode_factor", "decode_factor"]
DEFENSES = select(GAINS, [*GAINED[:4], *COSTS, *GAINED[4:-1], *FACTORS, "verdict"])
CONTENDERS = select(DEFENDED, ["codec", "defense", "bpp", "psnr", "oblivious", "adaptive"])
SIDES = ("defended", "bare")
TIMES = "defense-times.csv"  # in the run folder, if times were measured
HOLDS, VANISHES = "gain holds", "gain vanishes under adaptive attack"
UNKNOWN = "not attacked adaptively"


def table(rows: pd.DataFrame, times: pd.DataFrame | None = None) -> tuple[pd.DataFrame, list[str]]:
    """One line per data set, threat, ladder and defense, columns :data:`DEFENSES`; and what to know about some.

    ``rows``: of ``store.frame(cells)``; ``times``: ``codec``, ``defense`` and :data:`FACTORS`. Raises
    :class:`StoreError` for rows that are not results, :class:`UserError` for a codec that is not known.
    """
    lines: list[dict[str, Any]] = []
    notes: dict[str, list[str]] = {}  # what is to be known, and of which defenses
    for line, group, found in _gains(rows):
        defense = line["defense"]
        cost, remarks = _cost(group, defense)
        for knowledge, gain in found.items():
            if 0 < gain.codecs < cost["codecs"]:
                remarks.append(f"the {knowledge} gain is of {gain.codecs} of {cost['codecs']} codecs")
        for what in remarks:
            notes.setdefault(f"{line['ladder']}, {line['data']}, {line['threat']}: {what}", []).append(defense)
        lines.append(line | cost | _factors(group["codec"].unique(), defense, times))
    return pd.DataFrame(lines, columns=list(DEFENSES)), [f"{what} ({', '.join(who)})" for what, who in notes.items()]


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """A :func:`table` without what defenses cost, which takes longer."""
    return pd.DataFrame([line for line, _, _ in _gains(rows)], columns=GAINED)


def contenders(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per data set, threat, codec and defense, the bare codec first: columns ``data``, ``threat`` and
    :data:`CONTENDERS`, of all attacks that each met; of the codecs that met most of them, for others may be there for
    the clean curve alone. Raises :class:`StoreError` for rows that are not results.
    """
    lines = []
    rows = _known(rows)
    runs = rows.groupby([*BOARD, "codec"])["run"].transform("nunique")
    rows = rows[runs == runs.groupby([rows[column] for column in BOARD]).transform("max")]
    for (data, threat, codec, defense), group in rows.groupby([*BOARD, "codec", "defense"]):
        line: dict[str, Any] = {"data": data, "threat": threat, "codec": codec, "defense": defense}
        clean = group.groupby("sample")[["bpp", "psnr"]].mean().mean()
        line |= {"bpp": float(clean["bpp"]), "psnr": float(clean["psnr"])}
        for knowledge in KNOWLEDGE:
            attacked = group[group["knowledge"].isin([knowledge, "bare"])]
            if len(attacked) and knowledge == "adaptive":
                attacked = group  # who knows the defense may also ignore it
            robust = interval(_worst(attacked))
            line[knowledge] = _in_print(robust.mean, robust.low, robust.high)
        lines.append(line)
    frame = pd.DataFrame(lines, columns=[*BOARD, *CONTENDERS])
    return frame.sort_values([*BOARD, "codec", "defense"], key=lambda c: c.where(c != "none", ""), ignore_index=True)


def _gains(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, dict[str, _Gain]]]:
    """For each data set, threat, ladder and defense the columns :data:`GAINED`, the rows of the ladder and the gains by
    what the attacker knew.
    """
    rows = _known(rows)
    if rows.empty:  # all were made for another codec
        return
    names = {codec: ladder.name for ladder in ladders(sorted(rows["codec"].unique())) for codec in ladder.codecs}
    for (data, threat, ladder), group in rows.groupby([*BOARD, rows["codec"].map(names).rename("ladder")]):
        for defense in sorted(set(group["defense"]) - {"none"}):
            found = {knowledge: _gain(group, defense, knowledge) for knowledge in KNOWLEDGE}
            line = {"data": data, "threat": threat, "ladder": ladder, "defense": defense}
            for knowledge, gain in found.items():
                of = gain.interval
                line |= {knowledge: of.mean, f"{knowledge}_low": of.low, f"{knowledge}_high": of.high}
                line[f"{knowledge}_attacks"] = gain.attacks
            yield line | {"verdict": _verdict(found["adaptive"].interval)}, group, found


@dataclass(frozen=True)
class _Gain:
    """Of robust PSNR in dB: ``codecs`` in its mean, and over how many ``attacks`` the worst cases were taken."""

    interval: Interval
    codecs: int
    attacks: int


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with what the attacker knew (``knowledge``): ``bare`` of a codec without defense, ``oblivious``,
    ``adaptive``; those of a transfer are left out. ``run`` is what makes two attacks different; ``robust`` is the PSNR
    in dB that each leaves, of which the least is :func:`~robustcodec.scores.robustness.worst_case`'s.
    """
    rows = checked(rows)
    rows = rows[[not str(access).startswith("transfer:") for access in rows["access"]]]
    knowledge = rows["access"].where(rows["access"] == "oblivious", "adaptive")
    return rows.assign(
        knowledge=knowledge.mask(rows["defense"] == "none", "bare"),
        robust=shown_psnr(rows),
        run=[str(run) for run in rows[RUN].itertuples(index=False, name=None)],
    )


def _worst(rows: pd.DataFrame) -> pd.Series[float]:
    """Of one contender, by sample."""
    return rows.groupby("sample")["robust"].min()


def _cost(group: pd.DataFrame, defense: str) -> tuple[dict[str, Any], list[str]]:
    """Clean cost of a defense of one ladder, over the codecs and samples met with and without it; and why there is
    no BD-rate where one could be.
    """
    point = ["codec", "sample"]
    bare, defended = (group[group["defense"] == d].groupby(point)[["bpp", "psnr"]].mean() for d in ("none", defense))
    both = bare.join(defended, how="inner", lsuffix="_bare")
    samples = both.unstack("codec").dropna().index
    points = both[both.index.isin(samples, level="sample")].groupby("codec").mean()
    cost: dict[str, Any] = {"codecs": len(points), "samples": len(samples), "bd_rate": NAN}
    cost |= {f"delta_{score}": float((points[score] - points[f"{score}_bare"]).mean()) for score in ("bpp", "psnr")}
    if len(points) < 2:
        return cost, [] if len(points) else ["no sample was coded both with it and without"]
    try:
        cost["bd_rate"] = rate.bd_rate(points["bpp_bare"], points["psnr_bare"], points["bpp"], points["psnr"])
    except BadData as error:
        return cost, [f"no BD-rate: {error}"]
    return cost, []


def _gain(group: pd.DataFrame, defense: str, knowledge: str) -> _Gain:
    """How much more robust a ladder is with a defense, under the attacks that met it and the bare codec; the mean over
    the codecs that met most of them, for others may be there for the clean curve alone.
    """
    by_codec: dict[str, tuple[int, list[pd.Series[float]]]] = {}
    for codec, one in group.groupby("codec"):
        bare = one[one["knowledge"] == "bare"]
        defended = one[(one["defense"] == defense) & (one["knowledge"] == knowledge)]
        common = set(bare["run"]) & set(defended["run"])
        if common:
            known = [knowledge, "oblivious"]  # who knows the defense may also ignore it
            defended = one[(one["defense"] == defense) & one["knowledge"].isin(known)]
            worst = [_worst(side[side["run"].isin(common)]) for side in (defended, bare)]
            by_codec[str(codec)] = len(common), worst
    attacks = max((count for count, _ in by_codec.values()), default=0)
    met = [worst for count, worst in by_codec.values() if count == attacks]
    sides = {
        name: pd.DataFrame(dict(enumerate(side))).mean(axis=1, skipna=False)
        for name, side in zip(SIDES, zip(*met, strict=True), strict=False)
    }
    gain = paired(sides)(*SIDES).interval() if met else Interval(NAN, NAN, NAN, 0)
    return _Gain(gain, len(met), attacks)


def _verdict(adaptive: Interval) -> str:
    if math.isnan(adaptive.low):
        return TOO_FEW if adaptive.n else UNKNOWN
    return HOLDS if adaptive.low > 0 else VANISHES


def _factors(codecs: Iterable[str], defense: str, times: pd.DataFrame | None) -> dict[str, float]:
    if times is None:
        return dict.fromkeys(FACTORS, NAN)
    if missing := {"codec", "defense", *FACTORS} - set(times):
        raise StoreError(
            f"{TIMES} has no column {', '.join(sorted(missing))}; make it again with benchmarks/defense_times.py"
        )
    mine = times[times["codec"].isin(list(codecs)) & (times["defense"] == defense)]
    return {factor: float(mine[factor].mean()) for factor in FACTORS}


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points ``(cost, gain)`` that no other one beats (as cheap and gains more, or cheaper and gains as much), by
    rising cost.
    """
    best: list[tuple[float, float]] = []
    for cost, gain in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not best or gain > best[-1][1]:
            best.append((cost, gain))
    return best


def plot(lines: pd.DataFrame, path: Path) -> Path:
    """A PNG of :func:`table`, a panel per data set, threat and ladder: clean cost to the right, robust gain upwards.

    Full with its interval: adaptive; hollow: oblivious. The line is the Pareto front of adaptive gains, from the bare
    codec at the origin on. The cost is the BD-rate, or, where a defense of the panel has none, the clean PSNR lost.
    Raises :class:`StoreError` if ``path`` cannot be written.
    """
    from matplotlib.lines import Line2D

    names = sorted(lines["defense"].unique())
    looks = {n: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, n in enumerate(names)}
    panels = list(lines.groupby([*BOARD, "ladder"]))
    columns = min(3, len(panels))
    down = math.ceil(len(panels) / columns)
    wide = 4.2 * columns + 1 + 0.075 * max(map(len, [*names, "hollow: oblivious attack"]))
    with figure_of(wide, max(3.6 * down, 1.5 + 0.24 * len(names)), path) as figure:
        axes = figure.subplots(down, columns, squeeze=False).flat
        for axis, (key, panel) in zip(axes, panels, strict=False):
            title = [line for part in (key[2], f"{key[0]}, {key[1]}") for line in textwrap.wrap(str(part), 44)]
            axis.set_title("\n".join(title), fontsize="medium")
            in_rate = bool(panel["bd_rate"].notna().all())
            panel = panel.assign(cost=panel["bd_rate"] if in_rate else -panel["delta_psnr"])
            axis.set_xlabel("clean cost: BD-rate (%)" if in_rate else "clean cost: PSNR lost (dB), at other rates")
            axis.set_ylabel("gain of robust PSNR (dB)")
            axis.grid(color="0.9")
            axis.set_axisbelow(True)
            axis.margins(0.12)
            axis.axhline(0, color="0.6", lw=1)
            for line in panel.to_dict("records"):
                colour, marker = looks[line["defense"]]
                x, gain = line["cost"], line["adaptive"]
                axis.plot([x, x], [line["oblivious"], gain], color=colour, lw=1, ls=":")
                axis.plot(x, line["oblivious"], marker, color=colour, markerfacecolor="white", markersize=6)
                arms = [[gain - line["adaptive_low"]], [line["adaptive_high"] - gain]]
                axis.errorbar(x, gain, arms, fmt=marker, color=colour, markersize=7, lw=1, capsize=2)
            known = panel.dropna(subset=["cost", "adaptive"])
            best = front([(0.0, 0.0), *zip(known["cost"], known["adaptive"], strict=True)])
            axis.step(*zip(*best, strict=True), where="post", color="0.4", lw=1, zorder=1)
            axis.plot(0, 0, "k+", markersize=8)
        for axis in list(axes)[len(panels) :]:
            axis.remove()
        handles = [
            *(Line2D([], [], ls="", color=colour, marker=marker, label=n) for n, (colour, marker) in looks.items()),
            Line2D([], [], ls="", marker="+", color="k", markersize=8, label="no defense"),
            Line2D([], [], ls="", marker="o", color="0.3", label="full: adaptive attack"),
            Line2D([], [], ls="", marker="o", color="0.3", mfc="white", label="hollow: oblivious attack"),
            Line2D([], [], color="0.4", lw=1, label="Pareto front, adaptive"),
        ]
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return path


def markdown(lines: pd.DataFrame, absolute: pd.DataFrame, notes: Sequence[str]) -> str:
    """:func:`table` and :func:`contenders` by data set and threat, with what each column means."""
    timed = [factor for factor in FACTORS if lines[factor].notna().any()]
    shown = lines.drop(columns=[factor for factor in FACTORS if factor not in timed])
    for knowledge in KNOWLEDGE:
        low, high = f"{knowledge}_low", f"{knowledge}_high"
        intervals = zip(shown[knowledge], shown[low], shown[high], strict=True)
        shown = shown.assign(**{knowledge: [_in_print(*one, sign="+") for one in intervals]}).drop(columns=[low, high])
    parts = [
        "# Defenses",
        "What each costs on clean clips, and what it gains in dB of robust_psnr with its paired 95 % "
        "interval over samples. A gain is worth what is left of it under adaptive attacks.",
    ]
    for (data, threat), group in shown.groupby(BOARD):
        each = absolute[(absolute["data"] == data) & (absolute["threat"] == threat)].drop(columns=BOARD)
        parts += [f"## {escape(str(data))}, {escape(str(threat))}", to_markdown(group.drop(columns=BOARD))]
        parts.append(to_markdown(each))
    if notes:
        parts.append("".join(f"* {escape(note)}.\n" for note in notes))
    meanings = {name: DEFENSES[name].meaning for name in shown.columns}
    meanings |= {f"{name} (second table)": column.meaning for name, column in CONTENDERS.items()}
    parts.append("".join(f"* {code(name)}: {escape(meaning)}.\n" for name, meaning in meanings.items()))
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def _in_print(mean: float, low: float, high: float, sign: str = "-") -> str:
    return "–" if math.isnan(mean) else f"{mean:{sign}.2f} ({ends(low, high, sign=sign)})"


def write(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ``defenses.md``, ``defenses.csv`` and ``pictures/defenses.png`` if any row has a defense; nothing without.

    Times are read from :data:`TIMES` in ``folder``, if it is there. Raises :class:`StoreError` for rows that are not
    results, a table of times that is none, or a folder that cannot be written.
    """
    if rows.empty or (rows["defense"] == "none").all():
        return []
    measured = folder / TIMES
    lines, notes = table(rows, pd.read_csv(measured) if measured.is_file() else None)
    if lines.empty:
        return []
    text, values = folder / "defenses.md", folder / "defenses.csv"
    write_whole(text, markdown(lines, contenders(rows), notes).encode())
    write_whole(values, to_csv(lines, "%.6g").encode())
    return [text, values, plot(lines, folder / "pictures" / "defenses.png")]
