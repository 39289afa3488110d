"""Rounding of latents, and how a gradient passes it.

Codecs call :func:`round_latent`; whoever crafts, trains or checks chooses the surrogate with :func:`rounding`.

==================  =======================  ==========================
surrogate           forward                  backward
==================  =======================  ==========================
straight-through    round(y)                 1
noise               y + U(-1/2, 1/2)         1
none                y                        1
soft                soft round               its own
annealed            soft round, by stages    its own
frozen              y + (round(y0) - y0)     1, residual kept from the first call
==================  =======================  ==========================

``frozen`` makes a smooth function whose derivative is the straight-through gradient at ``y0``: finite
differences can check it. (Theis et al., 2017, https://arxiv.org/abs/1703.00395; Ballé et al., 2017,
https://arxiv.org/abs/1611.01704.) ``soft`` is the soft round of Agustsson & Theis, 2020
(https://arxiv.org/abs/2006.09952), between the identity and rounding: the value moves with a small perturbation.
``annealed`` follows the progress of an attack: a soft round that sharpens stage by stage, from nearly the identity to
nearly rounding, for codebooks a sharper assignment (soft-to-hard annealing, Agustsson et al., 2017,
https://arxiv.org/abs/1704.00648). The first stages find the direction, the later ones push latents over boundaries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Surrogate = Literal["straight-through", "noise", "none", "soft", "annealed", "frozen"]
Crafting = Literal["annealed", "none", "noise", "straight-through", "soft"]  # those an attack may choose
SHARPNESS = 4.0  # alpha of the soft round: about half way between identity and rounding
STAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # sharpness of ``annealed``, each for an equal share of an attack
ROUND, ROUND_IN_PLACE = (torch.round, Tensor.round), (torch.round_, Tensor.round_)
MIDWAY = 0.4  # progress of who does not know it: the stage that does most damage if there is only one


@dataclass
class _State:
    surrogate: Surrogate
    sharpness: float = 0.0  # of ``soft`` and ``annealed``
    residuals: list[Tensor] = field(default_factory=list)
    calls: int = 0

    def residual(self, soft: Tensor, hard: Tensor) -> Tensor:
        """What takes ``soft`` to ``hard``, without gradient; under ``frozen`` that of the first forward."""
        if self.surrogate != "frozen":
            return (hard - soft).detach()
        if self.calls == len(self.residuals):
            self.residuals.append((hard - soft).detach())
        self.calls += 1
        return self.residuals[self.calls - 1]

    def rewind(self) -> None:
        """Under ``frozen``: the next call meets the first residual again. Call before each forward."""
        self.calls = 0


_state: ContextVar[_State | None] = ContextVar("rounding", default=None)


@contextmanager
def rounding(surrogate: Surrogate, progress: float = MIDWAY) -> Iterator[_State]:
    """Choose how all latents that are rounded inside the block let a gradient pass.

    ``surrogate``: one of the table above. ``progress``: how much of an attack is done, in [0, 1]; it chooses the stage
    of ``annealed``.
    """
    state = _State(surrogate, stage(progress) if surrogate == "annealed" else SHARPNESS)
    token = _state.set(state)
    try:
        yield state
    finally:
        _state.reset(token)


def stage(progress: float) -> float:
    """The sharpness of ``annealed`` at a ``progress`` of an attack, from 0, the beginning, to 1, the end."""
    return STAGES[min(int(progress * len(STAGES)), len(STAGES) - 1)]


def chosen() -> tuple[Surrogate, float]:
    """The surrogate in force, and its sharpness if it is a soft round, else 0; for codecs that round in another
    process.
    """
    state = _state.get() or _State("straight-through")
    return state.surrogate, state.sharpness if state.surrogate in ("soft", "annealed") else 0.0


def is_frozen() -> bool:
    """True if this forward must repeat the roundings and choices of the first one."""
    state = _state.get()
    return state is not None and state.surrogate == "frozen"


def choices_are_soft() -> bool:
    """True if a choice among ways of coding must be a mixture of them, so that a gradient sees all of them."""
    state = _state.get()
    return state is not None and state.surrogate == "annealed"


def kept(value: Tensor) -> Tensor:
    """``value`` without gradient, for choices other than rounding; under ``frozen`` the value of the first forward."""
    state = _state.get()
    return value.detach() if state is None else state.residual(torch.zeros_like(value), value)


def round_latent(y: Tensor, mean: Tensor | None = None) -> Tensor:
    """``y`` rounded about ``mean`` (default 0), in the same shape, with the gradient of the chosen surrogate."""
    state = _state.get() or _State("straight-through")
    centred = y if mean is None else y - mean
    if state.surrogate == "none":
        return y
    if state.surrogate == "noise":
        return y + torch.empty_like(y).uniform_(-0.5, 0.5)
    if state.surrogate in ("soft", "annealed"):
        rounded = soft_round(centred, state.sharpness)
    else:  # torch.special, since a network that Rounded looks after may call this function too
        rounded = centred + state.residual(centred, torch.special.round(centred))
    return rounded if mean is None else rounded + mean


class Rounded(TorchFunctionMode):
    """Inside, the ``torch.round`` of somebody else's network is :func:`round_latent` wherever a surrogate is in force.

    The gradient of ``torch.round`` is zero, so an attack on such a network would be blind. Rounding to decimals stays
    as it is, and so does everything where no gradient is asked for and rounding is real.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        asked = function in ROUND or function in ROUND_IN_PLACE
        if not asked or len(args) != 1 or kwargs or not args[0].is_floating_point() or _is_real():
            return function(*args, **(kwargs or {}))
        rounded = round_latent(args[0])
        return args[0].copy_(rounded) if function in ROUND_IN_PLACE else rounded


def _is_real() -> bool:
    state = _state.get()
    return state is None or (state.surrogate == "straight-through" and not torch.is_grad_enabled())


def soft_round(y: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """``floor(y) + 1/2 + tanh(a r) / (2 tanh(a/2))`` with ``r = y - floor(y) - 1/2``, ``a = sharpness``; ``y`` at 0."""
    if sharpness == 0:
        return y
    middle = y.floor().detach() + 0.5
    return middle + torch.tanh(sharpness * (y - middle)) / (2 * math.tanh(sharpness / 2))


def choose_level(soft: Tensor) -> Tensor:
    """The most probable level of soft assignments ``(…, levels)``, as one-hot, with the gradient of the chosen
    surrogate.

    For a codebook, ``none`` and ``soft`` give the soft assignment itself, and ``noise`` draws a level from it.
    ``annealed`` multiplies the logits by the sharpness, if that is above 1. Between two centres at a distance of 1,
    whose logits are negative squared distances, this equals the soft round of the same sharpness, except for its scale.
    """
    state = _state.get() or _State("straight-through")
    if state.surrogate in ("none", "soft") or (state.surrogate == "annealed" and state.sharpness <= 1):
        return soft
    if state.surrogate == "annealed":
        return torch.softmax(state.sharpness * soft.clamp(min=torch.finfo(soft.dtype).tiny).log(), -1)
    if state.surrogate == "noise":
        level = torch.multinomial(soft.detach().flatten(0, -2), 1).view(soft.shape[:-1])
    else:
        level = soft.argmax(-1)
    hard = torch.nn.functional.one_hot(level, soft.shape[-1]).to(soft.dtype)
    return soft + state.residual(soft, hard)
