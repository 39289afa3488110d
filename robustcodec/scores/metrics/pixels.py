"""Errors of single values: MSE, PSNR and L∞."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcodec.interfaces import Metric
from robustcodec.registry import metrics

PSNR_CAP = 100.0  # dB; identical clips score this, so that means and differences stay finite


def difference(reference: Tensor, test: Tensor) -> Tensor:
    """``test - reference``; raises :class:`ValueError` unless both are clips ``(N, T, 3, H, W)`` of one shape."""
    if reference.shape != test.shape or reference.ndim != 5:
        raise ValueError(
            f"cannot compare a clip of shape {tuple(test.shape)} with a reference of shape {tuple(reference.shape)}; "
            "expected two clips of one shape (N, T, 3, H, W)"
        )
    return test - reference


def squared_error(reference: Tensor, test: Tensor) -> Tensor:
    """``(N,)`` mean squared error over all of T, 3, H, W, in float64: no number depends on batch or threads.

    Raises :class:`ValueError` if the shapes differ.
    """
    return difference(reference, test).square().flatten(1).mean(1, dtype=torch.float64)


def decibels(mse: Tensor) -> Tensor:
    """PSNR of a mean squared error on the [0, 1] scale, at most :data:`PSNR_CAP`."""
    return -10 * mse.clamp(min=10 ** (-PSNR_CAP / 10)).log10()


@metrics.register("mse")
def mse() -> Metric:
    """Mean squared error on the [0, 1] scale, over the whole clip."""
    return Metric("mse", "", False, squared_error, "MSE", 6)


@metrics.register("psnr")
def psnr() -> Metric:
    """Peak signal-to-noise ratio in dB, of the clip's MSE over all frames and channels; at most 100 dB."""
    return Metric("psnr", "dB", True, lambda reference, test: decibels(squared_error(reference, test)), "PSNR", 2)


@metrics.register("linf")
def linf() -> Metric:
    """Largest absolute difference between two values, on the [0, 1] scale."""
    return Metric("linf", "", False, lambda reference, test: difference(reference, test).abs().flatten(1).amax(1), "L∞")
