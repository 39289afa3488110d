"""LPIPS: Zhang et al., 2018, https://arxiv.org/abs/1801.03924."""

from __future__ import annotations

import warnings
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from robustcodec.errors import MissingDependency, WeightsError
from robustcodec.interfaces import Metric
from robustcodec.registry import metrics
from robustcodec.scores.metrics._frames import frame_mean
from robustcodec.weights.statedict import Published

Net = Literal["alex", "vgg", "squeeze"]

BACKBONES: dict[Net, Published] = {  # of torchvision, as the package takes them
    "alex": Published("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"),
    "vgg": Published("https://download.pytorch.org/models/vgg16-397923af.pth"),
    "squeeze": Published("https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"),
}
LPIPS_SIDE: dict[Net, int] = {"alex": 31, "vgg": 16, "squeeze": 17}  # below, a pooling layer has no output


@metrics.register("lpips")
def lpips(net: Net = "alex") -> Metric:
    """Learned perceptual distance LPIPS, version 0.1; it is 0 for equal clips.

    ``net``: the backbone, ``alex``, ``vgg`` or ``squeeze``, which is loaded at the first score. Scores of two backbones
    do not compare: all but the default carry the backbone in their name. Frames that are smaller than the backbone can
    pool (31, 16 and 17 pixels for alex, vgg and squeeze) score NaN. Scoring raises :class:`MissingDependency` if the
    weights of the backbone are neither cached nor downloadable.
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

    published = BACKBONES[net]
    try:
        features = published.load()
    except WeightsError as error:
        raise MissingDependency(
            f"the backbone of lpips:net={net} cannot be loaded ({error}); "
            f"download {published.url} and put it at {published.cached}"
        ) from error
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The parameter 'pretrained'|Arguments other than a weight enum", UserWarning)
        model = LPIPS(net=net, verbose=False, pnet_rand=True)  # which loads no backbone by itself
    layers = {name: f"features.{name.partition('.')[2]}" for name in model.net.state_dict()}  # slice2.3.bias: layer 3
    try:
        model.net.load_state_dict({name: features[layer] for name, layer in layers.items()})
    except (KeyError, RuntimeError) as error:
        raise MissingDependency(f"{published.cached} holds no {net} ({error}); get {published.url}") from error
    return model.requires_grad_(False).eval().to(device)
