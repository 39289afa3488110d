r"""Which interval holds the truth as often as it says? Methods compared on real per-sample scores of published boards.

    python benchmarks/interval_coverage.py            # a table in Markdown: coverage, and the median width
    python benchmarks/interval_coverage.py --boards leaderboards/kodak-distortion --draws 300 \
        --methods "percentile bootstrap" BCa t "t of pseudo-values" "t, n − 2"   # the bootstrap t is slow

A population is what a board's entries scored, sample by sample, at one threat. Of means (each entry centred and scaled,
then all together, so that it has hundreds of values) and of differences between two entries, ``n`` values are drawn; of
the score, ``n`` samples of one entry are drawn with their points of the anchor, and the truth is the score over all of
them. A method is right as often as its interval holds the truth, which should be in 95 % of all draws; the width is
relative to that of the published method.

t: Student's with n − 1 degrees of freedom, of the jackknife; t, n − 2: what is published; BCa: Efron, 1987
(https://doi.org/10.1080/01621459.1987.10478410); bootstrap t: Efron & Tibshirani, 1993, chapter 12.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from robustcodec.boards.audit import audit
from robustcodec.boards.board import Board, boards_below
from robustcodec.boards.score import Anchor, log_ratio, worst_for
from robustcodec.reporting.text import to_markdown
from robustcodec.scores.robustness import worst_rows

Array = NDArray[np.float64]
Ends = tuple[Array, Array]
# of draws, (draws, n, numbers of a sample); gives one number for each draw
Statistic = Callable[[Array], Array]
SIZES = (5, 6, 12, 24)
RESAMPLES = 200
TAIL = 0.025
PUBLISHED = "t, n − 2"


def left_out(drawn: Array) -> Array:
    """Draws without each of their samples: (draws, n, n − 1, numbers)."""
    n = drawn.shape[1]
    return drawn[:, [[j for j in range(n) if j != i] for i in range(n)]]


def jackknife(statistic: Statistic, drawn: Array) -> tuple[Array, Array, Array]:
    """The statistic of each draw, its values without each sample, and its standard error."""
    left = left_out(drawn)
    without = statistic(left.reshape(-1, *left.shape[2:])).reshape(left.shape[:2])
    return statistic(drawn), without, np.sqrt((drawn.shape[1] - 1) * without.var(1))


def student(statistic: Statistic, drawn: Array, freedom: int) -> Ends:
    value, _, error = jackknife(statistic, drawn)
    half = stdtrit(freedom, 1 - TAIL) * error
    return value - half, value + half


def pseudo_values(statistic: Statistic, drawn: Array) -> Ends:
    """Tukey's: a mean and its t over ``n · value − (n − 1) · without``."""
    n = drawn.shape[1]
    value, without, error = jackknife(statistic, drawn)
    centre = (n * value[:, None] - (n - 1) * without).mean(1)
    half = stdtrit(n - 1, 1 - TAIL) * error
    return centre - half, centre + half


def resampled(statistic: Statistic, drawn: Array) -> Array:
    """(draws, resamples) values of the bootstrap."""
    rng, n = np.random.default_rng(0), drawn.shape[1]
    picks = rng.integers(0, n, (RESAMPLES, n))
    return np.stack([statistic(drawn[:, pick]) for pick in picks], 1)


def percentile(statistic: Statistic, drawn: Array) -> Ends:
    low, high = np.quantile(resampled(statistic, drawn), [TAIL, 1 - TAIL], axis=1)
    return low, high


