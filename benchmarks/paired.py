"""Is one codec of a run more vulnerable than another? Paired over clips, with bootstrap 95 % intervals.

    robustcodec run benchmarks/clips.toml && python benchmarks/paired.py runs/clips rdae.tiny-q2 rdae-gan.tiny-q2

Of each score the worst over the attacks of the run is taken per clip and codec, then the mean difference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from robustcodec.running.store import Store
from robustcodec.scores.robustness import interval

SCORES = ("vi_db", "delta_psnr", "rate_ratio")


def main() -> None:
    """Print one line per threat and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("codec", nargs=2)
    options = parser.parse_args()
    store = Store(options.run)
    rows = store.frame(store.grid().cells())
    one, other = options.codec
    for threat, group in rows.groupby("threat"):
        for score in SCORES:
            worst = group.groupby(["codec", "sample"])[score].max().unstack(0)
            found = interval(worst[other] - worst[one])
            print(
                f"{threat} {score}: {one} {worst[one].mean():.3f}, {other} {worst[other].mean():.3f}, difference "
                f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] over {found.n} clips"
            )


if __name__ == "__main__":
    main()
