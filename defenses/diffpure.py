"""Purification by diffusion before coding (DiffPure; Nie et al., ICML 2022, https://arxiv.org/abs/2205.07460).

Noise drowns a perturbation, and a diffusion model then removes noise and perturbation together. The paper diffuses a
clip up to a time t*. Here t* is given as the standard deviation of the noise in the pixels: it is the level ``t`` of
the network whose ``σ_t = ½ √((1 - ᾱ_t) / ᾱ_t)`` is nearest to it (``_purifier.py``).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

from torch import Tensor

from robustcodec.defenses._purifier import Architecture, Purifier, Sampler
from robustcodec.defenses._purifier_weights import RANDOM, fingerprint, purifier
from robustcodec.defenses.preprocessing import PreprocessedCodec
from robustcodec.errors import BadParameter
from robustcodec.interfaces import Codec, Defense
from robustcodec.registry import defenses


@defenses.register("diffpure")
@dataclass(frozen=True)
class DiffPure(Defense):
    """Adds Gaussian noise to every frame before coding, and removes it with a diffusion model.

    ``sigma``: standard deviation of the noise, on the [0, 1] scale (the network that ships knows 0.002 to 0.15).
    ``steps``: number of reverse steps. ``sampler``: ``ddpm`` adds new noise after all steps but the last, as the paper
    does; ``ddim`` adds none. ``weights``: by default the small network that ships; otherwise a ``.safetensors`` file of
    ``robustcodec train diffpure``, a folder with a UNet2DModel and the configuration of its scheduler as diffusers
    stores them (nothing is downloaded), or ``random``.

    Every call draws new noise from torch's global random state. Attacks get the exact gradient, through all reverse
    steps.
    """

    trainable = True

    sigma: float = 0.03
    steps: int = 2
    sampler: Sampler = "ddpm"
    weights: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf or self.steps < 1:
            raise ValueError(
                f"sigma={self.sigma}, steps={self.steps}; expected a positive standard deviation, such as 0.03 or "
                "8/255, and a step or more"
            )

    def fingerprint(self) -> str:
        """sha256 of the weights; raises :class:`WeightsError` if they are not there."""
        return fingerprint(self.weights)

    def wrap(self, codec: Codec) -> Codec:
        """Raises :class:`WeightsError` without weights, :class:`BadParameter` for a ``sigma`` that they do not know and
        :class:`MissingDependency` without diffusers.
        """
        purification = Purification(self)
        try:
            purification.network.level(self.sigma)
        except ValueError as error:
            raise BadParameter(f"diffpure: {error}") from None
        return PreprocessedCodec(codec, "diffpure", purification, random=True)

    def trainee(self) -> Purifier:
        """The network to train: a new one, drawn from torch's global state, unless ``weights`` names a file of ours.

        Raises :class:`BadParameter` for a model of diffusers.
        """
        if self.weights in (None, RANDOM):
            return Purifier.of(Architecture())
        start = purifier(self.weights)
        if "architecture" not in start.facts:
            raise BadParameter(f"{self.weights} is not ours to train; give a .safetensors file of robustcodec train")
        return copy.deepcopy(start).requires_grad_(True)


class Purification:
    """What a clip goes through. The network is part of no codec: all that are wrapped share it, and none trains it."""

    def __init__(self, defense: DiffPure) -> None:
        self.defense = defense
        self.network = purifier(defense.weights)

    def __call__(self, x: Tensor) -> Tensor:
        """A clip ``(1, T, 3, H, W)`` purified frame by frame."""
        d = self.defense
        return self.network.to(x.device).purified(x.flatten(0, 1), d.sigma, d.steps, d.sampler).view(x.shape)
