"""The denoiser behind ``diffpure``: a U-Net of the diffusers library, the noise levels that it knows, and its weights.

Diffusion in the variance-preserving form of Ho et al., NeurIPS 2020 (https://arxiv.org/abs/2006.11239): pixels ``x`` in
[0, 1] become ``z = 2x - 1``, and level ``t`` of the noise is ``z_t = √ᾱ_t z + √(1 - ᾱ_t) ε``. Divided by ``√ᾱ_t`` that
is ``z`` with noise of standard deviation ``√((1 - ᾱ_t) / ᾱ_t)``, so of

    ``σ_t = ½ √((1 - ᾱ_t) / ᾱ_t)``

in pixels. A purifier uses small levels alone, so ours knows no others: ``levels`` of them from ``low`` to ``high``,
each by the same factor larger than the one before, with ``ᾱ_t = 1 / (1 + 4 σ_t²)``. It takes blocks of ``patch`` ×
``patch`` pixels as channels, as FFDNet does (Zhang et al., 2018, https://arxiv.org/abs/1710.04026), at a quarter of the
cost.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustcodec.clips import to_multiples
from robustcodec.errors import MissingDependency
from robustcodec.weights.described import count, width

Sampler = Literal["ddpm", "ddim"]
PAPER = "https://arxiv.org/abs/2205.07460"


MOST_LEVELS = 10_000  # of noise: models of the library know 1000


@contextmanager
def diffusers() -> Iterator[None]:
    """Inside, the diffusers library may be imported; raises :class:`MissingDependency` if it is not installed."""
    try:
        with warnings.catch_warnings():  # of its own dependencies' future
            warnings.simplefilter("ignore")
            yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "diffusers":
            raise
        raise MissingDependency("diffpure needs the diffusers library; pip install 'robustcodec[diffusion]'") from None


@dataclass(frozen=True)
class Architecture:
    """What a card says of a network that is ours: a U-Net without attention, ``layers`` residual blocks per width."""

    widths: tuple[int, ...] = (48, 48, 48)
    layers: int = 1
    groups: int = 8
    patch: int = 2
    levels: int = 100
    low: float = 0.002
    high: float = 0.15

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MOST_LEVELS:
            raise ValueError(f"levels={self.levels}; expected 1 to {MOST_LEVELS}")

    @property
    def alphas(self) -> Tensor:
        """ᾱ of every level, ``(levels,)`` in float64."""
        sigmas = torch.logspace(math.log10(self.low), math.log10(self.high), self.levels, dtype=torch.float64)
        return 1 / (1 + 4 * sigmas.square())

    def network(self) -> nn.Module:
        """With random weights, drawn from torch's global state."""
        with diffusers():
            from diffusers import UNet2DModel

            unet: Any = UNet2DModel(  # type: ignore[no-untyped-call]
                in_channels=3 * self.patch**2,
                out_channels=3 * self.patch**2,
                block_out_channels=self.widths,
                layers_per_block=self.layers,
                down_block_types=("DownBlock2D",) * len(self.widths),
                up_block_types=("UpBlock2D",) * len(self.widths),
                norm_num_groups=self.groups,
                add_attention=False,
            )
        return cast(nn.Module, unet)


