"""What finetuning costs clean and gains under attack: finetuned ladders of runs against their parents, by sample.

    robustcodec run benchmarks/finetuned.toml && python benchmarks/finetuning.py runs/finetuned

Several runs of the same data are taken together. Defended codecs and those without a rate in their names are left out.

Finetuned are tags that end in ``-at``, and codecs by path. Prints a line per codec, then per threat what each ladder
gains: BD-rate of its clean curve, and the differences of the worst case per sample over all attacks, means over rates,
with 95 % intervals over samples; also beyond its control, which is called the same with ``-control`` and was trained as
long without attacks. ``--each``: every rate by itself, whose cost is its rate against its parents' curve at its clean
PSNR; and what it gains beyond its parents at its own rate, on each sample's curve of attacked PSNR over log-rate. A
control at a rate that no parent has continues the parents' curve. With ``--picture FILE`` draws gain against cost
where that is known.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from robustcodec.reporting.pictures import COLOURS, MARKERS, figure_of
from robustcodec.running.store import Store
from robustcodec.scores import rate
from robustcodec.scores.intervals import interval
from robustcodec.scores.robustness import worst_case
from robustcodec.studies.ladders import Ladder, ladders

_RATE = re.compile(r"(\w+)-(q\d+)")


def victims(rows: pd.DataFrame) -> pd.DataFrame:
    """Worst case over attacks by threat, codec and sample, with clean bpp and PSNR."""
    rows = rows[rows["codec"].map(_RATE.search).notna() & rows["defense"].eq("none")]
    clean = rows.groupby(["threat", "codec", "sample"])[["bpp", "psnr"]].mean()
    worst = worst_case(rows).set_index(["threat", "codec", "sample"]).rename(columns={"robust_psnr": "robust"})
    return clean.join(worst[["robust", "vi_db", "rate_ratio"]])


def _rung(codec: str) -> tuple[str, str, str]:
    """The family of a codec, what its tag or path has before the rate, and the rate."""
    stem, rate = _RATE.findall(codec)[-1]
    return re.split("[.:]", codec)[0], stem, rate


def _parent(codec: str, codecs: Iterable[str]) -> str:
    """Of ``codecs`` the one that ``codec`` was made of; ends the program where there is none."""
    for each in codecs:
        if not _finetuned(each) and _rung(each) == _rung(codec):
            return each
    raise SystemExit(f"the runs hold no parent of {codec}; add the codec of its rate that it was finetuned from")


def _control(codec: str, codecs: Iterable[str]) -> str | None:
    """Of ``codecs`` the control of ``codec``, if there is one."""
    return next((c for c in codecs if re.search(r"-control\b", c) and _rung(c) == _rung(codec)), None)


def _finetuned(codec: str) -> bool:
    return codec.endswith("-at") or "weights=" in codec


def _is_rung(codec: str, codecs: Iterable[str]) -> bool:
    """Whether it is a point of its parents' curve: not finetuned on attacks, and at a rate of its own."""
    alone = re.search(r"-control\b", codec) and all(c == codec or _rung(c) != _rung(codec) for c in codecs)
    return not _finetuned(codec) or bool(alone)


def _on_curve(at: float, x: Iterable[float], y: Iterable[float]) -> float:
    """The curve through points in any order, straight between them; NaN where it does not reach."""
    places, values = zip(*sorted(zip(x, y, strict=True)), strict=True)
    return float(np.interp(at, places, values, np.nan, np.nan))


def _at_own_rate(bare: list[pd.DataFrame], tuned: pd.DataFrame) -> pd.Series:
    """By sample, what a codec's robust PSNR has beyond the bare curve's at its own clean rate, where that reaches."""
    rates, robust = (pd.concat([one[key] for one in bare], axis=1).loc[tuned.index] for key in ("bpp", "robust"))
    return pd.Series(
        {
            sample: one["robust"] - _on_curve(np.log(one["bpp"]), np.log(rates.loc[sample]), robust.loc[sample])
            for sample, one in tuned.iterrows()
        }
    )


def _in_words(gains: list[pd.Series]) -> str:
    """The mean over rates, then over samples, with its interval."""
    gain = interval(sum(gains) / len(gains))
    return f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"


def _cost(bare: list[pd.DataFrame], tuned: list[pd.DataFrame]) -> float:
    """BD-rate in percent of the clean curve; of a single point, its rate against the bare curve's at its PSNR, or NaN
    where that curve does not reach.
    """
    curve, own = ([one[["bpp", "psnr"]].mean() for one in side] for side in (bare, tuned))
    rates, qualities, bpp, psnr = ([point[key] for point in side] for side in (curve, own) for key in ("bpp", "psnr"))
    if len(own) > 1:
        return rate.bd_rate(rates, qualities, bpp, psnr)
    return 100 * float(bpp[0] / np.exp(_on_curve(psnr[0], qualities, np.log(rates))) - 1)


