"""Rate–distortion of the bundled image codecs from real bytes, against JPEG, WebP and the points that CompressAI
publishes for its own weights, and the measured part of their cards.

    python benchmarks/rate_distortion.py --data kodak                 prints points and BD-rates
    python benchmarks/rate_distortion.py --data kodak --write-cards   also records them in zoo/cards
    python benchmarks/rate_distortion.py --codec "*.base-*" …         of these codecs only

JPEG is Pillow's (libjpeg-turbo), 4:2:0, optimised Huffman tables; WebP is Pillow's (libwebp), lossy. A ladder's BD-rate
is over the quality range that it shares with the other one, PCHIP interpolation of log-rate; negative: fewer bits than
the other. CompressAI's points (benchmarks/published-points.toml) are of whole Kodak images. What is measured is kept in
``--out``, with the plots of ``robustcodec compare``.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

from robustcodec.execution.allocator import keep_memory

ANCHORS = {
    "jpeg": "jpeg:quality={2,3,5,8,12,17,23,30,40,50,60,70,80,88}",
    "webp": "webp:quality={1,5,10,20,30,40,50,60,70,80,90}",
}
CARDS = Path(__file__).parents[1] / "zoo" / "cards"
PUBLISHED = Path(__file__).with_name("published-points.toml")


def main() -> None:
    """Measure, print and, if asked, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="kodak")
    parser.add_argument("--codec", default="*", help="pattern of names")
    parser.add_argument("--out", type=Path, default=Path("runs/rate-distortion"))
    parser.add_argument("--write-cards", action="store_true")
    options = parser.parse_args()
    keep_memory()
    import pandas as pd

    from robustcodec import registry
    from robustcodec.errors import BadData
    from robustcodec.files import dump_toml
    from robustcodec.scores import rate
    from robustcodec.scores.metrics import of_every_run
    from robustcodec.spec import expand
    from robustcodec.studies import compare_report
    from robustcodec.studies.compare import compare
    from robustcodec.studies.ladders import ladders

    cards = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(CARDS.glob("*.toml"))}
    asked = [name for name, card in cards.items() if card["training"]["frames"] == 1 and fnmatch(name, options.codec)]
    metrics = of_every_run()
    rows, failures = compare(
        ladders([*(spec for anchor in ANCHORS.values() for spec in expand(anchor)), *asked]),
        registry.data.build(options.data).samples(),
        metrics,
        options.out,
        watch=lambda point: print(point, file=sys.stderr),
    )
    compare_report.write(rows, failures, metrics, options.data, options.out)
    points = compare_report.means(rows)
    print(compare_report.markdown(points, failures, metrics, options.data))
    if failures:
        sys.exit("not all could be measured, so no card is written")
    gains: dict[str, dict[str, dict[str, float]]] = {}  # by ladder, anchor and score
    for anchor in ANCHORS:
        first = points["ladder"] == anchor
        table, _ = compare_report.bd_rates(pd.concat([points[first], points[~first]]), metrics)
        for ladder, values in table.iterrows():
            of = {str(score): round(float(value), 2) for score, value in values.dropna().items()}
            gains.setdefault(str(ladder), {})[f"bd_rate_against_{anchor}_percent"] = of
    published = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    for ladder, group in points.groupby("ladder"):
        if (theirs := published.get(str(ladder).partition(".")[0])) and options.data.startswith("kodak"):
            try:
                gap = rate.bd_rate(theirs["bpp"], theirs["psnr"], group["bpp"], group["psnr"])
            except BadData as error:
                print(f"{ladder} against the published points: {error}")
                continue
            print(f"{ladder} against CompressAI's published points: {gap:+.1f} %")
            gains[str(ladder)]["bd_rate_against_published_percent"] = {"psnr": round(gap, 2)}
    if not options.write_cards:
        return
    for row in points[points["codec"].isin(asked)].to_dict("records"):
        card = cards[row["codec"]]
        card["measured"] = {options.data: {k: round(row[k], 4) for k in ("bpp", *(m.name for m in metrics))}}
        card["measured"] |= gains[row["ladder"]]
        card["measured"]["command"] = f"python benchmarks/rate_distortion.py --data {options.data} --write-cards"
        (CARDS / f"{row['codec']}.toml").write_text(dump_toml(card), encoding="utf-8")


if __name__ == "__main__":
    main()
