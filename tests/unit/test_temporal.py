"""Numbers over time, by hand on tiny clips and against scikit-image frame by frame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from robustcodec.interfaces import StreamPart
from robustcodec.registry import metrics
from robustcodec.scores import temporal


def greys(*levels: float) -> Tensor:
    """One clip of 4 × 4 frames, each in one grey, in 8-bit levels."""
    frames = torch.tensor(levels, dtype=torch.float32) / 255
    return frames.view(1, -1, 1, 1, 1).expand(1, len(levels), 3, 4, 4)


def random_clips(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def db(levels: float) -> float:
    return 20 * math.log10(255 / levels)


def test_psnr_of_each_frame_is_scikit_images() -> None:
    x, y = random_clips(0, 2, 3, 3, 5, 7), random_clips(1, 2, 3, 3, 5, 7)
    ours = temporal.psnr(x, y)
    scikit: Any = peak_signal_noise_ratio
    theirs = [[scikit(x[n, t].numpy(), y[n, t].numpy(), data_range=1) for t in range(3)] for n in range(2)]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["mse", "linf", "ms_ssim"])
def test_any_metric_of_a_frame_is_that_of_the_frame_alone(name: str) -> None:
    metric = metrics.build(name)
    x, y = random_clips(0, 2, 3, 3, 48, 40), random_clips(1, 2, 3, 3, 48, 40)
    scores = temporal.per_frame(metric, x, y)
    assert scores.shape == (2, 3)
    alone = [[metric.fn(x[n : n + 1, t : t + 1], y[n : n + 1, t : t + 1]).item() for t in range(3)] for n in range(2)]
    np.testing.assert_allclose(scores.numpy(), alone, rtol=1e-6)
    if name != "linf":
        np.testing.assert_allclose(scores.mean(1).numpy(), metric.fn(x, y).numpy(), rtol=1e-5)


def test_frames_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 3, 4, 4\) with a reference of shape \(1, 2, 3, 4, 4\)"):
        temporal.psnr(greys(1, 2), greys(1, 2, 3))


def test_drift_is_the_known_loss_of_each_frame() -> None:
    x = greys(100, 100, 100, 100)
    loss = temporal.drift(x, greys(102, 102, 102, 102), greys(102, 110, 104, 101))
    assert loss[0].tolist() == pytest.approx([0, db(2) - db(10), db(2) - db(4), db(2) - db(1)], abs=1e-4)


def test_perturbed_frames_are_those_with_any_difference() -> None:
    x = greys(10, 20, 30).clone()
    x_adv = x.clone()
    x_adv[0, 1, 2, 3, 0] += 1 / 255
    assert temporal.perturbed(x, x_adv).tolist() == [[False, True, False]]


@pytest.mark.parametrize(
    ("drift", "perturbed", "expected"),
    [
        ([0.0, 6.0, 4.0, 2.0, 0.4, 0.1], [1], 2),
        ([0.0, 6.0, 0.1, 0.0, 0.0, 0.0], [1], 0),
        ([0.0, 6.0, 0.1, 3.0, 0.2, 0.0], [1], 2),  # back again: counts from the last time
        ([0.0, 6.0, 0.5, 0.4, 0.4, 0.4], [1], 1),  # "below" is strict
        ([9.0, 9.0, 9.0, 1.0, -2.0, 0.0], [0, 2], 1),  # after the last of several
        ([0.0, 6.0, 4.0, 2.0, 1.0, 0.6], [1], math.nan),
        ([0.0, 6.0, 0.0, 0.0, 0.0, 6.0], [1], math.nan),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 6.0], [5], math.nan),  # none follows
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [], math.nan),
    ],
)
def test_recovery(drift: list[float], perturbed: list[int], expected: float) -> None:
    touched = torch.tensor([[t in perturbed for t in range(6)]])
    found = temporal.recovery(torch.tensor([drift], dtype=torch.float64), touched)
    assert found.shape == (1,) and found.item() == pytest.approx(expected, nan_ok=True)


def test_recovery_is_per_clip_and_takes_a_threshold() -> None:
    drift = torch.tensor([[6.0, 3.0, 2.0, 0.0], [6.0, 0.0, 0.0, 0.0]])
    touched = torch.tensor([[True, False, False, False]] * 2)
    assert temporal.recovery(drift, touched).tolist() == [2, 0]
    assert temporal.recovery(drift, touched, threshold=2.5).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"twice \(N, T\)"):
        temporal.recovery(drift, touched[:1])


def test_flicker_by_hand() -> None:
    assert temporal.flicker(greys(10, 20, 40), greys(15, 25, 45)).item() == pytest.approx(0, abs=1e-6)
    # errors 0, 3, -1: changes 3 and -4
    assert temporal.flicker(greys(10, 20, 40), greys(10, 23, 39)).item() == pytest.approx((9 + 16) / 2, rel=1e-4)
    assert math.isnan(temporal.flicker(greys(10), greys(12)).item())


def test_flicker_of_independent_errors_is_twice_their_mse() -> None:
    """And a loop over pixels in NumPy agrees."""
    x = random_clips(0, 2, 30, 3, 16, 16) / 2 + 0.25
    y = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) / 100
    flicker = temporal.flicker(x, y)
    mse = (255 * (y - x)).square().flatten(1).mean(1)
    np.testing.assert_allclose(flicker.numpy(), 2 * mse.numpy(), rtol=0.02)
    a, b = 255 * x.double().numpy(), 255 * y.double().numpy()
    changes = [(b[:, t] - b[:, t - 1] - a[:, t] + a[:, t - 1]) ** 2 for t in range(1, 30)]
    np.testing.assert_allclose(flicker.numpy(), np.mean(changes, axis=(0, 2, 3, 4)), rtol=1e-4)


def test_bits_of_each_frame() -> None:
    parts = [
        StreamPart("header", 0, 0, 99),
        StreamPart("gop", 0, 4, 40),
        StreamPart("gop", 4, 1, 30),
        StreamPart("motion", 1, 2, 6),
    ]
    assert temporal.bits_per_frame(parts, 5).tolist() == [10, 13, 13, 10, 30]
    assert temporal.bits_per_frame([StreamPart("stream", 0, 0, 800)], 2).isnan().all()
    with pytest.raises(ValueError, match="beyond a clip of 4 frames"):
        temporal.bits_per_frame(parts, 4)