def main() -> None:
    """Print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--each", action="store_true", help="every rate by itself")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    rows = pd.concat([store.frame(store.grid().cells()) for store in map(Store, options.runs)])
    if rows["data"].nunique() > 1:
        parser.error(f"the runs are of {', '.join(rows['data'].unique())}; give runs of the same data")
    worst = victims(rows)
    print(
        "| input | codec | bpp | PSNR | robust PSNR | loss | vi_db | rate × |\n|---|---|---:|---:|---:|---:|---:|---:|"
    )
    for (threat, codec), one in worst.groupby(["threat", "codec"]):
        robust = interval(one["robust"])
        print(
            f"| {threat} | {codec} | {one['bpp'].mean():.3f} | {one['psnr'].mean():.2f} | {robust.mean:.2f} "
            f"({robust.low:.2f} to {robust.high:.2f}) | {(one['psnr'] - one['robust']).mean():.2f} | "
            f"{one['vi_db'].mean():.2f} | {one['rate_ratio'].mean():.2f} |"
        )
    names = list(worst.index.unique("codec"))
    finetuned = [codec for codec in names if not _is_rung(codec, names)]
    tuned = [Ladder(codec, (codec,)) for codec in finetuned] if options.each else ladders(finetuned)
    heads = ["clean BD-rate", "robust PSNR", "beyond its control"] + ["at its own rate"] * options.each
    heads += ["loss avoided", "vi_db"]
    print(f"\n| input | finetuned | {' | '.join(heads)} |\n|---|---|{'---:|' * len(heads)}")
    points: dict[str, list[tuple[str, float, float]]] = {}
    for threat in worst.index.unique("threat"):
        met = {codec: worst.loc[threat, codec] for codec in worst.loc[threat].index.unique("codec")}
        for ladder in tuned:
            parents = [_parent(codec, met) for codec in ladder.codecs]
            pairs = [(met[parent], met[codec]) for parent, codec in zip(parents, ladder.codecs, strict=True)]
            whole = {_rung(parent)[:2] for parent in parents}
            bare = sorted(codec for codec in met if _is_rung(codec, met) and _rung(codec)[:2] in whole)
            own = [_at_own_rate([met[codec] for codec in bare], after) for _, after in pairs] if options.each else []
            cost = _cost([met[codec] for codec in bare], [after for _, after in pairs])
            gains = [after["robust"] - before["robust"] for before, after in pairs]
            controls = [c for codec in ladder.codecs if (c := _control(codec, met)) is not None and c != codec]
            beyond = [after["robust"] - met[c]["robust"] for (_, after), c in zip(pairs, controls, strict=False)]
            lost = [sum((pair[side]["psnr"] - pair[side]["robust"]).mean() for pair in pairs) for side in (0, 1)]
            cells = [str(threat), ladder.name, "–" if np.isnan(cost) else f"{cost:+.1f} %", _in_words(gains)]
            cells += [_in_words(beyond) if len(beyond) == len(pairs) else "–"]
            cells += ["–" if one.isna().any() else _in_words([one]) for one in own]
            cells += [f"{100 * (1 - lost[1] / lost[0]):.0f} %"]
            cells += [_in_words([after["vi_db"] - before["vi_db"] for before, after in pairs])]
            print(f"| {' | '.join(cells)} |")
            if np.isfinite(cost):
                point = ladder.name, cost, float(np.mean([gain.mean() for gain in gains]))
                points.setdefault(str(threat), []).append(point)
    if options.picture:
        _draw(points, options.picture)


def _short(ladder: str) -> str:
    """What tells it from its parent: ``family weights=…/family.tiny-mix.safetensors`` → ``mix``."""
    return ladder.removesuffix(".safetensors").rpartition("-")[2]


def _draw(points: dict[str, list[tuple[str, float, float]]], path: Path) -> None:
    with figure_of(6, 3.6, path) as figure:
        axis = figure.subplots()
        for number, (threat, line) in enumerate(points.items()):
            line = sorted([("bare", 0.0, 0.0), *line], key=lambda point: point[1])
            colour, marker = COLOURS[number], MARKERS[number]
            axis.plot(
                [p[1] for p in line], [p[2] for p in line], color=colour, marker=marker, label=f"input at {threat}"
            )
            if number == 0:
                for name, cost, gain in line:
                    axis.annotate(_short(name), (cost, gain), (4, -11), textcoords="offset points", fontsize=8)
        axis.axhline(0, color="0.6", lw=1)
        axis.set_xlabel("clean cost: BD-rate (%)")
        axis.set_ylabel("gain of robust PSNR (dB)")
        axis.grid(color="0.9")
        axis.legend(frameon=False)


if __name__ == "__main__":
    main()
