"""Distance of VGG-19 features: the perceptual term of "Adversarial Distortion for Learned Video Compression", Eq. 5.

https://arxiv.org/abs/2004.09508; the layer before its activation and the L1 distance are those of ESRGAN
(https://arxiv.org/abs/1809.00219), whose description the paper repeats. Weights: torchvision's, from ImageNet
(https://docs.pytorch.org/vision/stable/models.html), never replaced without a warning.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from robustcodec.errors import WeightsError
from robustcodec.scores.metrics import Net, lpips_model
from robustcodec.weights import sha256
from robustcodec.weights.statedict import Published

Layer = Literal["conv5_4", "relu5_4"]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean, standard deviation of RGB in [0, 1]
WIDTHS = (64, 128, 256, 512, 512)  # of VGG-19's five stages
CONVOLUTIONS = (2, 2, 4, 4, 4)  # in each stage


VGG19 = Published("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth")


class Standardise(nn.Module):
    """(x − mean) / std of the channels of ``(N, 3, …)`` with ``dims`` further dimensions."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], dims: int) -> None:
        super().__init__()
        for name, values in {"mean": mean, "std": std}.items():
            self.register_buffer(name, torch.tensor(values).view(-1, *[1] * dims), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (x - self.get_buffer("mean")) / self.get_buffer("std")
        return out


def _vgg(widths: tuple[int, ...], layer: Layer) -> nn.Sequential:
    """VGG-19 up to ``layer``, numbered as torchvision's ``features``: conv5_4 is 34.

    Activations are in place, which halves the memory; only the last layer's output may therefore be used.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width, convolutions in zip(widths, CONVOLUTIONS, strict=True):
        for _ in range(convolutions):
            # not initialised: whether the term is on must not move torch's global generator
            convolution = nn.utils.skip_init(nn.Conv2d, channels, width, 3, padding=1)  # type: ignore[no-untyped-call]
            layers += [convolution, nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[: -2 if layer == "conv5_4" else -1])


class FeatureLoss(nn.Module):
    """Mean absolute difference of frozen VGG-19 features of two clips ``(N, T, 3, H, W)`` in [0, 1], by frame.

    Made with He-normal weights drawn from ``seed``: a distance of textures, not a perceptual one.
    :func:`feature_loss` gives it trained weights. ``layer``: before or after the activation. ``origin``: where the
    weights come from, in words.
    """

    def __init__(self, layer: Layer = "conv5_4", widths: tuple[int, ...] = WIDTHS, seed: int = 0) -> None:
        super().__init__()
        if layer not in ("conv5_4", "relu5_4"):
            raise ValueError(f"layer={layer!r}; expected conv5_4 (before the activation) or relu5_4")
        self.origin = f"random He-normal features, seed {seed}: not perceptual"
        self.standardise = Standardise(*IMAGENET, dims=2)
        self.features = _vgg(widths, layer)
        rng = torch.Generator().manual_seed(seed)
        for name, p in self.features.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(p, nonlinearity="relu", generator=rng)
            else:
                nn.init.zeros_(p)
        self.requires_grad_(False)

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Scalar; differentiable to both. Sides must be at least 16 pixels, as the four poolings halve them."""
        if x.shape != x_hat.shape or x.ndim != 5 or min(x.shape[-2:]) < 16:
            raise ValueError(
                f"cannot compare features of shapes {tuple(x.shape)} and {tuple(x_hat.shape)}; expected two clips of "
                "one shape (N, T, 3, H, W) with sides of at least 16 pixels"
            )
        a, b = (self.features(self.standardise(clip.flatten(0, 1))) for clip in (x, x_hat))
        difference: Tensor = a - b
        return difference.abs().mean()


class LpipsLoss(nn.Module):
    """Mean LPIPS of frames of clips ``(N, T, 3, H, W)`` in [0, 1], as in HiFiC (https://arxiv.org/abs/2006.09965).

    Whoever trains with it must not judge by it alone. Raises :class:`MissingDependency` without the backbone's weights.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.origin = f"LPIPS 0.1 with {net} features: LPIPS scores of this codec are of what it was trained for"
        lpips_model(net, torch.device("cpu"))

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Scalar; differentiable to ``x_hat``."""
        distance: Tensor = lpips_model(self.net, x.device)(2 * x.flatten(0, 1) - 1, 2 * x_hat.flatten(0, 1) - 1)
        return distance.mean()


def feature_loss(
    weights: str | None,
    layer: Layer = "conv5_4",
    published: Published = VGG19,
    widths: tuple[int, ...] = WIDTHS,
) -> FeatureLoss | None:
    """The VGG-19 term, or None with a :class:`UserWarning` if its weights are not on this machine.

    ``weights``: None (torch's cache or no term), ``required`` (torch's cache or :class:`WeightsError`), ``download``
    (548 MB into torch's cache, once), ``random`` (not perceptual, see :class:`FeatureLoss`), or a path. Whatever the
    source, the sha256 must start as in the official file name; :class:`WeightsError` if it does not.
    """
    if weights == "random":
        return FeatureLoss(layer, widths)
    cached = published.cached
    if weights in (None, "required") and not cached.is_file():
        remedy = f"get {published.url} and put it at {cached}, or give its path or 'download'"
        if weights == "required":
            raise WeightsError(f"the VGG-19 term needs weights that are not on this machine; {remedy}")
        warnings.warn(f"the VGG-19 term is OFF: its weights are not on this machine; {remedy}", stacklevel=2)
        return None
    path = None if weights in (None, "required", "download") else Path(weights).expanduser()
    loss = FeatureLoss(layer, widths)
    state = {k.removeprefix("features."): v for k, v in published.load(path).items() if k.startswith("features.")}
    try:
        loss.features.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path or cached} holds no VGG-19 ({error}); get {published.url}") from error
    loss.origin = f"vgg19 ImageNet1K_V1 (sha256 {sha256(path or cached)})"
    return loss