def stored(state: Mapping[str, Tensor]) -> dict[str, object]:
    """What the tensors of a checkpoint say of its :class:`Architecture`."""
    blocks = range(count(state, "down_blocks."))
    return {
        "widths": tuple(width(state, f"down_blocks.{i}.resnets.0.conv1.weight") for i in blocks),
        "layers": count(state, "down_blocks.0.resnets."),
        "patch": math.isqrt(width(state, "conv_in.weight", 1) // 3),
    }


class Purifier(nn.Module):
    """A U-Net that tells the noise in ``z_t`` (or what ``prediction`` says), with the ``ᾱ_t`` of its levels.

    ``facts``: what its card says. Frames are padded by their edges to whole blocks of the network, and cropped again.
    """

    def __init__(
        self, unet: nn.Module, alphas: Tensor, facts: dict[str, Any], patch: int = 1, prediction: str = "epsilon"
    ) -> None:
        super().__init__()
        self.unet, self.patch, self.prediction, self.facts = unet, patch, prediction, facts
        self.alphas = alphas.double().cpu()  # no buffer: only single values are used
        self.block = patch * 2 ** (len(unet.config["block_out_channels"]) - 1)  # type: ignore[index]

    @classmethod
    def of(cls, architecture: Architecture) -> Purifier:
        """Ours, with random weights."""
        facts = {"family": "diffpure", "paper": PAPER, "architecture": asdict(architecture)}
        return cls(architecture.network(), architecture.alphas, facts, architecture.patch)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint stores."""
        return dict(self.unet.state_dict())

    @property
    def sigmas(self) -> Tensor:
        """``σ_t`` of every level, in pixels of [0, 1]."""
        return 0.5 * ((1 - self.alphas) / self.alphas).sqrt()

    def level(self, sigma: float) -> int:
        """The level whose ``σ_t`` is the nearest to ``sigma`` by its factor; raises ValueError outside all levels."""
        low, high = float(self.sigmas[0]), float(self.sigmas[-1])
        if not 0.99 * low <= sigma <= 1.01 * high:
            raise ValueError(
                f"sigma={sigma:g}; these weights know noise of standard deviations from {low:.4g} to {high:.4g}"
            )
        return int((self.sigmas.log() - math.log(sigma)).abs().argmin())

    def predicted(self, noisy: Tensor, level: Tensor) -> Tensor:
        """What the network says of ``z_t``, ``(B, 3, H, W)`` of any size, at ``level`` ``(B,)``."""
        height, width = noisy.shape[-2:]
        whole = to_multiples(noisy, self.block, self.block)
        out: Tensor = self.unet(F.pixel_unshuffle(whole, self.patch), level).sample
        return F.pixel_shuffle(out, self.patch)[:, :3, :height, :width]  # beyond: the variance, where it is learned

    def loss(self, x: Tensor) -> Tensor:
        """Mean squared error of the noise that is told in frames ``x`` ``(B, 3, H, W)`` at random levels.

        Levels and noise are drawn from torch's global state on the CPU.
        """
        level = torch.randint(len(self.alphas), (len(x),))
        noise = torch.randn(x.shape).to(x)
        alpha = self.alphas[level].to(x).view(-1, 1, 1, 1)
        told = self.predicted(alpha.sqrt() * (2 * x - 1) + (1 - alpha).sqrt() * noise, level.to(x.device))
        return (told.float() - noise).square().mean()

    def denoised(self, noisy: Tensor, sigma: float) -> Tensor:
        """Frames with Gaussian noise of ``sigma`` in pixels ``(B, 3, H, W)``, without it, by one evaluation."""
        scheduler, levels = self.schedule(self.level(sigma), 1, "ddim")
        z = (2 * noisy - 1) * self.alphas[levels[0]].sqrt().to(noisy)
        return self._reversed(z, scheduler, levels)

    def purified(self, x: Tensor, sigma: float, steps: int, sampler: Sampler) -> Tensor:
        """Frames ``x`` ``(B, 3, H, W)`` after noise of ``sigma``, and back in ``steps`` steps; in [0, 1].

        Noise is drawn from torch's global state on the CPU.
        """
        scheduler, levels = self.schedule(self.level(sigma), steps, sampler)
        noise = torch.randn(x.shape).to(x)
        return self._reversed(scheduler.add_noise(2 * x - 1, noise, torch.tensor([len(levels) - 1])), scheduler, levels)

    def schedule(self, level: int, steps: int, sampler: Sampler) -> tuple[Any, list[int]]:
        """A scheduler of at most ``steps`` levels up to ``level``, and which levels those are, the smallest first.

        Levels are left out as Nichol & Dhariwal, 2021 (https://arxiv.org/abs/2102.09672) do: what is between two that
        stay is one step, ``β = 1 - ᾱ_t / ᾱ_s``. They are spread evenly, and the step below the smallest is to no noise.
        """
        with diffusers():
            from diffusers import DDIMScheduler, DDPMScheduler
        levels = sorted({round((level + 1) * (i + 1) / steps) - 1 for i in range(steps)} - {-1})
        alphas = self.alphas[levels]
        betas = 1 - alphas / torch.cat([torch.ones(1, dtype=alphas.dtype), alphas[:-1]])
        kind: Any = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[sampler]
        scheduler = kind(
            num_train_timesteps=len(levels), trained_betas=betas.numpy(), prediction_type=self.prediction,
            clip_sample=False,
        )  # fmt: skip
        scheduler.set_timesteps(len(levels))
        return scheduler, levels

    def _reversed(self, z: Tensor, scheduler: Any, levels: list[int]) -> Tensor:
        """``z`` at the largest of ``levels``, back through all of them, as pixels.

        Of each step only ``z`` is kept for the gradient, and the network is evaluated again: as a chain it would not
        fit into memory.
        """
        for i in reversed(range(len(levels))):
            level = torch.full((len(z),), levels[i], device=z.device)
            if torch.is_grad_enabled() and len(levels) > 1:
                told = checkpoint(self.predicted, z, level, use_reentrant=False, preserve_rng_state=False)
            else:
                told = self.predicted(z, level)
            z = scheduler.step(told, i, z, generator=torch.default_generator).prev_sample
        return (0.5 * (z + 1)).clamp(0, 1)
