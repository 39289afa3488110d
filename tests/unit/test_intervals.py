"""Intervals, differences and ranks: by hand, against SciPy, and how often they cover the truth of real scores."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.typing import NDArray

from robustcodec.boards.board import Board
from robustcodec.boards.entry import Entry
from robustcodec.boards.score import Anchor, log_ratio, premium
from robustcodec.scores.intervals import interval, leaving_out, mean_of, share, source_of
from robustcodec.scores.ranks import holm, paired, pairs, ranks
from robustcodec.scores.robustness import worst_rows

Array = NDArray[np.float64]
BOARD = Path(__file__).parents[2] / "leaderboards" / "kodak-distortion"
SIZES = (5, 6, 12, 24)
DRAWS = 2000


def test_an_interval_of_a_mean_is_students_with_a_degree_of_freedom_less() -> None:
    values = np.random.default_rng(1).gamma(2.0, 3.0, 9)
    ours = interval(values.tolist())
    half = scipy.stats.t.ppf(0.975, 7) * scipy.stats.sem(values)
    assert (ours.mean, ours.low, ours.high, ours.n) == pytest.approx(
        (values.mean(), values.mean() - half, values.mean() + half, 9)
    )


def test_nothing_is_said_of_fewer_than_five_samples() -> None:
    for n in range(5):
        few = interval([30.0, 31.0, 32.0, 33.0][:n])
        assert few.n == n and math.isnan(few.low) and math.isnan(few.high) and math.isnan(few.mean) == (n == 0)
    assert interval([30.0] * 5).low == 30
    assert interval([31.0, math.nan, 28.5, None, 35.25, 30.0, 26.125]).n == 5
    with pytest.raises(ValueError, match="0 < level < 1"):
        interval([1.0] * 5, level=95)


def test_samples_of_one_source_count_as_one() -> None:
    """Two identical segments of each video leave the interval as it is; samples alone would halve its square."""
    videos = pd.Series([1.0, 4.0, 2.0, 8.0, 3.0], index=[f"video{i}" for i in range(5)])
    twice = pd.Series(np.repeat(videos.to_numpy(), 2), index=[f"video{i}@{8 * j}" for i in range(5) for j in range(2)])
    one, two = mean_of(videos), mean_of(twice)
    assert two.error == pytest.approx(one.error) and two.n == 10
    assert math.isnan(mean_of(twice.iloc[:8]).error)  # four videos
    assert [source_of(name) for name in ("a@12", "cat-in-motion-1", "cat-in-motion", "a@b")] == [
        "a", "cat", "cat-in-motion", "a@b",
    ]  # fmt: skip


def test_leaving_out_by_loop() -> None:
    rng = np.random.default_rng(0)
    values, samples = rng.normal(size=(7, 3)), ["b@0", "a", "b@1", "c", "a@7", "d", "e"]
    sources = [source_of(sample) for sample in samples]
    expected = [values[[s != gone for s in sources]].mean(0) for gone in sorted(set(sources))]
    assert leaving_out(values, samples) == pytest.approx(np.array(expected))


def test_wilsons_interval_is_scipys() -> None:
    for hits, n in itertools.product(range(8), (7, 24)):
        theirs = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert share(hits, n).low == pytest.approx(theirs.low, abs=1e-12)
        assert share(hits, n).high == pytest.approx(theirs.high)
    assert math.isnan(share(2, 4).low) and math.isnan(share(0, 0).mean)


def test_p_values_agree_with_intervals_and_with_scipy() -> None:
    rng = np.random.default_rng(2)
    one, other = (pd.Series(rng.normal(size=10)) for _ in range(2))
    difference = paired({"one": one, "other": other})("one", "other")
    theirs = scipy.stats.ttest_rel(one, other).statistic
    assert difference.p_value() == pytest.approx(2 * scipy.stats.t.sf(abs(theirs), 8))
    edge = difference.interval(1 - difference.p_value())
    assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-9)
    assert paired({"a": one, "b": one})("a", "b").p_value() == 1
    assert mean_of(pd.Series([2.0] * 5)).p_value() == 0 and math.isnan(mean_of(one.iloc[:4]).p_value())
    with pytest.raises(ValueError, match="4 sources against 10"):
        mean_of(one.iloc[:4]) - mean_of(other)


def test_holm_by_the_definition() -> None:
    given = np.array([0.01, 0.04, 0.03, math.nan, 0.005])
    expected = [0.04, 0.09, 0.09, math.nan, 0.025]  # 0.01 × 4; 0.03 × 3, which is more than 0.04 × 2; 0.005 × 5
    assert holm(given) == pytest.approx(expected, nan_ok=True)


def test_ranks_by_counting_who_is_better() -> None:
    """Against loops over all pairs, in scores of which high ones and low ones are better."""
    rng = np.random.default_rng(3)
    for better, sign in (("low", 1), ("high", -1)):
        values = {name: pd.Series(rng.normal(i // 2, 0.4, 9)) for i, name in enumerate("edcbafg")}
        means = {name: float(v.mean()) for name, v in values.items()}
        tested = pairs(list(values), paired(values))
        found = ranks(means, tested, better)  # type: ignore[arg-type]
        beaten = {(pair["one"], pair["other"]) for pair in tested.to_dict("records") if pair["p_holm"] < 0.05}
        wins = {(a, b) if sign * means[a] < sign * means[b] else (b, a) for a, b in beaten}
        assert wins
        for name in values:
            assert found.loc[name, "rank"] == 1 + sum(sign * m < sign * means[name] for m in means.values())
            assert found.loc[name, "rank_low"] == 1 + sum(loser == name for _, loser in wins)
            assert found.loc[name, "rank_high"] == len(values) - sum(winner == name for winner, _ in wins)
    assert ranks({"a": 1.0}, pairs(["a"], paired(values)), "low").to_numpy().tolist() == [[1, 1, 1]]


@pytest.fixture(scope="module")
def published() -> dict[str, pd.DataFrame]:
    """By entry (every second one), its samples under the attack that leaves the least PSNR, at 40 dB."""
    entries = [Entry.read(path) for path in sorted((BOARD / "results").glob("*.json"))[::2]]
    rows = {entry.name: entry.frame("") for entry in entries}
    return {name: worst_rows(f[f["threat"] == "psnr:40"], ["sample"]).set_index("sample") for name, f in rows.items()}


def pooled(values: list[Array]) -> Array:
    """Of many entries, each centred and scaled: more values than any sample that is drawn from them."""
    return np.concatenate([(v - v.mean()) / v.std() for v in values if v.std() > 1e-9])


def coverage(population: Array, n: int) -> float:
    """How often the interval of a mean of ``n`` values of a population with mean 0 holds 0."""
    drawn = np.random.default_rng(n).choice(population, (DRAWS, n))
    ends = [interval(values) for values in drawn[:50]]
    half = scipy.stats.t.ppf(0.975, n - 2) * drawn.std(1, ddof=1) / math.sqrt(n)
    assert [e.high - e.mean for e in ends] == pytest.approx(half[:50])  # so that the rest need no loop
    return float((np.abs(drawn.mean(1)) <= half).mean())


@pytest.mark.parametrize("n", SIZES)
def test_intervals_cover_the_truth_of_real_scores(published: dict[str, pd.DataFrame], n: int) -> None:
    """Means of scores and paired differences between entries; and the percentile bootstrap of before would fail here
    (83 % at five samples, benchmarks/interval_coverage.py).
    """
    scores = [(f["adv_psnr"], f["vi_db"], np.log(f["rate_ratio"]), f["delta_psnr"]) for f in published.values()]
    by_score = [[np.asarray(each[i], dtype=float) for each in scores] for i in range(4)]
    populations = {"robust_psnr": pooled(by_score[0]), "vi_db": pooled(by_score[1])}
    for name, values in zip(("robust_psnr", "vi_db", "log rate", "drop"), by_score, strict=True):
        populations[f"differences of {name}"] = pooled([a - b for a, b in itertools.combinations(values, 2)])
    found = {name: coverage(population, n) for name, population in populations.items()}
    assert all(0.92 <= rate <= 0.98 for rate in found.values()), found


def numbers(entry: pd.DataFrame) -> tuple[Array, Array]:
    """Bits per pixel and PSNR of each sample."""
    return entry["adv_bpp"].to_numpy(float), entry["adv_psnr"].to_numpy(float)


def drawn_premiums(entry: pd.DataFrame, anchor: Anchor, places: NDArray[np.intp]) -> tuple[Array, Array]:
    """Of many draws of samples at once: logarithms of the score, and what they are without each sample drawn."""
    drawn = [each[places] for each in (*numbers(entry), anchor.bpp, anchor.psnr)]
    left = [(each.sum(1, keepdims=True) - each) / (places.shape[1] - 1) for each in drawn]
    return log_ratio(*(each.mean(1) for each in drawn)), log_ratio(*left)


def covered(values: Array, without: Array, truth: float) -> float:
    n = without.shape[1]
    half = scipy.stats.t.ppf(0.975, n - 2) * np.sqrt((n - 1) * without.var(1))
    return float((np.abs(values - truth) <= half).mean())


@pytest.mark.parametrize("n", SIZES)
def test_the_interval_of_the_score_covers_it(published: dict[str, pd.DataFrame], n: int) -> None:
    """Of each entry, and of differences between neighbours in the alphabet: samples drawn with their points of the
    anchor, of which all that there are give the truth.
    """
    samples = list(map(str, next(iter(published.values())).index))
    anchor = Anchor.on(Board.read(BOARD).points, samples)
    places = np.random.default_rng(n).integers(0, len(samples), (300, n))
    found = {name: drawn_premiums(entry, anchor, places) for name, entry in published.items()}
    truths = {name: premium(numbers(e)[0], numbers(e)[1], anchor) for name, e in published.items()}
    single = [covered(*found[name], truths[name].value) for name in found]
    double = [
        covered(
            found[one][0] - found[other][0],
            found[one][1] - found[other][1],
            truths[one].value - truths[other].value,
        )
        for one, other in itertools.pairwise(found)
    ]
    assert 0.92 <= np.mean(single) <= 0.98 and 0.92 <= np.mean(double) <= 0.98, (single, double)
    name, (values, without) = next(iter(found.items()))
    drawn = Anchor(tuple(map(str, range(n))), anchor.bpp[places[0]], anchor.psnr[places[0]])
    bpp, psnr = (each[places[0]] for each in numbers(published[name]))
    one = premium(bpp, psnr, drawn)
    assert one.value == pytest.approx(values[0]) and sorted(one.without) == pytest.approx(sorted(without[0]))


def test_the_interval_of_a_success_rate_covers_it() -> None:
    """Exactly, over the rates of real cells that are neither 0 nor 1."""
    cells = [cell for path in sorted((BOARD / "results").glob("*.json"))[::4] for cell in Entry.read(path).cells]
    rates = np.array([cell.table.frame()["broken"].mean() for cell in cells])
    rates = rates[(rates > 0) & (rates < 1)]
    assert len(rates) > 50
    for n in SIZES:
        hits = np.arange(n + 1)
        ends = [share(int(k), n) for k in hits]
        inside = np.array([(end.low <= rates) & (rates <= end.high) for end in ends])
        rate = (scipy.stats.binom.pmf(hits[:, None], n, rates) * inside).sum(0).mean()
        assert 0.92 <= rate <= 0.98, n
