"""What rate attacks cost in real bytes, and how far the codec's own estimate is from them, clean and attacked.

    robustcodec run benchmarks/rate.toml
    python benchmarks/rate_gap.py runs/rate
    python benchmarks/rate_gap.py runs/rate --markdown leaderboards/attacks/rate.md

Means over samples; *gap*: estimated over real bits, minus one.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    """Print (and write) a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()

    from robustcodec.reporting.text import to_markdown
    from robustcodec.running.store import Store

    store = Store(options.run)
    rows = store.frame(store.grid().cells())
    rows["clean gap"] = 100 * (rows["bpp_est"] / rows["bpp"] - 1)
    rows["attacked gap"] = 100 * (rows["adv_bpp_est"] / rows["adv_bpp"] - 1)
    rows["largest gap"] = rows["attacked gap"].abs()
    rows["threat"] = rows["threat"].str.removeprefix("psnr:").astype(float)
    scores = {"bpp": "mean", "adv_bpp": "mean", "rate_ratio": "mean", "rate_ratio_est": "mean"}
    gaps = {"clean gap": "mean", "attacked gap": "mean", "largest gap": "max"}
    table = rows.groupby(["codec", "attack", "threat"]).agg(scores | gaps).reset_index()
    table = table.rename(columns={"threat": "budget (dB)", **{gap: f"{gap} (%)" for gap in gaps}})
    shown = to_markdown(table.sort_values(["attack", "codec", "budget (dB)"], ascending=[True, True, False]))
    print(shown)
    if options.markdown:
        about = (__doc__ or "").split("\n\n")
        options.markdown.write_text(
            f"# Rate attacks\n\n{about[0]}\n\n{about[1]}\n\n{about[2]}\n{shown}", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
