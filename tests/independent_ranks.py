"""The ranks of a published board, from the files of its entries alone: no code of the package, no pandas, plain loops.

For whoever doubts them: ``python tests/independent_ranks.py leaderboards/photos-quick``.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from scipy.stats import t as student

Point = tuple[float, float]  # bits per pixel, PSNR in dB
FEWEST = 5  # sources that an interval needs
SURE = 0.05


def main(folder: Path) -> dict[str, dict[str, tuple[float, int, int, int]]]:
    """By threat and entry: its score in percent, its rank, and the ends of its rank's interval."""
    curve = anchor(folder)
    attacked: dict[str, dict[str, dict[str, list[Point]]]] = {}  # by threat, entry and sample
    for path in sorted((folder / "results").glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        name = entry["codec"] + (f" + {entry['defense']}" if entry["defense"] != "none" else "")
        if entry["kind"] == "no-gradient":  # nothing strong was tried: a bound, which has no rank
            continue
        for cell in entry["cells"]:
            threat = attacked.setdefault(cell["axes"]["threat"], {}).setdefault(name, {})
            for sample, point in points(cell["table"]):
                threat.setdefault(sample, []).append(point)
    return {threat: ranked(entries, curve) for threat, entries in attacked.items()}


def anchor(folder: Path) -> dict[str, dict[str, Point]]:
    """By codec and sample."""
    curve: dict[str, dict[str, Point]] = {}
    with (folder / "anchor.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            curve.setdefault(line["codec"], {})[line["sample"]] = float(line["bpp"]), float(line["psnr"])
    return curve


def points(table: dict) -> Iterator[tuple[str, Point]]:  # type: ignore[type-arg]
    for sample, row in table["rows"].items():
        numbers = {**table["constant"], **dict(zip(table["columns"], row, strict=True))}
        yield sample, (numbers["adv_bpp"], 0.0 if numbers["decode_failed"] else numbers["adv_psnr"])


def ranked(
    entries: dict[str, dict[str, list[Point]]], curve: dict[str, dict[str, Point]]
) -> dict[str, tuple[float, int, int, int]]:
    worst = {name: worst_of(samples, curve) for name, samples in entries.items()}
    sources = sorted({source(sample) for samples in entries.values() for sample in samples})
    value = {name: premium(chosen, curve, "") for name, chosen in worst.items()}
    without = {name: [premium(chosen, curve, left) for left in sources] for name, chosen in worst.items()}
    p = {}
    for pair in combinations(sorted(value, key=lambda name: (value[name], name)), 2):
        one, other = pair
        differences = [a - b for a, b in zip(without[one], without[other], strict=True)]
        p[pair] = p_value(value[one] - value[other], differences)
    better = holm(p)
    ranks = {}
    for name, mine in value.items():
        ahead = sum(pair[1] == name for pair in better)  # pairs have the better one first
        behind = sum(pair[0] == name for pair in better)
        rank = 1 + sum(other < mine for other in value.values())
        ranks[name] = 100 * math.expm1(mine), rank, 1 + ahead, len(value) - behind
    return ranks


def worst_of(samples: dict[str, list[Point]], curve: dict[str, dict[str, Point]]) -> dict[str, Point]:
    """The attack of each sample: first the one that leaves the least PSNR, then whichever raises the score of all."""
    chosen = {sample: min(found, key=lambda point: point[1]) for sample, found in samples.items()}
    score, better = premium(chosen, curve, ""), True
    while better:
        better = False
        for sample, found in samples.items():
            tried = [(premium({**chosen, sample: point}, curve, ""), point) for point in found]
            top, point = max(tried, key=lambda each: each[0])
            if top > score + 1e-9:
                chosen[sample], score, better = point, top, True
    return chosen


def premium(chosen: dict[str, Point], curve: dict[str, dict[str, Point]], left_out: str) -> float:
    """ln of mean bits over those that the anchor's mean curve needs for the mean PSNR, without one source."""
    kept = [sample for sample in chosen if source(sample) != left_out]
    bits, quality = (math.fsum(chosen[sample][i] for sample in kept) / len(kept) for i in (0, 1))
    means = sorted(
        tuple(math.fsum(points[sample][i] for sample in kept) / len(kept) for i in (0, 1)) for points in curve.values()
    )
    pieces = list(zip(means[:-1], means[1:], strict=True))
    (b0, q0), (b1, q1) = next((piece for piece in pieces if quality <= piece[1][1]), pieces[-1])
    needed = math.log(b0) + (math.log(b1) - math.log(b0)) * (quality - q0) / (q1 - q0)
    return math.log(bits) - needed


def source(sample: str) -> str:
    """The video that a segment, or the photograph that a motion, is of."""
    return re.sub(r"@\d+$|-in-motion-\d+$", "", sample)


def p_value(value: float, without: list[float]) -> float:
    """Of the jackknife, two-sided, by Student's t with two degrees of freedom less than sources."""
    n = len(without)
    if n < FEWEST:
        return math.nan
    mean = math.fsum(without) / n
    error = math.sqrt((n - 1) / n * math.fsum((each - mean) ** 2 for each in without))
    if abs(value) <= 1e-12:
        return 1.0
    return float(2 * student.sf(abs(value) / error, n - 2)) if error else 0.0


def holm(p: dict[tuple[str, str], float]) -> list[tuple[str, str]]:
    """The pairs that differ: in the order of p, until one is not below 5 % over the number of those that are left."""
    found: list[tuple[str, str]] = []
    for pair in sorted(p, key=lambda pair: (math.isnan(p[pair]), p[pair])):
        if not p[pair] < SURE / (len(p) - len(found)):
            break
        found.append(pair)
    return found


if __name__ == "__main__":
    for threat, entries in main(Path(sys.argv[1])).items():
        print(threat)
        for name, (score, rank, low, high) in sorted(entries.items(), key=lambda item: item[1][1]):
            print(f"{rank:4d} ({low}–{high})  {score:+9.3f} %  {name}")
