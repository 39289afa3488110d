"""What a robust finetune adds to the loss, a budget that grows, and which parameters belong to which part of a codec.

Consistency after TRADES (Zhang et al., 2019, https://arxiv.org/abs/1901.08573), input-gradient penalty after Ross &
Doshi-Velez (2018, https://arxiv.org/abs/1711.09404), ramp after Chen & Ma (2023, https://arxiv.org/abs/2112.08691).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from robustcodec.errors import UserError
from robustcodec.interfaces import Codec, Draws, Threat
from robustcodec.training.codec import distortion
from robustcodec.training.finetune_recipe import FinetuneRecipe, Freeze


@dataclass(frozen=True)
class TrainingOutput:
    """What the codec in training makes of a batch; ``latents`` as :class:`Output` has them, if a term needs them."""

    x_hat: Tensor
    bits: Tensor
    latents: list[Tensor]


def loss_terms(
    recipe: FinetuneRecipe,
    x: Tensor,
    x_adv: Tensor,
    clean: TrainingOutput | None,
    attacked: TrainingOutput,
    threat: Threat,
    rate: Callable[[Tensor], Tensor],
    others: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Weighted terms of the loss of :class:`FinetuneRecipe`, those that it has; each a scalar.

    ``clean`` is given if one needs it. ``rate``: β·R of ``(N,)`` bits; ``others(target, x_hat)``: weighted feature and
    adversarial losses. ``x_adv`` requires a gradient if there is a gradient penalty.
    """
    r, fixed, out = recipe, x_adv.detach(), {}

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return r.lmbda * distortion(r.metric, a, b)

    if r.adversarial > 0:
        target = x if r.target == "clean" else fixed
        whole = distance(target, attacked.x_hat) + rate(attacked.bits) + others(target, attacked.x_hat)
        out["attacked"] = r.adversarial * whole
    if r.gradient_penalty > 0:
        rise = first_order_rise(distance(x, attacked.x_hat), x_adv, x, threat)
        out["gradient_penalty"] = r.gradient_penalty * rise
    if clean is None:
        return out
    if r.adversarial < 1:
        whole = distance(x, clean.x_hat) + rate(clean.bits) + others(x, clean.x_hat)
        out["clean"] = (1 - r.adversarial) * whole
    if r.consistency > 0:
        out["consistency"] = r.consistency * distance(clean.x_hat, attacked.x_hat)
    if r.lipschitz > 0:
        out["lipschitz"] = r.lipschitz * latent_stretch(clean.latents, attacked.latents, x, fixed)
    if r.rate_robustness > 0:
        out["rate_robustness"] = r.rate_robustness * rate((attacked.bits - clean.bits).clamp(min=0))
    return out


def latent_stretch(latents: Sequence[Tensor], attacked: Sequence[Tensor], x: Tensor, x_adv: Tensor) -> Tensor:
    """Mean over the batch of ``‖y(x*) − y(x)‖² / ‖x* − x‖²``: the square of a local Lipschitz constant.

    ``latents``, ``attacked`` as :class:`Output` has them; samples that nothing changed count as 0.
    """
    moved = sum((b - a).flatten(1).square().sum(1) for a, b in zip(latents, attacked, strict=True))
    size = (x_adv - x).flatten(1).square().sum(1)
    return (moved / size.clamp(min=torch.finfo(size.dtype).tiny) * (size > 0)).mean()


def first_order_rise(value: Tensor, x_adv: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """How much ``value`` could rise if it were linear in ``x_adv``: its gradient's product with the steepest step.

    For L2 that is radius × ‖gradient‖₂, for L∞ radius × ‖gradient‖₁. Differentiable to whatever ``value`` depends on;
    ``value`` is a mean over samples, and so is the result.
    """
    (grad,) = torch.autograd.grad(value, x_adv, create_graph=True)
    return (grad * threat.steepest(grad.detach(), x)).sum()  # of a dual norm, the direction's derivative vanishes


class Shrunk(Threat):
    """``threat`` with all its radii times ``share``, in (0, 1]."""

    def __init__(self, threat: Threat, share: float) -> None:
        self.threat, self.share, self.norm = threat, share, threat.norm  # type: ignore[misc]

    @classmethod
    def ramp(cls, threat: Threat, progress: float) -> Threat:
        """The budget at ``progress`` in (0, 1]: an L∞ radius or a mean square grows linearly."""
        if progress >= 1:
            return threat
        return cls(threat, progress if threat.norm == "linf" else math.sqrt(progress))

    def radius(self, x: Tensor) -> Tensor:
        return self.share * self.threat.radius(x)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        return x + self.share * (self.threat.project(x + (x_adv - x) / self.share, x) - x)

    def random_start(self, x: Tensor, rng: Draws) -> Tensor:
        return x + self.share * (self.threat.random_start(x, rng) - x)

    def steepest(self, grad: Tensor, x: Tensor) -> Tensor:
        return self.share * self.threat.steepest(grad, x)

    def quantise(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``x_adv`` as it is: rounded to 8 bits, a small budget has hardly a point, and nothing here is published."""
        return x_adv

    def confine(self, delta: Tensor, x: Tensor) -> Tensor:
        return self.threat.confine(delta, x)


def part_of(codec: Codec, name: str) -> Literal["encoder", "synthesis", "prior"]:
    """The part of ``codec`` that its parameter ``name`` belongs to; the decoder is a synthesis and a prior."""
    if name.startswith(codec.encoder_only):
        return "encoder"
    return "synthesis" if name.startswith(codec.synthesis) else "prior"


def freeze(codec: Codec, what: Freeze) -> None:
    """Take ``requires_grad`` from the parameters of a part of ``codec``; ``decoder`` is synthesis and prior.

    Raises :class:`UserError` if nothing would be left to train, if the parts cannot be told apart, or if a decoder that
    must stay has weights that no checkpoint of ours, which are float16, would hold.
    """
    if what == "none":
        return
    parts = {"encoder": {"encoder"}, "decoder": {"synthesis", "prior"}, "prior": {"prior"}}[what]
    named = dict(codec.named_parameters())
    if {part_of(codec, name) for name in named} != {"encoder", "synthesis", "prior"}:
        raise UserError(
            f"freeze={what}, but {codec.card.family} does not tell its encoder from its decoder; use freeze=none"
        )
    for name, p in named.items():
        if part_of(codec, name) in parts:
            p.requires_grad_(False)
            if what == "decoder" and not torch.equal(p.half().to(p.dtype), p):
                raise UserError(
                    f"freeze=decoder keeps the decoder of {codec.card.name} exactly, but checkpoints are float16 and "
                    f"{name} is not; save it in float16 first (robustcodec finetune without --freeze does)"
                )


def still(codec: Codec) -> list[nn.Module]:
    """Batch norms of frozen parts, whose statistics must not move in training either."""
    norms = [m for m in codec.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [m for m in norms if not any(p.requires_grad for p in m.parameters())]
