"""A factorised pair of discriminators: one for frames, one for motion.

Veerabadran et al., "Adversarial Distortion for Learned Video Compression", CVPRW 2020, §3
(https://arxiv.org/abs/2004.09508): a 2-D ResNet-34 sees every frame, a 3-D ResNet the clip at half its height and
width; the decoder is given the mean of their losses. The depth of the 3-D network is not stated; torchvision's
``r3d_18`` stands for it. The ``tiny`` pair, for CPUs, judges patches and has no batch statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import ceil, prod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from robustcodec.errors import UserError, WeightsError
from robustcodec.training.features import IMAGENET, Standardise
from robustcodec.training.gan import Form, gradient_penalty
from robustcodec.weights import sha256
from robustcodec.weights.statedict import Published

Size = Literal["tiny", "paper"]
Scores = tuple[Tensor, Tensor]  # of frames (N·T·patches,), of clips (N·patches,); raw
RESNET34 = Published("https://download.pytorch.org/models/resnet34-b627a593.pth")
KINETICS = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)  # what torchvision feeds r3d_18
MIN_SIDE = 16  # pixels


class Factorised(nn.Module):
    """``spatial`` maps frames ``(M, 3, H, W)`` to ``(M, patches)``, ``temporal`` clips ``(N, 3, T, H/2, W/2)`` to
    ``(N, patches)``; the paper's networks see one patch, the whole.

    Score real and decoded clips in separate passes: batch statistics of both together would give the answer away.
    In a decoder step, hold the pair in :func:`robustcodec.training.gan.frozen`. A checkpoint needs the whole
    ``state_dict``: batch norms keep buffers.
    """

    def __init__(self, spatial: nn.Module, temporal: nn.Module) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal

    def forward(self, clip: Tensor) -> Scores:
        """Raw scores of a clip ``(N, T, 3, H, W)`` in [0, 1]: of all patches of its frames and of itself, flat."""
        return self.score_frames(clip), self.score_clips(clip)

    def score_frames(self, clip: Tensor) -> Tensor:
        _check(clip)
        scores: Tensor = self.spatial(clip.flatten(0, 1))
        return scores.flatten()

    def score_clips(self, clip: Tensor) -> Tensor:
        _check(clip)
        halved = avg_pool2d(clip.flatten(0, 1), 2)
        scores: Tensor = self.temporal(halved.reshape(*clip.shape[:2], *halved.shape[1:]).transpose(1, 2))
        return scores.flatten()


def _check(clip: Tensor) -> None:
    if clip.ndim != 5 or clip.shape[2] != 3 or min(clip.shape[-2:]) < MIN_SIDE:
        raise UserError(
            f"the discriminators were given a clip of shape {tuple(clip.shape)}; expected (N, T, 3, H, W) with sides "
            f"of at least {MIN_SIDE} pixels: use a larger crop"
        )


class _ResNet(nn.Module):
    """A torchvision residual network behind its own standardisation; ``stride``: input samples per last feature."""

    def __init__(
        self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], stride: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std, len(stride))
        self.net = net
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Raises :class:`UserError` in training mode where batch norm would see one value per channel."""
        values = len(x) * prod(ceil(n / s) for n, s in zip(x.shape[2:], self.stride, strict=True))
        if self.training and values == 1:
            raise UserError(
                f"a discriminator was given {tuple(x.shape)}, which it reduces to one value per channel: its batch "
                "norm has nothing to normalise with; use a larger batch or crop"
            )
        scores: Tensor = self.net(self.standardise(x))
        return scores


