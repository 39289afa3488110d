"""MS-SSIM: Wang et al., 2003, https://doi.org/10.1109/ACSSC.2003.1292216."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import exp

import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim as msssim_of_frames
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from robustcodec.interfaces import Metric
from robustcodec.registry import metrics
from robustcodec.scores.metrics._frames import frame_mean

MS_SSIM_SIDE = 33  # below, no window fits the fifth scale
WHOLE = 1 << 22  # pixels of a frame that are compared at once
STRIP = 1 << 18  # pixels of a larger frame that are compared at once
SIGMA = 1.5  # of the Gaussian window
C1, C2 = 0.01**2, 0.03**2  # keep the quotients finite where a frame is dark or flat
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, as published


@metrics.register("ms_ssim")
def ms_ssim() -> Metric:
    """Multi-scale structural similarity: five scales, the weights of the paper, a Gaussian window of σ 1.5.

    The window has 11 taps, as published, if both sides are above 160 pixels. Below, it is the largest odd window that
    still fits the fifth scale (9 above 128, 7 above 96, 5 above 64, 3 above 32), so scores of small frames compare with
    each other at one size only. Frames with a side of 32 pixels or less score NaN.
    """
    return Metric("ms_ssim", "", True, partial(frame_mean, _ms_ssim_frame), "MS-SSIM", least=MS_SSIM_SIDE)


def _ms_ssim_frame(reference: Tensor, test: Tensor) -> Tensor:
    fits = (min(reference.shape[-2:]) - 1) // 16 + 1  # pytorch_msssim wants side > 16 (window - 1)
    window = min(11, fits - 1 + fits % 2)
    if min(reference.shape[-2:]) < MS_SSIM_SIDE:
        return reference.new_tensor(float("nan"))
    if reference.shape[-2] * reference.shape[-1] > WHOLE:
        return _of_strips(reference, test, window)
    score: Tensor = msssim_of_frames(reference, test, data_range=1.0, win_size=window)
    return score


def _of_strips(reference: Tensor, test: Tensor, window: int) -> Tensor:
    """The same of a large frame, strip by strip of each scale, so that memory grows with the strip."""
    scores = []
    for scale, weight in enumerate(WEIGHTS):
        contrast, all_of_it = _of_scale(reference, test, window)
        scores.append((all_of_it if scale == len(WEIGHTS) - 1 else contrast).relu() ** weight)
        odd = [side % 2 for side in reference.shape[-2:]]
        reference, test = (F.avg_pool2d(frame, 2, padding=odd) for frame in (reference, test))
    return torch.stack(scores).prod(0).mean().to(reference.dtype)


def _of_scale(reference: Tensor, test: Tensor, window: int) -> Tensor:
    """``(2, 3)``, of each channel: how alike contrast and structure are, and luminance too; means over places."""
    weights = [exp(-((k - window // 2) ** 2) / (2 * SIGMA**2)) for k in range(window)]
    taps = [weight / sum(weights) for weight in weights]
    height, width = reference.shape[-2:]
    step, sums = max(1, STRIP // width), []
    for top in range(0, height - window + 1, step):
        rows = slice(top, min(top + step, height - window + 1) + window - 1)
        strips = reference[0, :, rows], test[0, :, rows], taps
        # a gradient costs one more pass, and keeps the strips alone
        wanted = torch.is_grad_enabled()
        sums.append(checkpoint(_alike, *strips, use_reentrant=False) if wanted else _alike(*strips))
    return torch.stack(sums).sum(0) / ((height - window + 1) * (width - window + 1))


def _alike(x: Tensor, y: Tensor, taps: Sequence[float]) -> Tensor:
    """As :func:`_of_scale` of strips ``(3, rows, W)``, summed over places in float64."""
    mean_x, mean_y, xx, yy, xy = _blurred(_blurred(torch.stack((x, y, x * x, y * y, x * y)), taps, -2), taps, -1)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    contrast = (2 * (xy - product) + C2) / (xx + yy - squares + C2)
    luminance = (2 * product + C1) / (squares + C1)
    return torch.stack([m.sum((-2, -1), dtype=torch.float64) for m in (contrast, contrast * luminance)])


def _blurred(maps: Tensor, taps: Sequence[float], side: int) -> Tensor:
    """``maps`` filtered along a side, where all taps fit: for single channels faster than a convolution."""
    places = maps.shape[side] - len(taps) + 1
    blurred = maps.narrow(side, 0, places) * taps[0]
    for k, tap in enumerate(taps[1:], 1):
        blurred.add_(maps.narrow(side, k, places), alpha=tap)
    return blurred
