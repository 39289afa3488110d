"""What an attack maximises: damage per sample, higher is worse for the codec.

An objective reads only the branch of an output that it needs, so an attack on the reconstruction never pays for the
entropy model. Below, x is the clean clip and x* the attacked one; x̂ and x̂* are the clips that the codec makes of
them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robustcodec.errors import BadParameter, counted
from robustcodec.interfaces import Objective, Output
from robustcodec.registry import objectives
from robustcodec.scores import metrics

Space = Literal["rgb", "luma", "ycbcr"]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601-7, section 2.5
LOSSLESS = 1e-10  # mean squared error, 100 dB: below, the ratio of two errors says nothing


class Levelled(Objective):
    """Its field ``tau`` is above 1: what breaks a codec is more than the clean clip does."""

    def __post_init__(self) -> None:
        if not 1 < self.tau < math.inf:
            raise ValueError(f"tau={self.tau}; expected how many times its clean value damage must reach: above 1")


@dataclass(frozen=True, kw_only=True)
class _InSpace(Levelled):
    """An objective that measures errors in a colour space ``space``.

    ``rgb``: all three channels. ``luma``: luma alone. ``ycbcr``: luma and both colour differences (BT.601, full range,
    of the RGB in [0, 1]).
    """

    space: Space = "rgb"
    tau: float = 2.0

    def seen(self, clip: Tensor) -> Tensor:
        """What counts of a clip: ``(N, T, 3, H, W)``, or ``(N, T, 1, H, W)`` of luma."""
        if self.space == "rgb":
            return clip
        return luma(clip) if self.space == "luma" else ycbcr(clip)

    def error(self, a: Tensor, b: Tensor) -> Tensor:
        """``(N,)`` MSE of what counts."""
        return (self.seen(a) - self.seen(b)).square().flatten(1).mean(1)


@objectives.register("distortion")
@dataclass(frozen=True, kw_only=True)
class Distortion(_InSpace):
    """Error between the attacked and the clean reconstruction: MSE(x̂*, x̂) (Chen & Ma, 2023,
    https://arxiv.org/abs/2112.08691).

    ``space``: measure errors in ``rgb``, in ``luma`` alone, or in ``ycbcr`` (BT.601, full range). The codec counts as
    broken at a damage of (``tau`` − 1)·MSE(x, x̂): if what the attack adds is uncorrelated with the coding error, the
    PSNR is then lower by 10·log10(tau) dB. ``tau`` must be above 1. The gradient at the clean clip is zero, so an
    attack has to start elsewhere.
    """

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return self.error(attacked.x_hat, clean.x_hat)

    def level(self, x: Tensor, clean: Output) -> Tensor:
        return (self.tau - 1) * self.error(x, clean.x_hat)


@objectives.register("source-distortion")
@dataclass(frozen=True, kw_only=True)
class SourceDistortion(_InSpace):
    """Error between the attacked reconstruction and the clean source: MSE(x̂*, x).

    ``space``: measure errors in ``rgb``, in ``luma`` alone, or in ``ycbcr`` (BT.601, full range). The codec counts as
    broken at ``tau``·MSE(x̂, x). ``tau`` must be above 1.
    """

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return self.error(attacked.x_hat, x)


@objectives.register("own-distortion")
@dataclass(frozen=True, kw_only=True)
class OwnDistortion(_InSpace):
    """Error between the attacked reconstruction and the attacked input: MSE(x̂*, x*), how badly the codec codes its
    input.

    ``space``: measure errors in ``rgb``, in ``luma`` alone, or in ``ycbcr`` (BT.601, full range). The codec counts as
    broken at ``tau``·MSE(x̂, x). ``tau`` must be above 1. This is ``reconstr_loss`` of NIC-RobustBench, 2025
    (https://arxiv.org/abs/2506.19051), whose score ``delta`` is the fall of its PSNR in dB. It has a gradient even
    where the codec has none.
    """

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return self.error(attacked.x_hat, x_adv)


@objectives.register("added-noise")
@dataclass(frozen=True, kw_only=True)
class AddedNoise(Distortion):
    """What the codec adds to the perturbation: mean[((x̂* − x̂) − (x* − x))²].

    ``space``: measure errors in ``rgb``, in ``luma`` alone, or in ``ycbcr`` (BT.601, full range). The codec counts as
    broken at the same damage as under ``distortion``, (``tau`` − 1)·MSE(x, x̂). ``tau`` must be above 1. This is
    ``added_noises_loss`` of NIC-RobustBench, 2025 (https://arxiv.org/abs/2506.19051). It is zero for a codec that
    passes the perturbation on as it is.
    """

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return self.error(attacked.x_hat - clean.x_hat, x_adv - x)


@objectives.register("pointwise-added-noise")
@dataclass(frozen=True)
class PointwiseAddedNoise(AddedNoise):
    """``added-noise`` around one pixel: a mean with Gaussian weights.

    ``row``, ``column``: the place of the pixel, as shares in [0, 1] of height and width; the default is the middle.
    ``sigma``: standard deviation of the weights in pixels (positive); they end at three standard deviations. ``space``
    and ``tau`` are as for ``added-noise``. This is the experimental ``pointwise_added_noises_loss`` of NIC-RobustBench.
    """

    row: float = 0.5
    column: float = 0.5
    sigma: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.row <= 1 and 0 <= self.column <= 1 and 0 < self.sigma < math.inf):
            raise ValueError(
                f"row={self.row}, column={self.column}, sigma={self.sigma}; expected shares of the frame in [0, 1] and "
                "a positive number of pixels"
            )

    def seen(self, clip: Tensor) -> Tensor:
        down, across = (
            self._weights(side, share, clip)
            for side, share in zip(clip.shape[-2:], (self.row, self.column), strict=True)
        )
        return super().seen(clip) * (down[:, None] * across).sqrt()

    def _weights(self, side: int, share: float, like: Tensor) -> Tensor:
        """``(side,)`` of mean 1, of precision and device of ``like``."""
        distance = (torch.arange(side, device=like.device) - round(share * (side - 1))).abs()
        weights = torch.exp(-distance.square() / (2 * self.sigma**2)) * (distance <= 3 * self.sigma)
        return (weights / weights.mean()).to(like.dtype)


@dataclass(frozen=True, kw_only=True)
class _Perceptual(_InSpace):
    """A perceptual distance of x̂* from another clip; luma is repeated to three channels.

    ``against``: the distance is from x̂ (``clean``), from x (``source``) or from x* (``own``). Against ``clean`` the
    gradient at the clean clip is zero, as for ``distortion``, and the codec counts as broken at (``tau`` − 1) times the
    distance of x̂ from x; otherwise at ``tau`` times that distance. Raises :class:`BadParameter` for frames that are
    too small for it.
    """

    against: Literal["clean", "source", "own"] = "clean"

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        reference = {"clean": lambda: clean.x_hat, "source": lambda: x, "own": lambda: x_adv}[self.against]()
        return self._distance(reference, attacked.x_hat)

    def level(self, x: Tensor, clean: Output) -> Tensor:
        return (self.tau - (self.against == "clean")) * self._distance(x, clean.x_hat)

    @property
    @abstractmethod
    def smallest(self) -> int:
        """The shortest side of a frame that has a distance."""

    @abstractmethod
    def between(self, reference: Tensor, test: Tensor) -> Tensor:
        """``(N,)`` distance of two clips ``(N, T, 3, H, W)``."""

    def _distance(self, reference: Tensor, test: Tensor) -> Tensor:
        height, width = test.shape[-2:]
        if min(height, width) < self.smallest:
            raise BadParameter(
                f"frames of {width}x{height} pixels are too small for {type(self).__name__}; expected sides above 32 "
                "for ms-ssim and above 30, 16 or 15 for lpips with net=alex, squeeze or vgg. "
                "Use larger clips, or distortion"
            )
        with torch.autocast(test.device.type, enabled=False):  # variances are small differences of large numbers
            reference, test = (self.seen(c).expand(-1, -1, 3, -1, -1) for c in (reference, test))
            return self.between(reference, test)


@objectives.register("ms-ssim")
@dataclass(frozen=True, kw_only=True)
class MSSSIM(_Perceptual):
    """Structural dissimilarity, 1 − MS-SSIM (Wang et al., 2003, https://doi.org/10.1109/ACSSC.2003.1292216).

    MS-SSIM is computed as by the metric ``ms_ssim``. ``against``: the distance is from x̂ (``clean``), from x
    (``source``) or from x* (``own``). The codec counts as broken at ``tau`` times the distance of x̂ from x, against
    ``clean`` at (``tau`` − 1) times it; ``tau`` must be above 1. Against ``clean`` the gradient at the clean clip is
    zero. ``space``: measure errors in ``rgb``, in ``luma`` alone, or in ``ycbcr`` (BT.601, full range). Channels whose
    structure at some scale is uncorrelated or inverted score 0, which is the worst, and have no gradient any more.
    Raises :class:`BadParameter` for frames with a side of 32 pixels or less.
    """

    @property
    def smallest(self) -> int:
        return metrics.MS_SSIM_SIDE

    def between(self, reference: Tensor, test: Tensor) -> Tensor:
        return 1 - metrics.ms_ssim().fn(reference, test)


@objectives.register("lpips")
@dataclass(frozen=True)
class LPIPS(_Perceptual):
    """Perceptual distance LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924), as by the metric ``lpips``.

    ``net``: the backbone, ``alex``, ``vgg`` or ``squeeze``. ``against``: the distance is from x̂ (``clean``), from x
    (``source``) or from x* (``own``). The codec counts as broken at ``tau`` times the distance of x̂ from x, against
    ``clean`` at (``tau`` − 1) times it; ``tau`` must be above 1. Against ``clean`` the gradient at the clean clip is
    zero. ``space``: measure errors in ``rgb``, in ``luma`` alone, or in ``ycbcr`` (BT.601, full range). Raises
    :class:`MissingDependency` if the weights of the backbone are neither cached nor downloadable, and
    :class:`BadParameter` for frames that are smaller than the backbone can pool.
    """

    net: metrics.Net = "alex"

    @property
    def smallest(self) -> int:
        return metrics.LPIPS_SIDE[self.net]

    def between(self, reference: Tensor, test: Tensor) -> Tensor:
        return metrics.lpips(self.net).fn(reference, test)


@objectives.register("rate")
@dataclass(frozen=True, kw_only=True)
class Rate(Levelled):
    """Estimated bits per pixel of the attacked clip: bits / (T·H·W) (Liu et al., 2022,
    https://arxiv.org/abs/2205.13253).

    The codec counts as broken at ``tau`` times the clean rate. ``tau`` must be above 1.
    """

    tau: float = 2.0

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        frames, _, height, width = x.shape[1:]
        return attacked.bits / (frames * height * width)


@objectives.register("rate-down")
@dataclass(frozen=True, kw_only=True)
class RateDown(Rate):
    """Minus the estimated bits per pixel of the attacked clip, for attacks that lower the rate.

    The codec counts as broken where the rate has fallen to the clean rate divided by ``tau``. ``tau`` must be above 1.
    """

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        return -super().__call__(x, clean, attacked, x_adv)

    def level(self, x: Tensor, clean: Output) -> Tensor:
        return self(x, clean, clean, x) / self.tau


@objectives.register("rate-distortion")
@dataclass(frozen=True)
class RateDistortion(_InSpace):
    """How often error and rate have doubled, together: log2(MSE(x̂*, x) / MSE(x̂, x)) + weight·log2(bits* / bits).

    This is a joint attack as in Wu et al., 2024 (https://arxiv.org/abs/2405.07717). The ratio of ``weight`` to 1 is the
    direction in the plane of rate and distortion; a negative ``weight`` asks for a worse picture in fewer bits. Errors
    below 100 dB count as 100 dB. The codec counts as broken where MSE·bits^weight is ``tau`` times that of the clean
    clip, a damage of log2(tau). ``tau`` must be above 1. ``space``: measure errors in ``rgb``, in ``luma`` alone, or in
    ``ycbcr`` (BT.601, full range).
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.weight):
            raise ValueError(
                f"weight={self.weight}; expected a number: doublings of the rate per doubling of the error"
            )

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        error, before = (self.error(out.x_hat, x).clamp(min=LOSSLESS) for out in (attacked, clean))
        return torch.log2(error / before) + self.weight * torch.log2(attacked.bits / clean.bits)

    def level(self, x: Tensor, clean: Output) -> Tensor:
        return torch.full((len(x),), math.log2(self.tau), device=x.device)


@objectives.register("rate-constrained-distortion")
@dataclass(frozen=True)
class RateConstrainedDistortion(Distortion):
    """``distortion`` with a penalty on extra bits: MSE(x̂*, x̂) − kappa·max(bits*/bits − limit, 0).

    An attack under it does damage that the rate does not give away. ``limit``: the rate up to which bits are free, in
    units of the clean rate (positive). ``kappa``: the MSE that outweighs exceeding ``limit`` by one clean rate
    (positive). The published loss has D = 255²·MSE, a target in bits per pixel, and kappa = 1000; here the rate is
    relative to the clean one. A gradient knows the rate only under its own rounding, which differs by some percent from
    that of the bytes. ``space`` and ``tau`` are as for ``distortion``.
    """

    limit: float = 1.0
    kappa: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.limit < math.inf and 0 < self.kappa < math.inf):
            raise ValueError(f"limit={self.limit}, kappa={self.kappa}; expected positive numbers")

    def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
        excess = (attacked.bits / clean.bits - self.limit).clamp(min=0)
        return super().__call__(x, clean, attacked, x_adv) - self.kappa * excess


@objectives.register("frame")
@dataclass(frozen=True)
class Frame(Distortion):
    """``distortion`` of one frame alone: ``frame:3``.

    ``index``: the number of the frame, from 0; negative numbers count from the end. ``space`` and ``tau`` are as for
    ``distortion``. Raises :class:`BadParameter` for a clip that has no such frame.
    """

    index: int = -1

    def seen(self, clip: Tensor) -> Tensor:
        count = clip.shape[1]
        if not -count <= self.index < count:
            raise BadParameter(
                f"frame:{self.index} is beyond a clip of {counted(count, 'frame')} (0 to {count - 1}); choose another "
                "or use longer clips"
            )
        return super().seen(clip)[:, [self.index]]


@objectives.register("drift")
@dataclass(frozen=True)
class Drift(Distortion):
    """``distortion`` of the last frames alone, which shows what earlier frames do to later ones.

    ``last``: a share of the clip below 1, rounded down to whole frames, or a number of frames. Use it with a threat of
    ``frames=first``. ``space`` and ``tau`` are as for ``distortion``. At least one frame must count and one must not:
    raises :class:`BadParameter` for shorter clips.
    """

    last: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.last < 1 or (self.last >= 1 and float(self.last).is_integer())):
            raise ValueError(f"last={self.last}; expected a share of the clip below 1 or a whole number of frames")

    def seen(self, clip: Tensor) -> Tensor:
        count = clip.shape[1]
        last = max(1, math.floor(self.last * count)) if self.last < 1 else int(self.last)
        if last >= count:
            raise BadParameter(
                f"drift:{self.last:g} needs a frame before its {last} last ones, and the clip has "
                f"{counted(count, 'frame')}; use longer clips"
            )
        return super().seen(clip)[:, -last:]


def luma(clip: Tensor) -> Tensor:
    """BT.601 luma ``(N, T, 1, H, W)`` of RGB, full range."""
    red, green, blue = clip[:, :, :1], clip[:, :, 1:2], clip[:, :, 2:]
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def ycbcr(clip: Tensor) -> Tensor:
    """BT.601 luma and both colour differences ``(N, T, 3, H, W)`` of RGB, full range: all of them in [0, 1]."""
    y = luma(clip)
    blue, red = ((clip[:, :, [c]] - y) / (2 - 2 * LUMA[c]) + 0.5 for c in (2, 0))
    return torch.cat((y, blue, red), 2)