class _Thin(nn.Module):
    """Strided convolutions and leaky ReLUs; a score for every patch that the last one sees, ``(N, patches)``.

    Judging patches (Isola et al., 2017, https://arxiv.org/abs/1611.07004) gives a small network many examples per
    step. Without spectral normalisation: with it the decoder fooled this pair within a few hundred steps.
    """

    def __init__(self, *convolutions: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        first, *others = convolutions
        self.net = nn.Sequential(first, *(layer for conv in others for layer in (nn.LeakyReLU(0.2), conv)))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(2 * x - 1)
        return scores.flatten(1)


def _thin_pair() -> Factorised:
    spatial = _Thin(
        nn.Conv2d(3, 16, 4, stride=2, padding=1),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.Conv2d(64, 96, 4, stride=2, padding=1),
        nn.Conv2d(96, 1, 3, padding=1),
    )
    temporal = _Thin(
        nn.Conv3d(3, 16, (3, 4, 4), stride=(1, 2, 2), padding=1),
        nn.Conv3d(16, 32, (3, 4, 4), stride=(1, 2, 2), padding=1),
        nn.Conv3d(32, 64, (3, 4, 4), stride=2, padding=1),
        nn.Conv3d(64, 64, 3, padding=1),
        nn.Conv3d(64, 1, 3, padding=1),
    )
    return Factorised(spatial, temporal)


def _resnet34(weights: str | None, published: Published) -> tuple[nn.Module, str]:
    """One score per frame, and where the weights come from."""
    from torchvision.models import resnet34

    cached = published.cached
    if weights == "scratch" or (weights is None and not cached.is_file()):
        if weights is None:
            warnings.warn(
                f"the spatial discriminator starts FROM SCRATCH, the paper's from ImageNet: get {published.url} and "
                f"put it at {cached}, or give its path, 'download' or 'scratch'",
                stacklevel=3,
            )
        return resnet34(weights=None, num_classes=1), "from scratch"
    path = None if weights in (None, "download") else Path(weights).expanduser()
    net, state = resnet34(weights=None), published.load(path)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path or cached} holds no ResNet-34 ({error}); get {published.url}") from error
    net.fc = nn.Linear(net.fc.in_features, 1)
    if weights is None:
        warnings.warn(f"the spatial discriminator starts from ImageNet weights, found at {cached}", stacklevel=3)
    return net, f"resnet34 ImageNet1K_V1 (sha256 {sha256(path or cached)})"


def build(size: Size, resnet34_weights: str | None = None, published: Published = RESNET34) -> tuple[Factorised, str]:
    """A pair in training mode, drawn from torch's global generator, and in words where the spatial weights came from.

    ``tiny``: 141 000 + 238 000 parameters, always from scratch. ``paper``: ResNet-34 and ``r3d_18``, 21 + 33 million,
    the latter always from scratch, as in the paper. ``resnet34_weights``: a path, ``download`` (83 MB into torch's
    cache, once), ``scratch``, or None: torch's cache or else from scratch, with a :class:`UserWarning` that says which.
    Raises :class:`UserError` for weights that ``tiny`` cannot take, :class:`WeightsError` for missing or foreign ones.
    """
    if size == "tiny":
        if resnet34_weights not in (None, "scratch"):
            raise UserError(f"the tiny discriminators take no ResNet-34 weights ({resnet34_weights}); use size paper")
        return _thin_pair(), "from scratch"
    if size != "paper":
        raise UserError(f"no discriminators of size {size!r}; expected tiny or paper")
    from torchvision.models.video import r3d_18

    spatial, origin = _resnet34(resnet34_weights, published)
    pair = Factorised(
        _ResNet(spatial, *IMAGENET, stride=(32, 32)),
        _ResNet(r3d_18(weights=None, num_classes=1), *KINETICS, stride=(8, 16, 16)),
    )
    return pair, origin


def adversarial_loss(form: Form, real: Scores, fake: Scores) -> Tensor:
    """The decoder's: mean of the spatial and the temporal loss, each with its own E[·]."""
    return torch.stack([form.decoder_loss(r, f) for r, f in zip(real, fake, strict=True)]).mean()


def discriminator_loss(form: Form, real: Scores, fake: Scores) -> Tensor:
    """The pair's: mean of the spatial and the temporal loss, each with its own E[·]; without :func:`penalty`."""
    return torch.stack([form.discriminator_loss(r, f) for r, f in zip(real, fake, strict=True)]).mean()


def penalty(pair: Factorised, real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    """Mean gradient penalty of the pair between clips ``(N, T, 3, H, W)``, per frame and per clip; not yet weighted.

    Batch norm lets scores depend on other samples, so for the ``paper`` size this is only nearly the published one.
    """

    def judged(score: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """One score per sample: the mean over its patches."""
        return lambda clips: score(clips).view(len(clips), -1).mean(1)

    frames = [clip.flatten(0, 1)[:, None] for clip in (real, fake)]
    spatial = gradient_penalty(judged(pair.score_frames), frames[0], frames[1], rng)
    return (spatial + gradient_penalty(judged(pair.score_clips), real, fake, rng)) / 2
