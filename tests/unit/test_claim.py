"""``benchmarks/claim.py``: what a perturbation can take by itself, and the matrix of a board that ships."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HOUSE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def claim() -> Any:
    spec = importlib.util.spec_from_file_location("claim", HOUSE / "benchmarks" / "claim.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
