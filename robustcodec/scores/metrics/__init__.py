"""Scores of a test clip against a reference, per sample: MSE, PSNR, L∞, MS-SSIM, LPIPS.

All take two clips ``(N, T, 3, H, W)`` in [0, 1] and give ``(N,)``; gradients pass where the formula has one. MS-SSIM
and LPIPS are of single frames, averaged over T; a frame too small for them scores NaN. A module here registers
metrics by being here.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from robustcodec.errors import RobustCodecError, blamed
from robustcodec.interfaces import Metric
from robustcodec.registry import metrics
from robustcodec.scores.metrics.perceptual import LPIPS_SIDE, Net, lpips, lpips_model
from robustcodec.scores.metrics.pixels import PSNR_CAP, decibels, difference, linf, mse, psnr, squared_error
from robustcodec.scores.metrics.structure import MS_SSIM_SIDE, ms_ssim

__all__ = [
    "EVERY_RUN", "LPIPS_SIDE", "MS_SSIM_SIDE", "PSNR_CAP", "Net", "decibels", "difference", "linf", "lpips",
    "lpips_model", "ms_ssim", "mse", "of_every_run", "psnr", "squared_error",
]  # fmt: skip

EVERY_RUN = ("psnr", "ms_ssim")  # whatever else is asked for


def of_every_run(names: Iterable[str] = (), device: str | torch.device = "cpu") -> list[Metric]:
    """The metrics of every run and ``names``, each once, tried out: one that cannot be computed here says so now, not
    after an hour of work.

    Raises :class:`UserError` for an unknown one, :class:`MissingDependency` for one that cannot be computed here.
    """
    built = [metrics.build(name) for name in dict.fromkeys((*EVERY_RUN, *names))]
    probe = torch.full((1, 1, 3, 64, 64), 0.5, device=device)
    for metric in built:
        try:
            metric.score(probe, probe)
        except RobustCodecError:
            raise
        except BaseException as error:  # it may be anyone's code
            raise blamed(f"metric {metric.name}", error) from error
    return list({metric.name: metric for metric in built}.values())
