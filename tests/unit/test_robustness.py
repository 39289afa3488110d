"""Robustness scores by hand, the worst case by brute force."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from robustcodec.errors import BadData
from robustcodec.interfaces import Metric
from robustcodec.registry import metrics
from robustcodec.scores.robustness import (
    bd_rate_attacked,
    break_scores,
    clean_scores,
    sample_scores,
    worst_case,
    worst_rows,
)

METRICS: dict[str, Metric] = {"psnr": metrics.build("psnr"), "linf": metrics.build("linf")}


def clip(levels: float) -> Tensor:
    """Two frames of 2 × 2 in one grey, in 8-bit levels."""
    return torch.full((1, 2, 3, 2, 2), levels / 255)


def scores(x: float, x_hat: float, x_adv: float, x_adv_hat: float | None) -> dict[str, float]:
    attacked = None if x_adv_hat is None else clip(x_adv_hat)
    return sample_scores(clip(x), clip(x_hat), clip(x_adv), attacked, 400, 600, 404.0, 808.0, METRICS)


def db(levels: float) -> float:
    """PSNR of an error of so many levels everywhere."""
    return 20 * math.log10(255 / levels)


def test_every_score_of_one_sample_by_hand() -> None:
    out = scores(x=100, x_hat=102, x_adv=103, x_adv_hat=112)
    assert out == pytest.approx(
        {
            "bpp": 50,  # 2 frames of 4 pixels
            "adv_bpp": 75,
            "bpp_est": 50.5,
            "adv_bpp_est": 101,
            "psnr": db(2),
            "adv_psnr": db(12),
            "linf": 2 / 255,
            "adv_linf": 12 / 255,
            "vi_db": 20 * math.log10(10 / 3),
            "delta_psnr": db(2) - db(12),
            "delta_own_psnr": db(2) - db(9),
            "rate_ratio": 1.5,
            "rate_ratio_est": 2,
            "input_psnr": db(3),
            "input_linf": 3,
            "input_l2": math.sqrt(24) * 3 / 255,
            "mse_out": (10 / 255) ** 2,
            "kbps": math.nan,
            "adv_kbps": math.nan,
            "flicker": 0,  # each error stands still
            "adv_flicker": 0,
            "drift_last": db(2) - db(12),
            "drift_max": db(2) - db(12),
            "recovery": math.nan,  # all frames are perturbed
            "decode_failed": 0,
        },
        rel=1e-5,
        abs=1e-6,
        nan_ok=True,
    )


def test_scores_over_time_by_hand() -> None:
    """The first of five frames is perturbed; the loss decays, and the last frame gains."""
    frames = torch.ones(1, 5, 3, 2, 2)
    x, x_hat = 100 / 255 * frames, 104 / 255 * frames
    x_adv = x.clone()
    x_adv[:, 0] += 8 / 255
    errors = torch.tensor([12.0, 8.0, 6.0, 4.0, 2.0]).view(1, 5, 1, 1, 1)
    out = sample_scores(x, x_hat, x_adv, x + errors / 255, 4000, 8000, 4000, 8000, METRICS, fps=25)
    assert out["drift_last"] == pytest.approx(db(4) - db(2), abs=1e-4) and out["drift_last"] < 0
    assert out["drift_max"] == pytest.approx(db(4) - db(12), abs=1e-4)
    assert out["recovery"] == 2  # frames 1 and 2 still lose
    assert out["flicker"] == pytest.approx(0, abs=1e-6)
    assert out["adv_flicker"] == pytest.approx((16 + 4 + 4 + 4) / 4, rel=1e-4)
    assert (out["kbps"], out["adv_kbps"]) == (20, 40)  # 5 frames in 0.2 s


def test_an_image_has_no_scores_over_time() -> None:
    x, x_hat, x_adv, x_adv_hat = (clip(levels)[:, :1] for levels in (100, 102, 103, 112))
    out = sample_scores(x, x_hat, x_adv, x_adv_hat, 8, 8, 8, 8, METRICS)
    assert all(math.isnan(out[k]) for k in ("flicker", "adv_flicker", "drift_last", "drift_max", "recovery"))


def test_clean_scores_are_part_of_all_scores_and_are_not_computed_again() -> None:
    calls: list[bool] = []

    def counted(reference: Tensor, test: Tensor) -> Tensor:
        calls.append(torch.equal(test, clip(102)))
        return METRICS["psnr"].fn(reference, test)

    metric = {"psnr": Metric("psnr", "dB", True, counted)}
    clean = clean_scores(clip(100), clip(102), 400, 404.0, metric, fps=2)
    args = clip(100), clip(102), clip(103), clip(112), 400, 600, 404.0, 808.0, metric, 2
    out = sample_scores(*args, clean=clean)
    assert calls == [True, False]
    assert {k: out[k] for k in clean} == clean and clean.keys() == {"bpp", "bpp_est", "kbps", "psnr", "flicker"}
    assert sample_scores(*args) == pytest.approx(out, nan_ok=True)


def test_vulnerability_of_a_random_clip_matches_numpy() -> None:
    rng = np.random.default_rng(0)
    x, x_hat, x_adv, x_adv_hat = rng.integers(0, 256, (4, 1, 3, 3, 9, 7)).astype(np.float32) / 255
    a, b, c, d = (torch.from_numpy(v) for v in (x, x_hat, x_adv, x_adv_hat))
    out = sample_scores(a, b, c, d, 1, 1, 1, 1, METRICS)
    expected = 10 * np.log10(((x_adv_hat - x_hat) ** 2).mean() / ((x_adv - x) ** 2).mean())
    assert out["vi_db"] == pytest.approx(expected, abs=1e-4)
    assert out["input_l2"] == pytest.approx(np.linalg.norm(x_adv - x), rel=1e-5)
    assert out["input_linf"] == pytest.approx(np.abs(x_adv - x).max() * 255, rel=1e-5)


def test_without_a_perturbation_there_is_no_vulnerability() -> None:
    out = scores(x=100, x_hat=102, x_adv=100, x_adv_hat=102)
    for undefined in ("vi_db", "recovery", "kbps", "adv_kbps"):
        assert math.isnan(out.pop(undefined))
    assert (out["input_psnr"], out["input_linf"], out["input_l2"], out["mse_out"]) == (100, 0, 0, 0)
    json.dumps(out, allow_nan=False)


def test_equal_reconstructions_score_below_the_least_difference_that_8_bits_can_show() -> None:
    x, x_hat, x_adv = clip(100), clip(102), clip(104)
    least = x_hat.clone()
    least[0, 0, 0, 0, 0] += 1 / 255
    equal, differing = (
        sample_scores(x, x_hat, x_adv, hat, 8, 8, 8, 8, METRICS)["vi_db"] for hat in (x_hat.clone(), least)
    )
    assert equal == pytest.approx(differing, abs=1e-3)
    assert equal == pytest.approx(10 * math.log10(1 / 24 / 16))


def test_a_failed_decode_keeps_what_is_known() -> None:
    out = scores(x=100, x_hat=102, x_adv=103, x_adv_hat=None)
    unknown = {key for key, value in out.items() if math.isnan(value)} - {"kbps", "adv_kbps"}
    over_time = {"adv_flicker", "drift_last", "drift_max", "recovery"}
    assert unknown == {"adv_psnr", "adv_linf", "vi_db", "delta_psnr", "delta_own_psnr", "mse_out"} | over_time
    assert out["decode_failed"] == 1 and out["adv_bpp"] == 75 and out["input_psnr"] == pytest.approx(db(3), rel=1e-5)
    assert out.keys() == scores(x=100, x_hat=102, x_adv=103, x_adv_hat=112).keys()


def test_a_codec_without_an_estimate_has_no_estimated_ratio() -> None:
    nan = math.nan
    out = sample_scores(clip(1), clip(2), clip(3), clip(4), 400, 600, nan, nan, {})
    assert math.isnan(out["bpp_est"]) and math.isnan(out["rate_ratio_est"]) and out["rate_ratio"] == 1.5
    assert math.isnan(sample_scores(clip(1), clip(2), clip(3), clip(4), 400, 600, 0.0, 8.0, {})["rate_ratio_est"])


@pytest.mark.parametrize(
    ("damage", "failed", "broken"),
    [(0.99, False, False), (1.0, False, True), (1.01, False, True), (math.nan, True, True), (0.5, True, True)],
)
def test_broken_is_from_the_level_on_and_where_nothing_decodes(damage: float, failed: bool, broken: bool) -> None:
    out = break_scores(damage, 1.0, 37.5, failed)
    expected = {"damage": damage, "broken": float(broken), "break_db": 37.5 if broken else math.nan}
    assert out == pytest.approx(expected, nan_ok=True)


def test_no_damage_breaks_nothing() -> None:
    assert break_scores(0.0, 0.0, 40.0, False)["broken"] == 0 and math.isnan(
        break_scores(0.0, 0.0, 40.0, False)["break_db"]
    )
    assert break_scores(1e-9, 0.0, 40.0, False)["broken"] == break_scores(0.0, 0.0, 40.0, True)["broken"] == 1


def test_a_metric_is_given_the_clean_clip_first() -> None:
    """Of both reconstructions; most metrics would not show it."""
    first = Metric("first", "", True, lambda reference, test: reference.flatten(1).mean(1))
    out = sample_scores(clip(100), clip(102), clip(103), clip(112), 8, 8, 8, 8, {"first": first})
    assert (out["first"], out["adv_first"]) == pytest.approx((100 / 255, 100 / 255))


def test_scores_are_of_one_sample() -> None:
    x = torch.zeros(2, 1, 3, 4, 4)
    with pytest.raises(ValueError, match="one sample"):
        sample_scores(x, x, x, x, 8, 8, 8, 8, METRICS)


def rows(*cells: tuple[str, str, str, str, float]) -> pd.DataFrame:
    """Rows of (codec, attack, objective, sample, adv_psnr)."""
    frame = pd.DataFrame(cells, columns=["codec", "attack", "objective", "sample", "adv_psnr"])
    return frame.assign(defense="none", access="adaptive", threat="linf:8/255", data="photos", vi_db=1.0)


def test_the_worst_case_is_the_minimum_over_attacks_and_objectives_per_sample() -> None:
    frame = rows(
        ("a", "pgd", "distortion", "cat", 25.0),
        ("a", "square", "distortion", "cat", 27.0),
        ("a", "pgd", "rate", "cat", 24.0),
        ("a", "pgd", "distortion", "dog", 30.0),
        ("a", "square", "distortion", "dog", 29.0),
        ("b", "pgd", "distortion", "cat", 33.0),
    )
    worst = worst_case(frame)
    found = worst[["codec", "sample", "robust_psnr", "worst_attack", "worst_objective"]].values.tolist()
    assert found == [
        ["a", "cat", 24.0, "pgd", "rate"],
        ["a", "dog", 29.0, "square", "distortion"],
        ["b", "cat", 33.0, "pgd", "distortion"],
    ]


def test_the_worst_case_matches_a_loop_over_random_rows_in_any_order() -> None:
    rng = np.random.default_rng(5)
    names = [[f"{k}{i}" for i in range(2)] for k in ("codec", "defense", "access", "threat", "data", "sample")]
    axes = [*names, ["fgsm", "pgd", "square"], ["distortion", "rate"]]
    columns = ["codec", "defense", "access", "threat", "data", "sample", "attack", "objective"]
    frame = pd.DataFrame(pd.MultiIndex.from_product(axes, names=columns).to_frame(index=False))
    frame["adv_psnr"] = rng.uniform(20, 40, len(frame))
    cells = [part.reset_index(drop=True) for _, part in frame.groupby("attack")]  # as read: the index repeats
    worst = worst_case(pd.concat(cells).sample(frac=1, random_state=0))
    best: dict[tuple[str, ...], tuple[float, str, str]] = {}
    for row in frame.to_dict("records"):
        key = tuple(str(row[c]) for c in columns[:6])
        candidate = (float(row["adv_psnr"]), str(row["attack"]), str(row["objective"]))
        best[key] = min(best.get(key, candidate), candidate)
    assert len(worst) == 64
    assert [tuple(r) for r in worst.values.tolist()] == [(*key, *best[key]) for key in sorted(best)]


def test_other_scores_have_worst_cases_of_their_own() -> None:
    """Each the largest that any attack reached on the sample."""
    frame = rows(
        ("a", "pgd", "distortion", "cat", 25.0),
        ("a", "square", "rate", "cat", 27.0),
        ("a", "pgd", "distortion", "dog", 30.0),
    ).assign(vi_db=[1.0, 3.0, -2.0], rate_ratio=[1.1, 0.9, 1.0], break_db=[math.nan, 41.0, math.nan])
    worst = worst_case(frame)
    assert worst["vi_db"].tolist() == [3, -2] and worst["rate_ratio"].tolist() == [1.1, 1.0]
    assert worst["break_db"].iloc[0] == 41 and math.isnan(worst["break_db"].iloc[1])
    assert worst_case(frame.drop(columns="break_db")).columns.tolist() == worst.columns.drop("break_db").tolist()


def test_equally_bad_attacks_are_named_by_the_alphabet() -> None:
    frame = rows(
        ("a", "square", "distortion", "cat", 25.0),
        ("a", "pgd", "rate", "cat", 25.0),
        ("a", "pgd", "source-distortion", "cat", 25.0),
    ).assign(decode_failed=0.0, adv_bpp=1.0)
    for shuffled in (frame, frame[::-1]):
        (worst,) = worst_case(shuffled)[["worst_attack", "worst_objective"]].values.tolist()
        assert worst == ["pgd", "rate"]
        (row,) = worst_rows(shuffled, ["sample"])[["attack", "objective"]].values.tolist()
        assert row == ["pgd", "rate"]


def test_a_failed_decode_is_the_worst_there_is_and_a_missing_score_is_not() -> None:
    frame = rows(
        ("a", "pgd", "distortion", "cat", 25.0),
        ("a", "square", "distortion", "cat", math.nan),
        ("a", "square", "rate", "dog", math.nan),
        ("a", "pgd", "rate", "dog", 28.0),
        ("a", "pgd", "rate", "owl", math.nan),
    ).assign(decode_failed=[0.0, 1.0, 0.0, 0.0, math.nan])
    cat, dog, owl = worst_case(frame)[["sample", "robust_psnr", "worst_attack"]].values.tolist()
    assert cat == ["cat", 0.0, "square"]
    assert dog == ["dog", 28.0, "pgd"]
    assert math.isnan(owl[1]) and owl[2] is None


def test_the_worst_case_needs_its_columns() -> None:
    with pytest.raises(BadData, match="lack objective, adv_psnr"):
        worst_case(rows().drop(columns=["objective", "adv_psnr"]))
    assert worst_case(rows()).empty


def test_the_attacked_curve_against_the_clean_one() -> None:
    bpp, psnr = [0.2, 0.4, 0.8, 1.6], [29.0, 32.0, 35.0, 37.5]
    assert bd_rate_attacked(bpp, psnr, [1.25 * r for r in bpp], psnr) == pytest.approx(25)
    # pchip is exact on a straight line of log2 rate: 3 dB a doubling, so 1.5 dB less costs a factor of sqrt 2
    line = [29.0, 32.0, 35.0, 38.0]
    lowered = bd_rate_attacked(bpp, line, bpp, [q - 1.5 for q in line])
    assert lowered == pytest.approx(100 * (math.sqrt(2) - 1))
    with pytest.raises(BadData, match="no quality"):
        bd_rate_attacked(bpp, psnr, bpp, [q - 20 for q in psnr])
