"""Which attack of a run shows most? All of them by what they do to the region where they do most, and the picture of
the first.

    robustcodec run benchmarks/picture.toml
    python benchmarks/picture.py runs/picture
    python benchmarks/picture.py runs/picture --threat psnr:40+linf:8 --picture picture.png

*there*: in the quarter of width and height where the attacked reconstruction differs most from the clean one. Lines are
sorted by the loss of PSNR there. Where the input itself has a low PSNR there, one sees the attack before it is coded.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path


def main() -> None:
    """Print a line per attacked photo, and draw the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threat", help="this one alone")
    parser.add_argument("--lines", type=int, default=20, help="how many to print")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()

    import pandas as pd
    from torch import Tensor

    from robustcodec.coding import code, judged
    from robustcodec.reporting.text import to_markdown
    from robustcodec.running.store import Store
    from robustcodec.studies.before_and_after import draw
    from robustcodec.studies.compare_closeups import hardest

    def psnr(one: Tensor, other: Tensor) -> float:
        return -10 * math.log10(max(float((one.double() - other.double()).square().mean()), 1e-9) / 255**2)

    store = Store.existing(options.run)
    cells = [c for c in store.grid().cells() if store.done(c.id) and options.threat in (None, c.threat)]
    scores = store.frame(cells).set_index(["cell", "sample"])
    lines, pictures = [], []
    for cell in cells:
        codec = judged(cell.codec)
        for sample in cell.samples():
            if (kept := store.clip(cell.craft_id(sample))) is None:
                continue
            original, adversarial = sample.load(), kept[0]
            clean, attacked = (code(codec, clip).decoded() for clip in (original, adversarial))
            box = hardest(clean[0], [attacked[0]])
            there = [box.cut(clip[0]) for clip in (original, adversarial, clean, attacked)]
            row = scores.loc[(cell.id, sample.id)]
            seen = [psnr(part, there[0]) for part in there[1:]]
            losses = (row["psnr"] - row["adv_psnr"], seen[1] - seen[2])
            lines.append((cell.codec, cell.objective, cell.threat, sample.id, *losses, *seen))
            clips = {"original": original, "adversarial": adversarial, "clean": clean, "attacked": attacked}
            pictures.append((clips, cell.codec, row.to_dict()))
    columns = ["codec", "objective", "threat", "photo", "loss (dB)", "loss there (dB)"]
    table = pd.DataFrame(lines, columns=[*columns, *(f"{part} there (dB)" for part in ("input", "clean", "attacked"))])
    table = table.sort_values("loss there (dB)", ascending=False)
    print(to_markdown(table.round(2).head(options.lines)))
    if options.picture and len(table):
        clips, name, row = pictures[int(table.index[0])]
        print(f"written: {draw(clips, name, row, options.picture)}")


if __name__ == "__main__":
    main()
