"""FID against SciPy's matrix root, the Inception Score against its formula, and what is said when parts are missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor, nn

from robustcodec.errors import BadData, MissingDependency
from robustcodec.scores.perception import INCEPTION, fid, inception_score


class Corners(nn.Module):
    """Features a hand can compute: 12 means of pixels, of the four quarters of each channel, around mid-grey."""

    def forward(self, frames: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(frames.float() - 128, 2).flatten(1) / 16


def clips(seed: int, count: int, contrast: float = 1.0, size: int = 8) -> list[Tensor]:
    """Clips of three frames, off the 8-bit grid."""
    rng = torch.Generator().manual_seed(seed)
    return [(torch.rand(1, 3, 3, size, size, generator=rng) * contrast).clamp(0, 1) for _ in range(count)]


def by_hand(found: list[Tensor]) -> NDArray[np.float64]:
    pixels: NDArray[np.float64] = np.concatenate([np.round(c[0].numpy().astype(np.float64) * 255) for c in found])
    half = pixels.shape[-1] // 2
    quarters: NDArray[np.float64] = pixels.reshape(len(pixels), 3, 2, half, 2, half).mean(axis=(3, 5))
    centred: NDArray[np.float64] = (quarters.reshape(len(pixels), 12) - 128) / 16
    return centred


def test_fid_is_the_frechet_distance_of_the_features() -> None:
    pytest.importorskip("torchmetrics")
    reference, test = clips(0, 20), clips(1, 30, contrast=0.8)
    a, b = by_hand(reference), by_hand(test)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(cov_a @ cov_b))
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert expected > 1
    assert fid(reference, test, Corners()) == pytest.approx(float(expected), rel=1e-4)
    assert fid(reference, reference, Corners()) == pytest.approx(0, abs=1e-4)


def test_the_inception_score_is_its_formula() -> None:
    pytest.importorskip("torchmetrics")
    frames = clips(2, 12)
    logits = by_hand(frames)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert expected > 1.01
    one = inception_score(frames, Corners(), splits=1)
    assert one.mean == pytest.approx(float(expected), rel=1e-4) and np.isnan(one.std)
    split = inception_score(frames, Corners(), splits=3)
    assert split == inception_score(frames, Corners(), splits=3)
    assert split != inception_score(frames, Corners(), splits=3, seed=1)
    assert split.std > 0


def test_scores_leave_the_random_state_alone() -> None:
    pytest.importorskip("torchmetrics")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fid(clips(0, 2), clips(1, 2), Corners())
    inception_score(clips(0, 2), Corners(), splits=2)
    assert torch.equal(torch.rand(2), expected)


def test_sets_that_are_too_small() -> None:
    pytest.importorskip("torchmetrics")
    with pytest.raises(BadData, match="1 frame in the test set"):
        fid(clips(0, 2), [clips(1, 1)[0][:, :1]], Corners())
    with pytest.raises(BadData, match="expected at least splits=10"):
        inception_score(clips(0, 2), Corners())
    with pytest.raises(BadData, match="expected \\(N, T, 3, H, W\\)"):
        fid(clips(0, 1), [torch.zeros(3, 8, 8)], Corners())


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)  # what an import finds where it is not installed
    for score in (lambda: fid(clips(0, 1), clips(1, 1)), lambda: inception_score(clips(0, 1))):
        with pytest.raises(MissingDependency, match="pip install torchmetrics torch-fidelity") as raised:
            score()
        assert INCEPTION.url in str(raised.value) and "checkpoints" in str(raised.value)


def test_without_torch_fidelity_or_weights_inception_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A damaged file stands for weights that cannot be had; without torch-fidelity its absence is told first."""
    pytest.importorskip("torchmetrics")
    home = tmp_path_factory.mktemp("torch")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(home))
    weights = home / "checkpoints" / INCEPTION.name
    weights.parent.mkdir()
    weights.write_bytes(b"not weights")
    with pytest.raises(MissingDependency) as raised:
        fid(clips(0, 1), clips(1, 1))
    assert INCEPTION.url in str(raised.value) and str(weights) in str(raised.value)
