"""Scores of a test clip against a reference, per sample: MSE, PSNR, L∞, MS-SSIM, LPIPS.

All take two clips ``(N, T, 3, H, W)`` in [0, 1] and give ``(N,)``; gradients pass where the formula has one.
MS-SSIM and LPIPS are of single frames, averaged over T; a frame too small for them scores NaN.

MS-SSIM: Wang et al., 2003, https://doi.org/10.1109/ACSSC.2003.1292216.
LPIPS: Zhang et al., 2018, https://arxiv.org/abs/1801.03924.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import cache, partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_msssim import ms_ssim as msssim_of_frames
from torch import Tensor

from robustcodec.errors import MissingDependency
from robustcodec.interfaces import Metric
from robustcodec.registry import metrics

PSNR_CAP = 100.0  # dB; identical clips score this, so that means and differences stay finite
EVERY_RUN = ("psnr", "ms_ssim")  # whatever else is asked for
Net = Literal["alex", "vgg", "squeeze"]

_LPIPS_MIN_SIDE: dict[Net, int] = {"alex": 31, "vgg": 16, "squeeze": 17}  # below, a pooling layer has no output


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


def of_every_run(names: Iterable[str] = (), device: str | torch.device = "cpu") -> list[Metric]:
    """The metrics of every run and ``names``, each once, tried out: one that cannot be computed here says so now, not
    after an hour of work.

    Raises :class:`UserError` for an unknown one, :class:`MissingDependency` for one that cannot be computed here.
    """
    built = [metrics.build(name) for name in dict.fromkeys((*EVERY_RUN, *names))]
    probe = torch.full((1, 1, 3, 64, 64), 0.5, device=device)
    for metric in built:
        metric.fn(probe, probe)
    return list({metric.name: metric for metric in built}.values())


@metrics.register("mse")
def mse() -> Metric:
    """Mean squared error on the [0, 1] scale, over the whole clip."""
    return Metric("mse", "", False, squared_error)


@metrics.register("psnr")
def psnr() -> Metric:
    """Peak signal-to-noise ratio in dB, of the clip's MSE over all frames and channels; at most 100 dB."""
    return Metric("psnr", "dB", True, lambda reference, test: decibels(squared_error(reference, test)))


@metrics.register("linf")
def linf() -> Metric:
    """Largest absolute difference, on the [0, 1] scale."""
    return Metric("linf", "", False, lambda reference, test: difference(reference, test).abs().flatten(1).amax(1))


@metrics.register("ms_ssim")
def ms_ssim() -> Metric:
    """Multi-scale structural similarity: five scales, the paper's weights, Gaussian window of σ 1.5.

    The window has 11 taps, as published, on sides above 160 pixels; below it is the largest odd window that
    still fits the fifth scale (9 above 128, 7 above 96, 5 above 64, 3 above 32), so scores of small frames
    compare with each other at one size only. Sides up to 32 score NaN.
    """
    return Metric("ms_ssim", "", True, partial(_frame_mean, _ms_ssim_frame))


@metrics.register("lpips")
def lpips(net: Net = "alex") -> Metric:
    """Learned perceptual distance, version 0.1, of a backbone that is loaded at the first score.

    Frames smaller than the backbone can pool (31, 16 and 17 pixels for alex, vgg and squeeze) score NaN.
    Scores of two backbones do not compare: all but the default carry theirs in the name.
    Scoring raises :class:`MissingDependency` if the backbone's weights are neither cached nor downloadable.
    """
    if net not in _LPIPS_MIN_SIDE:
        raise ValueError(f"net={net!r} is no LPIPS backbone; expected one of {', '.join(_LPIPS_MIN_SIDE)}")
    name = "lpips" if net == "alex" else f"lpips_{net}"
    return Metric(name, "", False, partial(_frame_mean, partial(_lpips_frame, net)))


def _frame_mean(score: Callable[[Tensor, Tensor], Tensor], reference: Tensor, test: Tensor) -> Tensor:
    """``score`` of frames ``(1, 3, H, W)``, averaged over T. One at a time: a clip's feature maps fill a memory."""
    difference(reference, test)
    pairs = zip(reference.flatten(0, 1), test.flatten(0, 1), strict=True)
    return torch.stack([score(r[None], s[None]) for r, s in pairs]).view(reference.shape[:2]).mean(1)


def _ms_ssim_frame(reference: Tensor, test: Tensor) -> Tensor:
    fits = (min(reference.shape[-2:]) - 1) // 16 + 1  # pytorch_msssim wants side > 16 (window - 1)
    window = min(11, fits - 1 + fits % 2)
    if window < 3:
        return reference.new_tensor(float("nan"))
    score: Tensor = msssim_of_frames(reference, test, data_range=1.0, win_size=window)
    return score


def _lpips_frame(net: Net, reference: Tensor, test: Tensor) -> Tensor:
    if min(reference.shape[-2:]) < _LPIPS_MIN_SIDE[net]:
        return reference.new_tensor(float("nan"))
    score: Tensor = lpips_model(net, reference.device)(2 * reference - 1, 2 * test - 1)
    return score.squeeze()


@cache
def lpips_model(net: Net, device: torch.device) -> Any:
    """The frozen network; takes frames in [-1, 1]. Raises :class:`MissingDependency` without its weights."""
    from lpips import LPIPS
    from torchvision import models

    weights = {
        "alex": models.AlexNet_Weights.IMAGENET1K_V1,
        "vgg": models.VGG16_Weights.IMAGENET1K_V1,
        "squeeze": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
    }[net]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    # torch.hub announces a download on stdout, which belongs to the results
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The parameter 'pretrained'|Arguments other than a weight enum", UserWarning)
        try:
            weights.get_state_dict(map_location="cpu", check_hash=True)
        except (OSError, HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise MissingDependency(
                f"the backbone of lpips:net={net} cannot be loaded ({error}); "
                f"download {weights.url} and put it at {folder / Path(weights.url).name}"
            ) from error
        return LPIPS(net=net, verbose=False).requires_grad_(False).eval().to(device)
