"""``benchmarks/claim.py``: what a perturbation can take by itself, and the matrix of a board that ships."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scripts

HOUSE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def claim() -> Any:
    return scripts.load("benchmarks/claim.py")


def _psnr(error: np.ndarray[Any, Any]) -> float:
    return float(-10 * np.log10(np.mean(error**2)))


@pytest.mark.parametrize(("psnr", "input_psnr"), [(28, 40), (36, 34)])
def test_no_perturbation_that_is_added_takes_more_than_the_bound(claim: Any, psnr: float, input_psnr: float) -> None:
    rng = np.random.default_rng(0)
    error, other = rng.standard_normal((2, 5000))
    error *= 10 ** ((_psnr(error) - psnr) / 20)
    aligned, other = (v * 10 ** ((_psnr(v) - input_psnr) / 20) for v in (error, other))
    bound = claim.passive(psnr, input_psnr)
    assert psnr - _psnr(error + aligned) == pytest.approx(bound, abs=1e-9)
    assert psnr - _psnr(error + other) < bound


@pytest.mark.parametrize(("psnr", "input_psnr"), [(28, 40), (36, 40), (40, 40), (42, 40)])
def test_crossing_the_nearest_boundaries_of_uniform_coefficients(claim: Any, psnr: float, input_psnr: float) -> None:
    """The closed form against coefficients that are rounded: pushed over the nearest boundary, dearest last."""
    step = np.sqrt(12 * 10 ** (-psnr / 10))
    source = np.random.default_rng(0).uniform(-50, 50, 400_000) * step
    away = np.round(source / step) - source / step
    push = -np.sign(away) * (0.5 - np.abs(away)) * step * 1.000001
    order = np.argsort(np.abs(push))
    crossed = order[np.cumsum(push[order] ** 2) <= 10 ** (-input_psnr / 10) * len(source)]
    attacked = source.copy()
    attacked[crossed] += push[crossed]
    decoded, bare = (np.round(values / step) * step for values in (attacked, source))
    lost = _psnr(bare - source) - _psnr(decoded - source)
    assert lost == pytest.approx(claim.rounding(psnr, input_psnr), abs=0.02)


def test_a_board_is_crossed(
    claim: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    board, text, picture = HOUSE / "leaderboards" / "photos-quick", tmp_path / "claim.md", tmp_path / "claim.png"
    words = [str(board), "--markdown", str(text), "--picture", str(picture)]
    monkeypatch.setattr(sys, "argv", ["claim.py", *words])
    claim.main()
    printed = capsys.readouterr().out
    assert printed.strip() in text.read_text(encoding="utf-8") and picture.stat().st_size > 5000
    assert "-at" not in printed and "jpeg" not in printed  # neither the hardened nor what has no training
    table = claim.pd.read_csv(board / "table.csv").query("threat == 'psnr:40'").set_index("entry")
    for entry in ("bmshj2018-factorized.tiny-q1", "mbt2018-mean.tiny-q2"):
        (row,) = [line for line in printed.splitlines() if f"| {entry} |" in line]
        assert f"| {table.loc[entry, 'drop']:.2f} |" in row  # the board's own number


def test_what_is_not_trained_is_a_reference_alone(claim: Any, tmp_path: Path) -> None:
    """By hand: of two codecs one loses more than the bound on two of three images; JPEG stands beside them."""
    rows = [
        ("a", "MSE", "a.q1", 27.0, 1.5, 0.7, 1.7, 0), ("a", "MSE", "a.q6", 35.0, 5.0, 2.0, 3.9, 2),
        ("jpeg", claim.REFERENCE, "jpeg:quality=20", 29.0, 2.5, 1.0, 2.1, 3),
    ]  # fmt: skip
    columns = ["architecture", "loss", "codec", "psnr", "drop", "least drop", "passive", "beyond"]
    table = claim.pd.DataFrame(rows, columns=columns).assign(images=3, input_psnr=40.0, rounding=4.0)
    crossed = claim.matrix(table)
    assert crossed.loc[("a", "MSE"), ["< 28 dB", "≥ 34 dB"]].tolist() == [1.5, 5.0]
    assert crossed.loc[("jpeg", claim.REFERENCE), "28 to 30 dB"] == 2.5 and crossed.notna().to_numpy().sum() == 3
    said = claim.verdicts(table[table["loss"] != claim.REFERENCE])
    assert "2 of 6 pairs" in said and "on 0 of 2 codecs every image" in said and "less than 0.70 dB" in said
    assert "lose -2.50 to +1.00 dB, on average -0.75" in said
    assert "a 1.50 to 5.00" in said and "jpeg" not in said
    claim.draw(table, tmp_path / "claim.png")
    assert (tmp_path / "claim.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("name", "expected"),
    [("rdae-gan.tiny-q2", "GAN"), ("rdae.tiny-q2", "MSE"), ("bmshj2018-hyperprior.tiny-msssim-q1", "MS-SSIM")],
)
def test_a_card_tells_what_a_codec_was_trained_for(claim: Any, name: str, expected: str) -> None:
    assert claim.loss_of(claim.registry.codecs.build(name).card) == expected
