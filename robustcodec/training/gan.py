"""GAN objectives, pure functions of raw discriminator outputs.

Table 1 of Veerabadran et al., "Adversarial Distortion for Learned Video Compression", CVPRW 2020
(https://arxiv.org/abs/2004.09508), and their non-saturating and gradient-penalty relatives. ``real`` and ``fake`` are
raw scores C(x) and C(x̂) (no sigmoid) of any shape; every loss is a scalar to minimise, E[·] the mean over all scores.
With s the sigmoid:

=========== ============================================== ========================================
form        discriminator                                  decoder
=========== ============================================== ========================================
dcgan       E[−log s(C(x))] + E[−log(1 − s(C(x̂)))]         E[log(1 − s(C(x̂)))], saturating
dcgan-ns    the same                                       E[−log s(C(x̂))]
wgan-clip   E[C(x̂)] − E[C(x)], weights within ±0.01        −E[C(x̂)]
wgan-gp     the same + 10·gradient penalty, no clipping    −E[C(x̂)]
lsgan       E[(C(x) − 1)²] + E[C(x̂)²]                      E[(C(x̂) − 1)²]
ragan       E[−log s(C(x) − E[C(x̂)])]                      real and fake change places
            + E[−log(1 − s(C(x̂) − E[C(x)]))]
=========== ============================================== ========================================

Sources: Goodfellow et al. 2014 (dcgan, both), Arjovsky et al. 2017 (wgan-clip), Gulrajani et al. 2017 (wgan-gp), Mao et
al. 2017 (lsgan, without their ½, as in the table), Jolicoeur-Martineau 2019 (ragan).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid  # exact at large scores, where log(sigmoid) is −inf

Loss = Callable[[Tensor, Tensor], Tensor]  # (real, fake) → scalar


@dataclass(frozen=True)
class Form:
    """One objective and the constants its authors train it with."""

    discriminator_loss: Loss
    decoder_loss: Loss
    needs_real: bool = False  # whether the decoder's loss looks at scores of real clips
    n_critic: int = 1  # discriminator steps per decoder step
    clip: float | None = None  # limit for :func:`clip_weights` after every discriminator step
    penalty: float | None = None  # weight of :func:`gradient_penalty` in the discriminator's loss


def _minimax(real: Tensor, fake: Tensor) -> Tensor:
    return -logsigmoid(real).mean() - logsigmoid(-fake).mean()


def _saturating(real: Tensor, fake: Tensor) -> Tensor:
    return logsigmoid(-fake).mean()


def _non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    return -logsigmoid(fake).mean()


def _critic(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _please_critic(real: Tensor, fake: Tensor) -> Tensor:
    return -fake.mean()


def _least_squares(real: Tensor, fake: Tensor) -> Tensor:
    return (real - 1).square().mean() + fake.square().mean()


def _pass_for_one(real: Tensor, fake: Tensor) -> Tensor:
    return (fake - 1).square().mean()


def _relativistic(real: Tensor, fake: Tensor) -> Tensor:
    return _minimax(real - fake.mean(), fake - real.mean())


def _relativistic_decoder(real: Tensor, fake: Tensor) -> Tensor:
    return _relativistic(fake, real)


FORMS: dict[str, Form] = {
    "dcgan": Form(_minimax, _saturating),
    "dcgan-ns": Form(_minimax, _non_saturating),
    "wgan-clip": Form(_critic, _please_critic, n_critic=5, clip=0.01),
    "wgan-gp": Form(_critic, _please_critic, n_critic=5, penalty=10.0),
    "lsgan": Form(_least_squares, _pass_for_one),
    "ragan": Form(_relativistic, _relativistic_decoder, needs_real=True),
}


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, rng: torch.Generator
) -> Tensor:
    """E[(‖∇C(ẑ)‖₂ − 1)²] at one random point ẑ between each real sample and its fake, not yet weighted.

    ``real``, ``fake``: alike, one sample per entry of the first dimension; ``discriminator`` maps them to as many
    scores, none of which may depend on another sample: batch normalisation breaks that (Gulrajani et al. 2017, §4).
    ``rng``: a CPU generator, so that the draws do not depend on the device. Differentiable to the discriminator's
    weights, not to ``real`` or ``fake``.
    """
    share = torch.rand(len(real), generator=rng).to(real).view(-1, *[1] * (real.ndim - 1))
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return (norm - 1).square().mean()


@torch.no_grad()
def clip_weights(module: nn.Module, limit: float) -> None:
    """Clamp every parameter to [−limit, limit] in place; ValueError unless ``limit`` is positive.

    A weight under spectral normalisation keeps its norm: clipping changes only its direction.
    """
    if not limit > 0:
        raise ValueError(f"limit={limit}; expected a positive bound of the weights, such as 0.01")
    for parameter in module.parameters():
        parameter.clamp_(-limit, limit)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, no parameter of ``module`` asks for a gradient: a decoder step pays for the input's alone."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    for p in trainable:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trainable:
            p.requires_grad_(True)
