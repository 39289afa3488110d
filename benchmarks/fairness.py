"""Is a board's score fair to codecs of other rates? Rungs of one ladder side by side, and ladders by two scores.

    python benchmarks/fairness.py leaderboards/kodak-distortion

A ladder is a codec at several rates. Per rung: the premium, clean and under attack. Who spends more bits gains nothing
if the premium does not fall up a ladder, and who shows a poor picture gains nothing if it does not fall down one; the
last column says which of two neighbours is better beyond chance (pairs.csv). Per ladder: the mean premium and the
attacked BD-rate, of the attacked curve against the anchor's clean one, over the qualities that both reach, which judges
no single rate; then Kendall's rank correlation of the two.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from scipy.stats import kendalltau

from robustcodec.errors import BadData
from robustcodec.reporting.text import to_markdown
from robustcodec.scores.rate import bd_rate
from robustcodec.studies.ladders import Ladder, ladders


def _verdict(pairs: pd.DataFrame, one: str, other: str) -> str:
    """Which of two entries is better, from the board's paired comparison."""
    for row in pairs.itertuples(index=False):
        if {row.one, row.other} == {one, other}:
            if row.p_holm >= 0.05:
                return "neither"
            lower = row.one if row.difference < 0 else row.other
            return "this one" if lower == one else "the one before"
    return "–"


def _bd(anchor: pd.DataFrame, points: pd.DataFrame, prefix: str) -> float:
    try:
        return bd_rate(anchor["bpp"], anchor["psnr"], points[f"{prefix}bpp"], points[f"{prefix}psnr"])
    except BadData:  # too few points, or none in common
        return float("nan")


def rungs(table: pd.DataFrame, pairs: pd.DataFrame, ladder: Ladder) -> list[dict[str, object]]:
    """A line per rate of a ladder, from the lowest."""
    points = table.loc[list(ladder.codecs)].sort_values("bpp")
    before = [None, *points.index[:-1]]
    return [
        {
            "ladder": ladder.name, "entry": entry, "bpp": row["bpp"], "psnr": row["psnr"],
            "clean premium": row["clean_score"], "premium": row["score"],
            "of the attack": row["score"] - row["clean_score"],
            "better": "–" if lower is None else _verdict(pairs, entry, lower),
        }
        for (entry, row), lower in zip(points.iterrows(), before, strict=True)
    ]  # fmt: skip


def whole(table: pd.DataFrame, anchor: pd.DataFrame, ladder: Ladder) -> dict[str, object]:
    """The line of a ladder as a whole."""
    points = table.loc[list(ladder.codecs)]
    return {
        "ladder": ladder.name, "rates": len(points), "mean premium": points["score"].mean(),
        "attacked BD-rate": _bd(anchor, points, "adv_"), "clean BD-rate": _bd(anchor, points, ""),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", type=Path)
    options = parser.parse_args()
    table, pairs, anchor = (pd.read_csv(options.board / f"{name}.csv") for name in ("table", "pairs", "anchor"))
    curve = anchor.groupby("codec")[["bpp", "psnr"]].mean()
    ranked = table[table["bound"].isna() & ~table["entry"].str.contains(" + ", regex=False)]
    for threat, rows in ranked.groupby("threat"):
        entries = rows.set_index("entry")
        found = [ladder for ladder in ladders(entries.index) if len(ladder.codecs) > 1]
        tested = pairs[pairs["threat"] == threat]
        lines = [line for ladder in found for line in rungs(entries, tested, ladder)]
        as_wholes = pd.DataFrame([whole(entries, curve, ladder) for ladder in found])
        print(f"## {threat}\n\n{to_markdown(pd.DataFrame(lines))}\n\n{to_markdown(as_wholes)}\n")
        both = as_wholes.dropna()
        if len(both) > 2:
            tau = kendalltau(both["mean premium"], both["attacked BD-rate"]).statistic
            print(f"Kendall's τ of the two scores over {len(both)} ladders: {tau:.2f}\n")


if __name__ == "__main__":
    main()
