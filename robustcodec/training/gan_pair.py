"""The discriminators' side of adversarial training: their steps, and what they tell the decoder.

Veerabadran et al., "Adversarial Distortion for Learned Video Compression", CVPRW 2020
(https://arxiv.org/abs/2004.09508). The alternation is not published; here every step trains the discriminators once on
the batch at hand, and the codec once per ``n_critic`` of them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from robustcodec.errors import UserError
from robustcodec.training import discriminators
from robustcodec.training.gan import FORMS, clip_weights, frozen
from robustcodec.training.recipe import Recipe


class Adversary:
    """A recipe's pair of discriminators. ``precision`` below: a context for their convolutions (AMP)."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        if recipe.gan not in FORMS:
            raise UserError(f"gan={recipe.gan!r} is no GAN form; expected one of {', '.join(FORMS)}")
        self.form = FORMS[recipe.gan]
        self._alone, self._n_critic = recipe.discriminator_steps, recipe.n_critic or self.form.n_critic
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            pair, self.origin = discriminators.build(recipe.discriminators, recipe.resnet34_weights)
        self.pair = pair.to(device).train()
        self.optimiser = torch.optim.Adam(self.pair.parameters(), lr=recipe.discriminator_lr, betas=(0.9, 0.999))
        self._rng = torch.Generator().manual_seed(recipe.seed)

    def decoder_turn(self, step: int) -> bool:
        """Whether the codec is trained at ``step``."""
        return step >= self._alone and (step + 1) % self._n_critic == 0

    def train(self, x: Tensor, x_hat: Tensor, precision: AbstractContextManager[Any]) -> dict[str, float | Tensor]:
        """One step of the discriminators on clips ``(N, T, 3, H, W)``; returns mean scores of both, where they are."""
        x_hat = x_hat.detach()
        with precision:
            real, fake = _float(self.pair(x)), _float(self.pair(x_hat))
        loss = discriminators.discriminator_loss(self.form, real, fake)
        if self.form.penalty is not None:
            loss = loss + self.form.penalty * discriminators.penalty(self.pair, x, x_hat, self._rng)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if self.form.clip is not None:
            clip_weights(self.pair, self.form.clip)
        seen: dict[str, float | Tensor] = {"discriminator_loss": loss.detach()}
        for what, scores in (("real", real), ("decoded", fake)):
            seen |= {f"D_{what}_{pair}": s.detach().mean() for pair, s in zip(("frames", "clips"), scores, strict=True)}
        return seen

    def loss(self, x: Tensor, x_hat: Tensor, precision: AbstractContextManager[Any]) -> Tensor:
        """The decoder's adversarial loss, differentiable to ``x_hat`` alone."""
        with frozen(self.pair), precision:
            fake = _float(self.pair(x_hat))
            with torch.no_grad():
                real = _float(self.pair(x)) if self.form.needs_real else fake
        return discriminators.adversarial_loss(self.form, real, fake)

    def state(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {"pair": self.pair.state_dict(), "optimiser": self.optimiser.state_dict(), "rng": self._rng.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.pair.load_state_dict(state["pair"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._rng.set_state(state["rng"].cpu())


def _float(scores: discriminators.Scores) -> discriminators.Scores:
    return scores[0].float(), scores[1].float()
