"""The score that ranks boards, against values worked out by hand and against BD-rates."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from robustcodec.boards.score import premium, standing
from robustcodec.boards.tables import SHORT, main_columns
from robustcodec.errors import BadData
from robustcodec.scores.rate import bd_rate
from robustcodec.scores.robustness import worst_rows

SAMPLES = ["a", "b", "c"]
RATES, QUALITIES = [0.1, 0.2, 0.5, 1.0], [24.0, 27.0, 31.0, 34.0]


def anchor(spread: float = 0.0) -> pd.DataFrame:
    """Four points; samples differ by ``spread`` dB about the mean."""
    return pd.DataFrame(
        [
            {"codec": f"anchor:{i}", "sample": sample, "bpp": bpp, "psnr": psnr + spread * offset}
            for i, (bpp, psnr) in enumerate(zip(RATES, QUALITIES, strict=True))
            for sample, offset in zip(SAMPLES, (-1, 0, 1), strict=True)
        ]
    )


@pytest.mark.parametrize("point", range(4))
def test_the_anchor_itself_has_no_premium_at_any_of_its_rates(point: int) -> None:
    found = premium([RATES[point]] * 3, [QUALITIES[point]] * 3, anchor(), SAMPLES)
    assert found.percent == pytest.approx(0, abs=1e-9) and not found.beyond


def test_between_two_points_the_rate_is_interpolated_in_its_logarithm() -> None:
    at = 24 + 3 * 0.25
    needed = math.exp(0.75 * math.log(0.1) + 0.25 * math.log(0.2))  # by hand
    assert premium([2 * needed] * 3, [at] * 3, anchor(), SAMPLES).percent == pytest.approx(100)
    assert premium([needed / 2] * 3, [at] * 3, anchor(), SAMPLES).percent == pytest.approx(-50)


def test_a_codec_that_always_needs_30_percent_more_has_that_premium_and_that_bd_rate() -> None:
    more = [1.3 * r for r in RATES]
    scores = [premium([r] * 3, [q] * 3, anchor(), SAMPLES).percent for r, q in zip(more, QUALITIES, strict=True)]
    assert scores == pytest.approx([30] * 4) and bd_rate(RATES, QUALITIES, more, QUALITIES) == pytest.approx(30)


@pytest.mark.parametrize(("psnr", "needed"), [(21.0, 0.05), (37.0, 2.0)])
def test_beyond_its_ends_the_curve_goes_on_straight_and_says_so(psnr: float, needed: float) -> None:
    found = premium([needed] * 3, [psnr] * 3, anchor(), SAMPLES)
    assert found.percent == pytest.approx(0, abs=1e-9) and found.beyond


def test_entry_and_anchor_are_drawn_alike() -> None:
    """What moves with the sample, easy or hard, moves both: a codec that is the anchor has no spread at all."""
    of = anchor(spread=2.0)
    second = of[of["codec"] == "anchor:1"].set_index("sample").loc[SAMPLES]
    found = premium(second["bpp"], second["psnr"], of, SAMPLES)
    assert [found.low, found.high] == pytest.approx([0, 0], abs=1e-9)
    uneven = premium([0.1, 0.2, 0.3], [27.0] * 3, of, SAMPLES)
    assert uneven.low < uneven.percent < uneven.high


def test_an_anchor_that_does_not_rise_or_lacks_a_sample_is_refused() -> None:
    flat = anchor().assign(psnr=30.0)
    with pytest.raises(BadData, match="does not rise"):
        premium([0.1] * 3, [30.0] * 3, flat, SAMPLES)
    with pytest.raises(BadData, match="not measured on d"):
        premium([0.1], [30.0], anchor(), ["d"])


def rows() -> pd.DataFrame:
    """Two attacks on two samples; one reconstruction failed to decode."""
    lines = [
        ("pgd", "a", 30.0, 0.30, 0.0, 8.0),
        ("apgd", "a", 29.0, 0.25, 0.0, 9.0),
        ("pgd", "b", np.nan, 0.35, 1.0, np.nan),
        ("apgd", "b", 26.0, 0.45, 0.0, 7.0),
    ]
    frame = pd.DataFrame(lines, columns=["attack", "sample", "adv_psnr", "adv_bpp", "decode_failed", "vi_db"])
    frame = frame.assign(objective="distortion", access="oblivious", bpp=0.2, psnr=31.0, ms_ssim=0.9)
    return frame.assign(rate_ratio=frame["adv_bpp"] / 0.2)


def test_the_worst_attack_of_each_sample_by_quality_and_by_rate() -> None:
    by_psnr, by_rate = (worst_rows(rows(), ["sample"], by).set_index("sample") for by in ("psnr", "rate"))
    assert by_psnr["attack"].to_dict() == {"a": "apgd", "b": "pgd"}
    assert by_psnr["adv_psnr"].to_dict() == {"a": 29.0, "b": 0.0}
    assert by_rate["attack"].to_dict() == {"a": "pgd", "b": "apgd"}


def test_a_standing_holds_what_the_rows_say() -> None:
    of = anchor()
    stands = standing(rows(), of[of["sample"] != "c"], "rate")
    assert stands["adv_bpp"] == pytest.approx((0.30 + 0.45) / 2) and stands["robust_psnr"] == pytest.approx(28.0)
    assert stands["drop"] == pytest.approx(3.0) and stands["vi_db"] == pytest.approx((9 + 7) / 2)
    assert stands["rate_ratio"] == pytest.approx((1.5 + 2.25) / 2) and stands["decode_failures"] == 1
    assert stands["attacks"] == 2 and stands["samples"] == 2 and stands["beyond"] == "no"
    needed = math.exp(math.log(0.2) + (28 - 27) / 4 * math.log(0.5 / 0.2))
    assert stands["score"] == pytest.approx(100 * (0.375 / needed - 1))
    assert stands["clean_score"] == pytest.approx(100 * (0.2 / 0.5 - 1))


def test_a_metric_that_was_asked_for_is_on_the_board() -> None:
    """Under the worst attack of each sample, here the one that costs the most bits."""
    of = anchor()
    of = of[of["sample"] != "c"]
    plain = standing(rows(), of, "rate")
    worst = worst_rows(rows(), ["sample"], "rate").index
    asked = rows().assign(lpips=0.5, adv_lpips=[0.1 * (i + 1) for i in range(len(rows()))], same_bytes=0.0)
    stands = standing(asked, of, "rate")
    expected = worst_rows(asked, ["sample"], "rate")["adv_lpips"].mean()
    assert list(stands) == [*plain, "lpips", "adv_lpips"] and len(worst) == 2
    assert stands["lpips"] == 0.5 and stands["adv_lpips"] == pytest.approx(expected)


def test_a_page_has_the_main_columns_and_the_scores_that_were_asked_for() -> None:
    frame = pd.DataFrame(
        {name: [0.0] for name in ("data", "threat", *SHORT, "drop", "lpips_squeeze", "adv_lpips_squeeze")}
    )
    assert main_columns(frame) == ["data", "threat", *SHORT, "lpips_squeeze", "adv_lpips_squeeze"]
