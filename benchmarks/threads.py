"""How much the number of threads changes scores: the largest difference of each between two runs of one grid.

robustcodec run --threads 1 --out runs/one
robustcodec run --threads 2 --out runs/two
python benchmarks/threads.py runs/one runs/two
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from robustcodec.running.store import Store


def rows(run: Path) -> pd.DataFrame:
    """The scores of a run, by cell and sample; cells have the same names whatever the number of threads."""
    store = Store.existing(run)
    return store.frame(store.grid().cells()).set_index(["cell", "sample"])


def main() -> None:
    """A line per score that differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs=2)
    one, other = map(rows, parser.parse_args().runs)
    if not one.index.equals(other.index):
        raise SystemExit("the runs hold other cells; give two finished runs of one grid")
    print(f"{len(one)} samples\n\n| score | differ | at most | of |\n|---|---|---|---|")
    numbers = one.select_dtypes("number").columns
    differences = (one[numbers] - other[numbers]).abs()
    for name, values in differences.items():
        if (worst := values.max()) > 0:
            row = one.loc[values.idxmax()]
            what = f"{row['codec']}, {row['attack']}, {values.idxmax()[1]}"
            print(f"| {name} | {(values > 0).sum()} | {worst:.2g} | {what} |")


if __name__ == "__main__":
    main()