def bca(statistic: Statistic, drawn: Array) -> Ends:
    """Bias-corrected and accelerated."""
    boot = np.sort(resampled(statistic, drawn), 1)
    value, without, _ = jackknife(statistic, drawn)
    below = (boot < value[:, None]).mean(1) + 0.5 * (boot == value[:, None]).mean(1)
    bias = ndtri(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    away = without.mean(1, keepdims=True) - without
    acceleration = (away**3).sum(1) / (6 * (away**2).sum(1) ** 1.5 + 1e-300)
    ends = []
    for z in (ndtri(TAIL), ndtri(1 - TAIL)):
        level = ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
        place = np.clip(np.nan_to_num(level) * (RESAMPLES - 1), 0, RESAMPLES - 1).round().astype(int)
        ends.append(np.take_along_axis(boot, place[:, None], 1)[:, 0])
    return ends[0], ends[1]


def bootstrap_t(statistic: Statistic, drawn: Array) -> Ends:
    value, _, error = jackknife(statistic, drawn)
    rng, n = np.random.default_rng(0), drawn.shape[1]
    ratios = []
    for pick in rng.integers(0, n, (RESAMPLES, n)):
        again, _, scale = jackknife(statistic, drawn[:, pick])
        ratios.append((again - value) / np.maximum(scale, 1e-3 * error + 1e-300))
    low, high = np.quantile(np.stack(ratios, 1), [TAIL, 1 - TAIL], axis=1)
    return value - high * error, value - low * error


METHODS: dict[str, Callable[[Statistic, Array], Ends]] = {
    "percentile bootstrap": percentile,
    "BCa": bca,
    "bootstrap t": bootstrap_t,
    "t": lambda statistic, drawn: student(statistic, drawn, drawn.shape[1] - 1),
    "t of pseudo-values": pseudo_values,
    PUBLISHED: lambda statistic, drawn: student(statistic, drawn, drawn.shape[1] - 2),
}


def mean(drawn: Array) -> Array:
    return np.asarray(drawn[..., 0].mean(1))


def premium(drawn: Array) -> Array:
    """Logarithm of the score: of bpp, PSNR, and the anchor's rates and then its qualities."""
    means = drawn.mean(1)
    points = (means.shape[1] - 2) // 2
    return log_ratio(means[:, 0], means[:, 1], means[:, 2 : 2 + points], means[:, 2 + points :])


def relative(drawn: Array) -> Array:
    """The score itself, whose interval is then symmetric about it."""
    return np.asarray(np.exp(premium(drawn)))


def difference(drawn: Array) -> Array:
    """Of the logarithms of two scores, one beside the other."""
    half = drawn.shape[2] // 2
    return premium(drawn[:, :, :half]) - premium(drawn[:, :, half:])


Population = tuple[str, Statistic, list[Array]]  # kind, what is estimated, and what is drawn from


def populations(board: Board, threat: str) -> Iterator[Population]:
    """Of one board and threat, each kind of number that is published with an interval, and some that are not."""
    tables = [frame[frame["threat"] == threat] for entry in audit(board)[0] for frame in [entry.frame(board.data)]]
    tables = [table for table in tables if len(table)]
    least = [worst_rows(table, ["sample"]) for table in tables]
    most = [table.groupby("sample")[["vi_db", "rate_ratio"]].max() for table in tables]
    scores = {
        "robust PSNR": [one["adv_psnr"].to_numpy(float) for one in least],
        "vi_db": [one["vi_db"].to_numpy(float) for one in most],
        "rate, log": [np.log(one["rate_ratio"].to_numpy(float)) for one in most],
        "loss of PSNR": [(one["psnr"] - one["adv_psnr"]).to_numpy(float) for one in least],
    }
    for name, values in scores.items():
        single = name if name in ("robust PSNR", "vi_db") else f"{name} (alone: not published)"
        yield single, mean, [_pooled(values)]
        yield f"difference of {name}", mean, [_pooled([a - b for a, b in combinations(values, 2)])]
    chosen = [worst_for(board.points)(table, ["sample"]) for table in tables]
    samples = [str(sample) for sample in chosen[0]["sample"]]
    anchor = Anchor.on(board.points, samples)
    curve = np.concatenate([anchor.bpp, anchor.psnr], 1)
    entries = [np.concatenate([one[["adv_bpp", "adv_psnr"]].to_numpy(float), curve], 1) for one in chosen]
    yield "score", premium, entries
    yield "score, not its logarithm (not published)", relative, entries
    yield "difference of scores", difference, [np.concatenate(pair, 1) for pair in pairwise(entries)]


def _pooled(values: list[Array]) -> Array:
    spread = [(v - v.mean()) / v.std() for v in values if np.isfinite(v).all() and v.std() > 1e-9]
    return np.concatenate(spread)[:, None]


def measured(population: Population, n: int, draws: int, methods: list[str]) -> dict[str, tuple[float, float]]:
    """By method: coverage, and the width relative to the published one; over all that is drawn from."""
    _, statistic, sources = population
    rng = np.random.default_rng(n)
    hits: dict[str, list[float]] = {name: [] for name in methods}
    widths: dict[str, list[float]] = {name: [] for name in methods}
    each = max(draws // len(sources), 40)
    for source in sources:
        truth = float(statistic(source[None])[0])
        drawn = source[rng.integers(0, len(source), (each, n))]
        for name in methods:
            low, high = METHODS[name](statistic, drawn)
            hits[name].append(float(((low <= truth) & (truth <= high)).mean()))
            widths[name].append(float(np.median(high - low)))
    usual = np.array(widths[PUBLISHED])
    return {name: (float(np.mean(hits[name])), float(np.median(np.array(widths[name]) / usual))) for name in methods}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    boards = [Path("leaderboards") / name for name in ("kodak-distortion", "kodak-rate")]
    parser.add_argument("--boards", type=Path, nargs="+", default=boards, help="of twelve samples or more")
    parser.add_argument("--draws", type=int, default=2000, help="of each population and number of samples")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    methods = list(dict.fromkeys([*options.methods, PUBLISHED]))
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for board in (each for folder in options.boards for each in boards_below(folder)):
        for threat in dict.fromkeys(cell.threat for kind in board.protocol for cell in board.cells("c", "none", kind)):
            for population in populations(board, threat):
                for n in SIZES:
                    for method, numbers in measured(population, n, options.draws, methods).items():
                        found.setdefault((population[0], method), {}).setdefault(str(n), []).append(numbers)
    lines = []
    for (kind, method), by_size in sorted(found.items()):
        line = {"interval of": kind, "method": method}
        for n, numbers in by_size.items():
            cover, width = np.mean(numbers, axis=0)
            line[f"n = {n}"] = f"{100 * cover:.1f} % (× {width:.2f})"
        lines.append(line)
    print(to_markdown(pd.DataFrame(lines)))


if __name__ == "__main__":
    main()
