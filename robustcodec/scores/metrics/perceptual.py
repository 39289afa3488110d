"""LPIPS: Zhang et al., 2018, https://arxiv.org/abs/1801.03924."""

from __future__ import annotations

import contextlib
import pickle
import sys
import warnings
from functools import cache, partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from robustcodec.errors import MissingDependency
from robustcodec.interfaces import Metric
from robustcodec.registry import metrics
from robustcodec.scores.metrics._frames import frame_mean

Net = Literal["alex", "vgg", "squeeze"]

LPIPS_SIDE: dict[Net, int] = {"alex": 31, "vgg": 16, "squeeze": 17}  # below, a pooling layer has no output


@metrics.register("lpips")
def lpips(net: Net = "alex") -> Metric:
    """Learned perceptual distance, version 0.1, of a backbone that is loaded at the first score.

    Frames smaller than the backbone can pool (31, 16 and 17 pixels for alex, vgg and squeeze) score NaN.
    Scores of two backbones do not compare: all but the default carry theirs in the name.
    Scoring raises :class:`MissingDependency` if the backbone's weights are neither cached nor downloadable.
    """
    if net not in LPIPS_SIDE:
        raise ValueError(f"net={net!r} is no LPIPS backbone; expected one of {', '.join(LPIPS_SIDE)}")
    name, label = ("lpips", "LPIPS") if net == "alex" else (f"lpips_{net}", f"LPIPS ({net})")
    return Metric(name, "", False, partial(frame_mean, partial(_lpips_frame, net)), label, least=LPIPS_SIDE[net])


def _lpips_frame(net: Net, reference: Tensor, test: Tensor) -> Tensor:
    if min(reference.shape[-2:]) < LPIPS_SIDE[net]:
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
