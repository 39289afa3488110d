"""All attacks of a run, ranked, and what the worst case per sample over a suite adds to the best of them.

    robustcodec run benchmarks/attacks.toml
    python benchmarks/attack_ranking.py runs/attacks
    python benchmarks/attack_ranking.py runs/attacks --markdown leaderboards/attacks/ranking.md

Means over samples and codecs of one threat, sorted by the loss of PSNR against the clean source. (`vi_db` rewards an
attack that leaves budget unused: damage saturates.)
"""

from __future__ import annotations

import argparse
from pathlib import Path

KEYS = ["threat", "codec", "sample"]
SCORES = ["vi_db", "delta_psnr", "delta_own_psnr", "rate_ratio"]


def main() -> None:
    """Print (and write) a table per threat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="+", help="run folders; their rows are taken together")
    parser.add_argument("--suite", default="robustcodec-standard.v1", help="that benchmarks/attacks.toml runs")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    import pandas as pd

    from robustcodec.reporting.text import to_markdown
    from robustcodec.running import suites
    from robustcodec.running.store import Store

    stores = [Store(folder) for folder in options.run]
    rows = pd.concat([store.frame(store.grid().cells()) for store in stores]).drop_duplicates(["cell", "sample"])
    suite = suites.find(options.suite)
    rows["name"] = rows["attack"] + [f" ({o})" if o != "distortion" else "" for o in rows["objective"]]
    pairs = [(str(a), str(o)) for a, o in zip(rows["attack"], rows["objective"], strict=True)]
    in_suite = pd.Series([pair in suite.members for pair in pairs], index=rows.index)
    worst = rows[in_suite].groupby(KEYS)[SCORES].max().reset_index().assign(name=f"{suite}: worst per sample")
    text = []
    for threat, group in pd.concat([rows, worst]).groupby("threat", sort=False):
        mean = group.groupby("name")[[*SCORES, "input_psnr", "queries"]].mean()
        codecs, samples = rows["codec"].nunique(), rows["sample"].nunique()
        table = mean.sort_values("delta_psnr", ascending=False).rename_axis("attack").reset_index()
        text.append(f"### {threat}: {samples} samples, {codecs} codecs\n\n{to_markdown(table)}")
    shown = "\n".join(text)
    print(shown)
    missing = [f"{a} ({o})" for a, o in suite.members if (a, o) not in pairs]
    if missing:
        print(f"not run of {suite}: {', '.join(missing)}")
    if options.markdown:
        options.markdown.write_text(f"# Attacks, ranked\n\n{__doc__}\n{shown}", encoding="utf-8")


if __name__ == "__main__":
    main()
