"""The README's tables, from run folders.

robustcodec run && python benchmarks/readme_tables.py leaderboard runs/default
robustcodec run benchmarks/kodak.toml && python benchmarks/readme_tables.py attacks runs/kodak
"""

from __future__ import annotations

import argparse
from pathlib import Path

LEADERBOARD = ["rank", "codec", "defense", "access", "bpp", "psnr", "robust_psnr", "drop", "vi_db", "rate_ratio"]
ATTACKS = ["threat", "codec", "attack", "vi_db", "vi_low", "vi_high", "delta_psnr", "rate_ratio", "input_psnr"]


def main() -> None:
    """Print one table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["leaderboard", "attacks"])
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    from robustcodec import report
    from robustcodec.store import Store

    store = Store(options.run)
    rows = store.frame(store.grid().cells())
    if options.table == "leaderboard":
        print(report.to_markdown(report.leaderboard(rows)[LEADERBOARD]))
    else:
        table = report.attack_table(rows)
        table = table.sort_values(["threat", "codec", "vi_db"], ascending=[False, True, True])
        print(report.to_markdown(table[ATTACKS]))


if __name__ == "__main__":
    main()
