"""Times of defenses: CPU time of encoding and decoding behind a defense, over that of the bare codec, on one clip.

    robustcodec run mygrid.toml --out runs/mine
    python benchmarks/defense_times.py runs/mine && robustcodec report runs/mine

Writes ``defense-times.csv`` into the run folder for every codec and defense of its grid, where ``robustcodec report``
looks for it. Bare and defended codec take turns, so that whatever else the machine does slows both; the factor is the
median over rounds of ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

import robustcodec
from robustcodec.clips import to_float
from robustcodec.files import write_whole
from robustcodec.interfaces import Codec
from robustcodec.running.store import Store
from robustcodec.studies.defenses_report import FACTORS, TIMES


@torch.no_grad()
def seconds(codec: Codec, x: Tensor) -> tuple[float, float]:
    """CPU seconds to encode and to decode a float clip ``(1, T, 3, H, W)`` once."""
    start = time.process_time()
    streams = codec.compress(x)
    coded = time.process_time()
    codec.decompress(streams)
    return coded - start, time.process_time() - coded


def factors(bare: Codec, defended: Codec, x: Tensor, rounds: int) -> tuple[float, float]:
    """Defended over bare, of encoding and decoding: medians over rounds in which both take turns, after one untimed."""
    ratios: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        ours, theirs = seconds(defended, x), seconds(bare, x)
        if number:
            ratios.append((ours[0] / theirs[0], ours[1] / theirs[1]))
    return statistics.median(r[0] for r in ratios), statistics.median(r[1] for r in ratios)


def measure(pairs: Sequence[tuple[str, str]], x: Tensor, rounds: int) -> pd.DataFrame:
    """One line per codec and defense: ``codec``, ``defense``, ``encode_factor``, ``decode_factor``."""
    lines = []
    for codec, defense in pairs:
        bare, defended = (robustcodec.load(codec, d).requires_grad_(False) for d in ("none", defense))
        found = factors(bare, defended, x, rounds)
        print(f"{codec} + {defense}: encode × {found[0]:.2f}, decode × {found[1]:.2f}", flush=True)
        lines.append([codec, defense, *found])
    return pd.DataFrame(lines, columns=["codec", "defense", *FACTORS])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", type=Path, help="run folder")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    torch.set_num_threads(1)
    cells = Store(given.run).grid().cells()
    pairs = sorted({(cell.codec, cell.defense) for cell in cells if cell.defense != "none"})
    if not pairs:
        raise SystemExit(f"{given.run} holds no defense; expected a run with --defense")
    x = to_float(cells[0].samples()[0].load())[None]
    table = measure(pairs, x, given.rounds)
    write_whole(given.run / TIMES, table.to_csv(index=False, float_format="%.4g", lineterminator="\n").encode())


if __name__ == "__main__":
    main()
