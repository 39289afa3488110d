"""The score that ranks boards, against values worked out by hand, BD-rates, and all choices of attacks."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

from robustcodec.boards.ranking import SHORT, main_columns
from robustcodec.boards.score import Anchor, percent, premium, standing, worst_for
from robustcodec.errors import BadData
from robustcodec.scores.rate import bd_rate

SAMPLES = ["a", "b", "c", "d", "e"]
RATES, QUALITIES = [0.1, 0.2, 0.5, 1.0], [24.0, 27.0, 31.0, 34.0]


def anchor(spread: float = 0.0) -> pd.DataFrame:
    """Four points; samples differ by ``spread`` dB about the mean."""
    return pd.DataFrame(
        [
            {"codec": f"anchor:{i}", "sample": sample, "bpp": bpp, "psnr": psnr + spread * offset}
            for i, (bpp, psnr) in enumerate(zip(RATES, QUALITIES, strict=True))
            for sample, offset in zip(SAMPLES, (-1, 0, 1, -2, 2), strict=True)
        ]
    )


def score(bpp: float, psnr: float) -> float:
    """Of an entry that needs the same bits for the same quality on every sample, in percent."""
    return percent(premium(np.full(5, bpp), np.full(5, psnr), Anchor.on(anchor(), SAMPLES)).value)


@pytest.mark.parametrize("point", range(4))
def test_the_anchor_itself_has_no_premium_at_any_of_its_rates(point: int) -> None:
    assert score(RATES[point], QUALITIES[point]) == pytest.approx(0, abs=1e-9)
    assert Anchor.on(anchor(), SAMPLES).reaches(QUALITIES[point])


def test_between_two_points_the_rate_is_interpolated_in_its_logarithm() -> None:
    at = 24 + 3 * 0.25
    needed = math.exp(0.75 * math.log(0.1) + 0.25 * math.log(0.2))  # by hand
    assert score(2 * needed, at) == pytest.approx(100) and score(needed / 2, at) == pytest.approx(-50)


def test_a_codec_that_always_needs_30_percent_more_has_that_premium_and_that_bd_rate() -> None:
    more = [1.3 * r for r in RATES]
    scores = [score(r, q) for r, q in zip(more, QUALITIES, strict=True)]
    assert scores == pytest.approx([30] * 4) and bd_rate(RATES, QUALITIES, more, QUALITIES) == pytest.approx(30)


@pytest.mark.parametrize(("psnr", "needed"), [(21.0, 0.05), (37.0, 2.0)])
def test_beyond_its_ends_the_curve_goes_on_straight_and_says_so(psnr: float, needed: float) -> None:
    assert score(needed, psnr) == pytest.approx(0, abs=1e-9) and not Anchor.on(anchor(), SAMPLES).reaches(psnr)


def test_entry_and_anchor_leave_out_the_same_sample() -> None:
    """What moves with the sample, easy or hard, moves both: a codec that is the anchor has no spread at all."""
    of = anchor(spread=2.0)
    second = of[of["codec"] == "anchor:1"].set_index("sample").loc[SAMPLES]
    ends = premium(second["bpp"].to_numpy(), second["psnr"].to_numpy(), Anchor.on(of, SAMPLES)).interval()
    assert [ends.low, ends.high] == pytest.approx([0, 0], abs=1e-9)
    uneven = premium(np.array([0.1, 0.2, 0.3, 0.1, 0.2]), np.full(5, 27.0), Anchor.on(of, SAMPLES)).interval()
    assert uneven.low < uneven.mean < uneven.high


def test_the_jackknife_of_the_score_by_loop() -> None:
    rng = np.random.default_rng(0)
    bpp, psnr, of = rng.uniform(0.1, 0.6, 5), rng.uniform(25, 33, 5), anchor(spread=1.0)
    found = premium(bpp, psnr, Anchor.on(of, SAMPLES))
    for i, gone in enumerate(SAMPLES):
        kept = [s for s in SAMPLES if s != gone]
        alone = premium(np.delete(bpp, i), np.delete(psnr, i), Anchor.on(of, kept))
        assert found.without[i] == pytest.approx(alone.value)


def test_an_anchor_that_does_not_rise_or_lacks_a_sample_is_refused() -> None:
    with pytest.raises(BadData, match="does not rise"):
        Anchor.on(anchor().assign(psnr=30.0), SAMPLES)
    with pytest.raises(BadData, match="not measured on z"):
        Anchor.on(anchor(), ["z"])


def test_no_other_choice_of_attacks_scores_higher() -> None:
    """Against all choices of three attempts on five samples, in 20 draws of them."""
    rng = np.random.default_rng(1)
    curve = Anchor.on(anchor(), SAMPLES)
    for draw in range(20):
        bits = rng.integers(200, 400, (5, 3)) / 1000
        quality = rng.uniform(22, 36, (5, 1)) + rng.uniform(-2, 2, (5, 3))
        frame = pd.DataFrame(
            [
                {"entry": "x", "sample": s, "attack": f"a{j}", "objective": "o", "access": "oblivious"}
                | {"adv_bpp": bits[i, j], "adv_psnr": quality[i, j], "decode_failed": 0.0}
                for i, s in enumerate(SAMPLES)
                for j in range(3)
            ]
        ).sample(frac=1, random_state=draw)
        chosen = worst_for(anchor())(frame, ["entry", "sample"])
        assert list(chosen["sample"]) == SAMPLES
        ours = premium(chosen["adv_bpp"].to_numpy(), chosen["adv_psnr"].to_numpy(), curve).value
        best = max(
            premium(bits[range(5), choice], quality[range(5), choice], curve).value
            for choice in map(list, product(range(3), repeat=5))
        )
        assert ours == pytest.approx(best, abs=1e-9)


def test_attacks_that_score_alike_are_told_apart_by_psnr_then_by_name() -> None:
    frame = pd.DataFrame(
        [
            {"sample": s, "attack": attack, "objective": "o", "adv_bpp": 0.3, "adv_psnr": psnr, "decode_failed": 0.0}
            for s in SAMPLES
            for attack, psnr in (("b", 29.0), ("a", 30.0), ("d", 28.0), ("c", 28.0))
        ]
    )
    for shuffled in (frame, frame[::-1]):
        assert set(worst_for(anchor())(shuffled, ["sample"])["attack"]) == {"c"}


def rows() -> pd.DataFrame:
    """Two attacks on two samples; one reconstruction failed to decode."""
    lines = [
        ("pgd", "a", 30.0, 0.30, 0.0, 8.0),
        ("apgd", "a", 29.0, 0.25, 0.0, 9.0),
        ("pgd", "b", np.nan, 0.35, 1.0, np.nan),
        ("apgd", "b", 26.0, 0.45, 0.0, 7.0),
    ]
    frame = pd.DataFrame(lines, columns=["attack", "sample", "adv_psnr", "adv_bpp", "decode_failed", "vi_db"])
    frame = frame.assign(
        objective="distortion", access="oblivious", defense="none", warnings="", bpp=0.2, psnr=31.0, ms_ssim=0.9
    )
    frame = frame.assign(broken=frame["decode_failed"], break_db=np.nan)
    return frame.assign(rate_ratio=frame["adv_bpp"] / 0.2)


def test_a_standing_holds_what_the_rows_say() -> None:
    """Of sample a the score chooses an attack by bits and PSNR together; of b the one that shows nothing."""
    of = anchor()
    stands = standing(rows(), of[of["sample"].isin(["a", "b"])])
    line = stands.line
    slope = math.log(0.2 / 0.1) / 3  # the mean PSNR lies below the curve, where it goes on straight
    needed = {q: math.exp(math.log(0.1) + slope * (q - 24)) for q in (15.0, 14.5)}
    scores = {"pgd": 100 * ((0.30 + 0.35) / 2 / needed[15.0] - 1), "apgd": 100 * ((0.25 + 0.35) / 2 / needed[14.5] - 1)}
    assert line["score"] == pytest.approx(max(scores.values())) and line["beyond"] == "yes"
    assert line["adv_psnr"] == pytest.approx(15.0 if scores["pgd"] > scores["apgd"] else 14.5)
    assert line["robust_psnr"] == pytest.approx((29 + 0) / 2) and line["drop"] == pytest.approx(31 - 14.5)
    assert line["vi_db"] == pytest.approx((9 + 7) / 2) and line["rate_ratio"] == pytest.approx((1.5 + 2.25) / 2)
    assert line["attacks"] == 2 and line["samples"] == 2 and line["decode_failures"] == 1
    assert line["clean_score"] == pytest.approx(100 * (0.2 / 0.5 - 1)) and line["unbroken"] == 0.5
    assert math.isnan(float(line["score_low"])) and not stands.bound


def test_what_met_queries_alone_is_a_lower_bound() -> None:
    of = anchor()
    queries = rows().assign(attack="random-search:queries=4")
    assert standing(queries, of[of["sample"].isin(["a", "b"])]).line["bound"] == "lower bound"


def test_a_metric_that_was_asked_for_is_on_the_board() -> None:
    """Under the attack that the score chose of each sample."""
    of = anchor()
    of = of[of["sample"].isin(["a", "b"])]
    plain = standing(rows(), of).line
    asked = rows().assign(lpips=0.5, adv_lpips=[0.1 * (i + 1) for i in range(len(rows()))], same_bytes=0.0)
    line = standing(asked, of).line
    expected = worst_for(of)(asked, ["sample"])["adv_lpips"].mean()
    assert list(line) == [*plain, "lpips", "adv_lpips"]
    assert line["lpips"] == 0.5 and line["adv_lpips"] == pytest.approx(expected)


def test_a_page_has_the_main_columns_and_the_scores_that_were_asked_for() -> None:
    frame = pd.DataFrame(
        {name: [0.0] for name in ("data", "threat", *SHORT, "drop", "lpips_squeeze", "adv_lpips_squeeze")}
    )
    assert main_columns(frame) == ["data", "threat", *SHORT, "bound", "lpips_squeeze", "adv_lpips_squeeze"]
