"""MS-SSIM: Wang et al., 2003, https://doi.org/10.1109/ACSSC.2003.1292216."""

from __future__ import annotations

from functools import partial

from pytorch_msssim import ms_ssim as msssim_of_frames
from torch import Tensor

from robustcodec.interfaces import Metric
from robustcodec.registry import metrics
from robustcodec.scores.metrics._frames import frame_mean

MS_SSIM_SIDE = 33  # below, no window fits the fifth scale


@metrics.register("ms_ssim")
def ms_ssim() -> Metric:
    """Multi-scale structural similarity: five scales, the paper's weights, Gaussian window of σ 1.5.

    The window has 11 taps, as published, on sides above 160 pixels; below it is the largest odd window that
    still fits the fifth scale (9 above 128, 7 above 96, 5 above 64, 3 above 32), so scores of small frames
    compare with each other at one size only. Sides up to 32 score NaN.
    """
    return Metric("ms_ssim", "", True, partial(frame_mean, _ms_ssim_frame), "MS-SSIM", least=MS_SSIM_SIDE)


def _ms_ssim_frame(reference: Tensor, test: Tensor) -> Tensor:
    fits = (min(reference.shape[-2:]) - 1) // 16 + 1  # pytorch_msssim wants side > 16 (window - 1)
    window = min(11, fits - 1 + fits % 2)
    if min(reference.shape[-2:]) < MS_SSIM_SIDE:
        return reference.new_tensor(float("nan"))
    score: Tensor = msssim_of_frames(reference, test, data_range=1.0, win_size=window)
    return score
