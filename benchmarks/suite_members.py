"""What a suite loses without each of its members: what each one earns its place with.

    robustcodec run --codec bmshj2018-hyperprior.tiny-q2 --suite robustcodec-standard --threat "psnr:{40,34}" \\
        --data kodak:crop=64 --out runs/members
    python benchmarks/suite_members.py runs/members robustcodec-standard

Of every sample the largest loss of PSNR, the largest amplification and the largest factor of the bytes over the members
count, then their means; a line per member says by how much less these means are without it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SCORES = ["delta_psnr", "vi_db", "rate_ratio"]


def main() -> None:
    """Print a table for each codec and threat of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder in which all members of the suite were run")
    parser.add_argument("suite")
    options = parser.parse_args()
    import pandas as pd

    from robustcodec.reporting.text import to_markdown
    from robustcodec.running import suites
    from robustcodec.running.store import Store

    store, suite = Store(options.run), suites.find(options.suite)
    rows = store.frame(store.grid().cells())
    rows["member"] = rows["attack"] + ", " + rows["objective"]
    names = [f"{attack}, {objective}" for attack, objective in suite.members]
    if missing := sorted(set(names) - set(rows["member"])):
        parser.error(f"{options.run} lacks {'; '.join(missing)} of {suite}; run it with --suite {suite}")

    def worst(of: pd.DataFrame) -> pd.Series[float]:
        means: pd.Series[float] = of.groupby("sample")[SCORES].max().mean()
        return means

    for (codec, threat), group in rows[rows["member"].isin(names)].groupby(["codec", "threat"]):
        whole = worst(group)
        lost = {f"without {name}": worst(group[group["member"] != name]) - whole for name in names}
        table = pd.DataFrame({str(suite): whole, **lost}).T.rename_axis("suite").reset_index()
        print(f"{codec}, {threat}, {group['sample'].nunique()} samples\n\n{to_markdown(table)}")


if __name__ == "__main__":
    main()
