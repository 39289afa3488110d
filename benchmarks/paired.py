"""Which codecs of a run differ in how vulnerable they are? All pairs on the same clips: intervals and p-values.

    robustcodec run benchmarks/clips.toml && python benchmarks/paired.py runs/clips rdae.tiny-q2 rdae-gan.tiny-q2

Of each score the worst over the attacks of the run is taken per clip and codec; the mean difference is of that, for
rates of their logarithm (so that it reads as a factor). P-values are corrected for all pairs that were asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from robustcodec.reporting.text import ends
from robustcodec.running.store import Store
from robustcodec.scores.ranks import paired, pairs

SCORES = ("vi_db", "delta_psnr", "delta_own_psnr", "rate_ratio")


def main() -> None:
    """Print one line per threat, score and pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("codec", nargs="+", help="two or more")
    options = parser.parse_args()
    store = Store(options.run)
    rows = store.frame(store.grid().cells())
    for threat, group in rows.groupby("threat"):
        for score in SCORES:
            worst = group.groupby(["codec", "sample"])[score].max().unstack(0)
            values = {codec: np.log(worst[codec]) if score == "rate_ratio" else worst[codec] for codec in options.codec}
            for pair in pairs(options.codec, paired(values)).to_dict("records"):
                print(f"{threat} {score}: {_in_words(pair, worst, score)}")


def _in_words(pair: dict[str, object], worst: pd.DataFrame, score: str) -> str:
    one, other = str(pair["one"]), str(pair["other"])
    shift, low, high = (float(str(pair[end])) for end in ("difference", "low", "high"))
    what, sign = "difference", "+"
    if score == "rate_ratio":
        (shift, low, high), what, sign = map(float, np.exp([shift, low, high])), "factor", ""
    return (
        f"{one} {worst[one].mean():.3f}, {other} {worst[other].mean():.3f}, {what} {shift:{sign}.3f} "
        f"[{ends(low, high, 3, sign)}], p {pair['p']:.4f}, corrected {pair['p_holm']:.4f}, {pair['samples']} clips"
    )


if __name__ == "__main__":
    main()
