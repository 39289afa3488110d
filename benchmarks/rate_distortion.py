"""Rate–distortion of the bundled image codecs against JPEG, from real bytes, and the measured part of their cards.

    python benchmarks/rate_distortion.py --data kodak                 prints points and BD-rates
    python benchmarks/rate_distortion.py --data kodak --write-cards   also records them in zoo/cards

JPEG is Pillow's (libjpeg-turbo), 4:2:0, optimised Huffman tables. A ladder's BD-rate is over the quality range
that it shares with JPEG, PCHIP interpolation of log-rate; negative is better than JPEG. What is measured is kept in
``--out``, with the plots of ``robustcodec compare``.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

from robustcodec.execution.allocator import keep_memory

JPEG = "jpeg:quality={2,3,5,8,12,17,23,30,40,50,60,70,80,88}"
CARDS = Path(__file__).parents[1] / "zoo" / "cards"


def main() -> None:
    """Measure, print and, if asked, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="kodak")
    parser.add_argument("--out", type=Path, default=Path("runs/rate-distortion"))
    parser.add_argument("--write-cards", action="store_true")
    options = parser.parse_args()
    keep_memory()
    from robustcodec import registry
    from robustcodec.files import dump_toml
    from robustcodec.scores.metrics import of_every_run
    from robustcodec.spec import expand
    from robustcodec.studies import compare_report
    from robustcodec.studies.compare import compare
    from robustcodec.studies.ladders import ladders

    cards = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(CARDS.glob("*.toml"))}
    bundled = [name for name, card in cards.items() if card["training"]["frames"] == 1]  # others are for clips
    metrics = of_every_run()
    rows, failures = compare(
        ladders([*expand(JPEG), *bundled]),
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
    gains, _ = compare_report.bd_rates(points, metrics)
    if not options.write_cards:
        return
    for row in points[points["codec"].isin(bundled)].to_dict("records"):
        card = cards[row["codec"]]
        card["measured"] = {options.data: {k: round(row[k], 4) for k in ("bpp", *(m.name for m in metrics))}}
        gain = gains.loc[row["ladder"]].dropna()
        card["measured"]["bd_rate_against_jpeg_percent"] = {str(k): round(v, 2) for k, v in gain.items()}
        card["measured"]["command"] = f"python benchmarks/rate_distortion.py --data {options.data} --write-cards"
        (CARDS / f"{row['codec']}.toml").write_text(dump_toml(card), encoding="utf-8")


if __name__ == "__main__":
    main()
