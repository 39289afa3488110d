"""Rate–distortion of the bundled codecs against JPEG, from real bytes, and the measured part of their cards.

    python benchmarks/rate_distortion.py --data kodak                 prints points and BD-rates
    python benchmarks/rate_distortion.py --data kodak --write-cards   also records them in zoo/cards

JPEG is Pillow's (libjpeg-turbo), 4:2:0, optimised Huffman tables. A ladder's BD-rate is over the quality range
that it shares with JPEG, PCHIP interpolation of log-rate; negative is better than JPEG.
"""

from __future__ import annotations

import argparse
import tomllib
from collections import defaultdict
from pathlib import Path

from robustcodec.allocator import keep_memory

JPEG_QUALITIES = (2, 3, 5, 8, 12, 17, 23, 30, 40, 50, 60, 70, 80, 88)
CARDS = Path(__file__).parents[1] / "zoo" / "cards"
METRICS = ("psnr", "ms_ssim")


def points(spec: str, data: str) -> dict[str, float]:
    """Mean bpp, PSNR (dB) and MS-SSIM of a codec over a data set."""
    from robustcodec import registry
    from robustcodec.data import to_float
    from robustcodec.train import measure

    codec = registry.codecs.build(spec)
    scores = [measure(codec, to_float(s.load())[None]) for s in registry.data.build(data).samples()]
    return {key: sum(s[key] for s in scores) / len(scores) for key in scores[0]}


def ladders() -> dict[str, list[str]]:
    """Bundled codecs by ladder: family and tag without its quality."""
    out: dict[str, list[str]] = defaultdict(list)
    for card in sorted(CARDS.glob("*.toml")):
        out[card.stem.rpartition("-q")[0]].append(card.stem)
    return dict(out)


def main() -> None:
    """Measure, print and, if asked, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="kodak")
    parser.add_argument("--write-cards", action="store_true")
    options = parser.parse_args()
    keep_memory()
    from robustcodec.errors import BadData
    from robustcodec.rate import bd_rate
    from robustcodec.weights import dump_toml

    jpeg = [points(f"jpeg:quality={q}", options.data) for q in JPEG_QUALITIES]
    for quality, point in zip(JPEG_QUALITIES, jpeg, strict=True):
        print(f"{f'jpeg:quality={quality}':36}" + "  ".join(f"{k} {v:.4f}" for k, v in point.items()), flush=True)
    for name, specs in ladders().items():
        curve = [points(spec, options.data) for spec in specs]
        gains: dict[str, float] = {}
        for metric in METRICS:
            try:
                gains[metric] = bd_rate(
                    [p["bpp"] for p in jpeg],
                    [p[metric] for p in jpeg],
                    [p["bpp"] for p in curve],
                    [p[metric] for p in curve],
                )
            except BadData as error:
                print(f"{name}: no BD-rate in {metric}: {error}")
        for spec, point in zip(specs, curve, strict=True):
            print(f"{spec:36}" + "  ".join(f"{k} {v:.4f}" for k, v in point.items()))
        print(f"{name}: BD-rate against JPEG " + ", ".join(f"{v:+.1f} % in {k}" for k, v in gains.items()), flush=True)
        if options.write_cards:
            for spec, point in zip(specs, curve, strict=True):
                path = CARDS / f"{spec}.toml"
                card = tomllib.loads(path.read_text(encoding="utf-8"))
                card["measured"] = {options.data: {k: round(v, 4) for k, v in point.items()}}
                card["measured"]["bd_rate_against_jpeg_percent"] = {k: round(v, 2) for k, v in gains.items()}
                card["measured"]["command"] = (
                    f"python benchmarks/rate_distortion.py --data {options.data} --write-cards"
                )
                path.write_text(dump_toml(card), encoding="utf-8")


if __name__ == "__main__":
    main()
