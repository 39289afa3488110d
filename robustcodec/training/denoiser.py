"""Training of the network of a defense that purifies by denoising: frames and noise in, the noise out.

The loss is the network's own, the mean squared error of the noise that it tells, as of Ho et al., NeurIPS 2020
(https://arxiv.org/abs/2006.11239). Which defense that is does not matter here: a registered one that is ``trainable``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from robustcodec.clips import centre_crop, to_float
from robustcodec.interfaces import Card, Defense
from robustcodec.registry import codecs, data, defenses
from robustcodec.training.loop import Loop, Seen
from robustcodec.training.recipe import CODEC, GAN, LOSS, Recipe, Sampling
from robustcodec.training.settings import described

SIGMAS = (0.02, 0.05, 0.1)  # of the noise that validation removes


class Denoiser(Protocol):
    """What a network to train has beside being a module."""

    facts: dict[str, Any]  # of its card: family, paper, architecture, and of its own training if it had any

    def loss(self, x: Tensor) -> Tensor:
        """Of frames ``(B, 3, H, W)`` in [0, 1], drawing from torch's global random state."""

    def denoised(self, noisy: Tensor, sigma: float) -> Tensor:
        """Frames with Gaussian noise of standard deviation ``sigma``, without it."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint stores."""


@dataclass(frozen=True)
class DenoiserRecipe(Recipe):
    """A recipe of a defense (``codec`` is its name) without what only codecs have: rates, distortions, GAN terms."""

    lmbda: float = 1.0
    batch: int = 16
    crop: int = 64
    sampling: Sampling = "area"

    unused = frozenset(s.name for s in described(Recipe) if s.panel in (LOSS, GAN, CODEC))


def is_denoiser(spec: str) -> bool:
    """Whether ``spec`` begins with the name of a defense with a network to train, not of a codec."""
    name = spec.partition(":")[0]
    if name in codecs.names() or name not in defenses.names():
        return False
    defense: Defense = defenses.build(spec)
    return defense.trainable


class DenoiserTrainer(Loop[nn.Module]):
    """One training run of a denoiser, as :class:`Loop`."""

    @property
    def denoiser(self) -> Denoiser:
        return cast(Denoiser, self.model)

    @property
    def card(self) -> Card:
        facts = self.denoiser.facts
        given = {key: facts[key] for key in ("family", "paper", "architecture", "training") if key in facts}
        return Card(facts["family"], **given)

    def _build(self) -> nn.Module:
        network: nn.Module = defenses.build(self.recipe.codec).trainee()
        return network

    def _stored(self) -> dict[str, Tensor]:
        return self.denoiser.state()

    def _update(self, x: Tensor, detailed: bool) -> Seen:
        """One step on the frames of clips ``x``; returns what to log."""
        seen = self._set_rate(self.recipe.lr)
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            loss = self.denoiser.loss(x.flatten(0, 1))
        return seen | self._descend(loss, {}, {})

    def validate(self) -> dict[str, float]:
        """PSNR of noisy frames after one evaluation of the averaged weights, per noise; empty without a set."""
        if self.recipe.validate is None:
            return {}
        clips = [centre_crop(s.load(), 256) for s in data.build(self.recipe.validate).samples()[:8]]
        with self._averaged(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            return denoising_psnr(self.denoiser, [to_float(clip).to(self.device) for clip in clips])


def denoising_psnr(denoiser: Denoiser, clips: list[Tensor]) -> dict[str, float]:
    """``psnr_SIGMA``, dB, of clips ``(T, 3, H, W)`` in [0, 1] that noise was added to and taken from, mean over clips.

    Noise is drawn from torch's global random state on the CPU.
    """

    def psnr(x: Tensor, sigma: float) -> float:
        noisy = x + sigma * torch.randn(x.shape).to(x)
        return float(-10 * (denoiser.denoised(noisy, sigma) - x).square().mean().log10())

    return {f"psnr_{sigma:g}": sum(psnr(x, sigma) for x in clips) / len(clips) for sigma in SIGMAS}
