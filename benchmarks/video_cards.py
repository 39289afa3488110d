"""Records in the cards of the bundled video codecs what ``robustcodec compare`` measured on the test clips.

    robustcodec compare --data folder:clips-test --metric lpips:net=squeeze --codec "rdae.tiny-q{1,2,3}" \\
        --codec "rdae-gan.tiny-q{1,2,3}" --out runs/clips-test
    python benchmarks/video_cards.py runs/clips-test
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import pandas as pd

from robustcodec.files import dump_toml
from robustcodec.studies import compare_report

CARDS = Path(__file__).parents[1] / "zoo" / "cards"
SCORES = ("bpp", "psnr", "ms_ssim", "lpips_squeeze")
COMMAND = "robustcodec compare --data folder:clips-test --metric lpips:net=squeeze --codec {codec}"


def main() -> None:
    """Write the ``measured`` part of every card that the folder has results of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what compare wrote")
    rows = pd.read_csv(parser.parse_args().folder / "rd.csv")
    for point in compare_report.means(rows).to_dict("records"):
        path = CARDS / f"{point['codec']}.toml"
        if not path.is_file():
            continue
        card = tomllib.loads(path.read_text(encoding="utf-8"))
        card["measured"] = {
            "command": COMMAND.format(codec=point["codec"]),
            "clips": sorted(rows["clip"].unique()),
            "clips_test": {score: round(point[score], 4) for score in SCORES},
        }
        path.write_text(dump_toml(card), encoding="utf-8")
        print(path.name)


if __name__ == "__main__":
    main()
