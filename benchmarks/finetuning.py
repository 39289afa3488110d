"""What finetuning costs clean and gains under attack: ladders of a run against the first one, paired by sample.

    robustcodec run benchmarks/finetuned.toml && python benchmarks/finetuning.py runs/finetuned

Prints a line per codec, then per threat what each ladder gains over the first: BD-rate of its clean curve, and the
differences of the worst case per sample over all attacks, means over rates, with bootstrap 95 % intervals over samples.
With ``--picture FILE`` draws gain against cost. Ladders of a run's codecs are those of ``robustcodec compare``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from robustcodec import rate
from robustcodec.ladders import ladders
from robustcodec.pictures import COLOURS, MARKERS, figure_of
from robustcodec.robustness import FAILED_PSNR, interval
from robustcodec.store import Store

WORST = {"robust": "min", "vi_db": "max", "rate_ratio": "max"}


def victims(rows: pd.DataFrame) -> pd.DataFrame:
    """Worst case over attacks by threat, codec and sample, with clean bpp and PSNR."""
    rows = rows.assign(robust=rows["adv_psnr"].mask(rows["decode_failed"] == 1, FAILED_PSNR))
    return rows.groupby(["threat", "codec", "sample"]).agg({"bpp": "mean", "psnr": "mean", **WORST})  # type: ignore[arg-type]


def main() -> None:
    """Print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    store = Store(options.run)
    worst = victims(store.frame(store.grid().cells()))
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
    first, *others = ladders(sorted(worst.index.unique("codec"), key=lambda codec: ("-at" in codec, codec)))
    print(
        f"\n| input | against {first.name} | clean BD-rate | robust PSNR | loss avoided | vi_db |\n"
        "|---|---|---:|---:|---:|---:|"
    )
    points: dict[str, list[tuple[str, float, float]]] = {}
    for threat in worst.index.unique("threat"):
        by_codec = {codec: worst.loc[threat, codec] for codec in worst.loc[threat].index.unique("codec")}
        curve = [by_codec[codec][["bpp", "psnr"]].mean() for codec in first.codecs]
        for ladder in others:
            own = [by_codec[codec][["bpp", "psnr"]].mean() for codec in ladder.codecs]
            cost = rate.bd_rate(*([point[key] for point in side] for side in (curve, own) for key in ("bpp", "psnr")))
            pairs = [(by_codec[a], by_codec[b]) for a, b in zip(first.codecs, ladder.codecs, strict=True)]
            gain = interval(sum(b["robust"] - a["robust"] for a, b in pairs) / len(pairs))
            change = interval(sum(b["vi_db"] - a["vi_db"] for a, b in pairs) / len(pairs))
            before, after = (sum((p[i]["psnr"] - p[i]["robust"]).mean() for p in pairs) for i in (0, 1))
            print(
                f"| {threat} | {ladder.name} | {cost:+.1f} % | {gain.mean:+.2f} "
                f"({gain.low:+.2f} to {gain.high:+.2f}) | "
                f"{100 * (1 - after / before):.0f} % | {change.mean:+.2f} ({change.low:+.2f} to {change.high:+.2f}) |"
            )
            points.setdefault(str(threat), []).append((ladder.name, cost, gain.mean))
    if options.picture:
        _draw(points, first.name, options.picture)


def _draw(points: dict[str, list[tuple[str, float, float]]], first: str, path: Path) -> None:
    with figure_of(6, 3.6, path) as figure:
        axis = figure.subplots()
        for number, (threat, line) in enumerate(points.items()):
            line = sorted([(first, 0.0, 0.0), *line], key=lambda point: point[1])
            colour, marker = COLOURS[number], MARKERS[number]
            axis.plot(
                [p[1] for p in line], [p[2] for p in line], color=colour, marker=marker, label=f"input at {threat}"
            )
            if number == 0:
                for name, cost, gain in line:
                    axis.annotate(
                        name.rpartition(".")[2], (cost, gain), (4, -11), textcoords="offset points", fontsize=8
                    )
        axis.axhline(0, color="0.6", lw=1)
        axis.set_xlabel("clean cost: BD-rate (%)")
        axis.set_ylabel("gain of robust PSNR (dB)")
        axis.grid(color="0.9")
        axis.legend(frameon=False)


if __name__ == "__main__":
    main()
