"""Rates by hand, and Bjøntegaard differences against the ``bjontegaard`` package and closed forms."""

from __future__ import annotations

from typing import get_args

import bjontegaard
import numpy as np
import pytest
from numpy.typing import NDArray

from robustcodec.errors import BadData
from robustcodec.scores.rate import Method, bd_quality, bd_rate, bpp, kbps

METHODS: tuple[Method, ...] = get_args(Method)
Points = tuple[NDArray[np.float64], NDArray[np.float64]]
BPP, PSNR = [0.2, 0.4, 0.8, 1.5, 2.6], [29.1, 31.8, 34.9, 37.2, 39.6]


def curve(rng: np.random.Generator, points: int) -> Points:
    """A random rising rate–distortion curve."""
    rate = 0.1 * np.exp(np.cumsum(rng.uniform(0.3, 0.9, points)))
    return rate, 26 + 5 * rng.random() + np.cumsum(rng.uniform(0.8, 3.5, points))


def test_bits_per_pixel_count_pixels_not_channels_or_samples() -> None:
    assert bpp(6000, (5, 3, 20, 30)) == 2.0
    assert bpp(6000, (8, 5, 3, 20, 30)) == 2.0


def test_kilobits_per_second() -> None:
    assert kbps(90_000, (1, 30, 3, 64, 64), fps=25) == pytest.approx(75)  # 90 kbit in 1.2 s
    with pytest.raises(ValueError, match="frames per second"):
        kbps(90_000, (1, 30, 3, 64, 64), fps=0)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 64, 64, 3), (0, 3, 64, 64)])
def test_a_shape_that_is_no_clip_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        bpp(100, shape)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("points", [4, 6])
def test_differences_match_the_bjontegaard_package(method: Method, points: int) -> None:
    rng = np.random.default_rng(points)
    for _ in range(20):
        anchor, test = curve(rng, points), curve(rng, points)
        rate = bjontegaard.bd_rate(*anchor, *test, method=method, min_overlap=0)
        quality = bjontegaard.bd_psnr(*anchor, *test, method=method, min_overlap=0)
        assert bd_rate(*anchor, *test, method=method) == pytest.approx(rate, rel=1e-6, abs=1e-6)
        assert bd_quality(*anchor, *test, method=method) == pytest.approx(quality, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_at_nine_tenths_of_the_rate_saves_ten_percent(method: Method) -> None:
    cheaper = [0.9 * r for r in BPP]
    assert bd_rate(BPP, PSNR, cheaper, PSNR, method) == pytest.approx(-10, abs=1e-9)
    assert bd_rate(cheaper, PSNR, BPP, PSNR, method) == pytest.approx(100 / 9, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_curve_lifted_by_one_decibel_gains_one_decibel(method: Method) -> None:
    assert bd_quality(BPP, PSNR, BPP, [q + 1 for q in PSNR], method) == pytest.approx(1, abs=1e-9)
    assert bd_rate(BPP, PSNR, BPP, PSNR, method) == pytest.approx(0, abs=1e-9)


def test_the_integral_is_over_the_common_qualities_only() -> None:
    # log10 rate is q/10 - 4 for anchor, twice that slope from 35 dB for test: equal at 35, 0.5 apart at 40
    anchor = [10**-1.0, 10**0.0], [30, 40]
    test = [10**-0.5, 10**1.5], [35, 45]
    assert bd_rate(*anchor, *test) == pytest.approx((10**0.25 - 1) * 100)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_points_and_the_unit_of_rate_do_not_matter(method: Method) -> None:
    order, other = [3, 0, 4, 1, 2], [0.3, 0.55, 0.9, 1.9]
    expected = bd_rate(BPP, PSNR, other, [30, 32, 35, 38], method)
    shuffled = [1000 * BPP[i] for i in order], [PSNR[i] for i in order]
    assert bd_rate(*shuffled, [1000 * r for r in other], [30, 32, 35, 38], method) == pytest.approx(expected)


@pytest.mark.parametrize(("method", "least"), [("pchip", 2), ("akima", 3), ("cubic", 4)])
def test_each_method_names_the_points_it_needs(method: Method, least: int) -> None:
    assert np.isfinite(bd_rate(BPP[:least], PSNR[:least], BPP[:least], PSNR[:least], method))
    with pytest.raises(BadData, match=f"test curve has {least - 1} points; .* {least}"):
        bd_rate(BPP, PSNR, BPP[: least - 1], PSNR[: least - 1], method)


@pytest.mark.parametrize(
    ("rate", "quality", "message"),
    [
        ([0.2, 0.4, 0.8], [30, 33, 32], r"anchor curve does not rise from \(0.4, 33\) to \(0.8, 32\)"),
        ([0.2, 0.4, 0.4], [30, 32, 33], "does not rise"),
        ([0.2, 0.4, 0.8], [30, 32], "one length"),
        ([0.0, 0.4, 0.8], [30, 32, 33], "not positive"),
        ([0.2, 0.4, 0.8], [30, 32, np.nan], "not finite"),
    ],
)
def test_a_curve_that_is_none_is_refused(rate: list[float], quality: list[float], message: str) -> None:
    with pytest.raises(BadData, match=message):
        bd_rate(rate, quality, BPP, PSNR)
    with pytest.raises(BadData, match=message):
        bd_quality(rate, quality, BPP, PSNR)


def test_curves_apart_are_refused_with_both_ranges() -> None:
    with pytest.raises(BadData, match="no quality: anchor has 29.1 to 39.6, test 10 to 20"):
        bd_rate(BPP, PSNR, [0.2, 2.6], [10, 20])
    with pytest.raises(BadData, match="no log10 rate"):
        bd_quality(BPP, PSNR, [3, 4], [30, 35])


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="pchip, akima, cubic"):
        bd_rate(BPP, PSNR, BPP, PSNR, "linear")  # type: ignore[arg-type]
