"""The codec as a classifier of two classes, "fine" and "damaged", for attacks that were written for classifiers.

The margin of "damaged" over "fine" is ``m = (damage - level) / (level - damage of the clean clip)``: -1 at the clean
clip, 0 where the codec counts as broken (:meth:`Objective.level`). Attacks that maximise a loss then maximise damage;
attacks that look for the smallest misclassified input look for the smallest perturbation that breaks the codec.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustcodec.attacks.ascent import per_sample
from robustcodec.errors import AttackError
from robustcodec.interfaces import Threat
from robustcodec.oracle import Oracle
from robustcodec.rounding import Crafting

NEVER = -10.0  # logit of a class that cannot win: those of the two are around 1
ENLARGED = (1.0, 1.02, 1.05, 1.1, 1.2)  # of a found perturbation, before the whole budget is tried
PRECISION = 0.01  # of the size of the smallest multiple that breaks


class Classifier(nn.Module):
    """Logits ``(k, classes)`` of pictures ``(k, 3, T·H, W)``, the frames of a clip below one another.

    Class 0 is "fine", ``scale · (1 - m/2)``, class 1 "damaged", ``scale · (1 + m/2)``, others never win. Where a
    gradient is wanted, value and gradient are ``oracle.gradient``'s; else the codec is judged as it is. One picture is
    one query. A gradient at the clean clip itself is taken at ``near``, because ``distortion`` has none there. Values
    outside [0, 1] are clamped; what the threat holds (frames, other than flicker) is not changed.

    Raises :class:`AttackError` if the clean clip counts as broken, or when asked about pictures of another size.
    """

    def __init__(
        self,
        oracle: Oracle,
        x: Tensor,
        threat: Threat,
        near: Tensor,
        access: Literal["white", "black"] = "white",
        surrogate: Crafting = "annealed",
        scale: float = 1.0,
        classes: int = 2,
    ) -> None:
        super().__init__()
        self._oracle, self._x, self._threat, self._near = oracle, x, threat, near
        self._white, self._surrogate, self._scale, self._unused = access == "white", surrogate, scale, classes - 2
        with torch.no_grad():
            self.level, clean = oracle.level(), oracle(x)
        self._gap = self.level - clean
        if not float(self._gap) > 0:
            raise AttackError(
                f"the codec counts as broken from a damage of {float(self.level):.4g}, which the clean clip reaches "
                f"with {float(clean):.4g}: nothing is left to attack; choose another objective or a higher tau"
            )
        self.broken: Tensor | None = None  # the last clip met that was
        self.anchor = nn.Parameter(torch.zeros((), device=x.device), requires_grad=False)  # libraries ask its device

    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.shape[1:] != as_picture(self._x).shape[1:]:
            raise AttackError(
                f"the attack shows pictures of shape {tuple(pictures.shape[1:])} for one of shape "
                f"{tuple(as_picture(self._x).shape[1:])}; it may need square images of one frame"
            )
        margin = torch.cat([self._margin(self.allowed(p[None])) for p in pictures])
        logits = torch.stack((1 - margin / 2, 1 + margin / 2), 1)
        unused = torch.full((len(pictures), self._unused), NEVER, device=logits.device)
        return self._scale * torch.cat((logits, unused), 1)

    def allowed(self, picture: Tensor) -> Tensor:
        """One picture as a clip in the box, with what the threat holds put back."""
        clip = as_clip(picture.to(self._x.dtype), self._x).clamp(0, 1)
        delta = clip - self._x
        return clip + (self._threat.confine(delta, self._x) - delta)

    def _margin(self, clip: Tensor) -> Tensor:
        if self._white and clip.requires_grad and torch.is_grad_enabled():
            damage: Tensor = _Damage.apply(clip, self._ask)
        else:
            damage = self._oracle(clip.detach())
        if bool(damage.detach() >= self.level):
            self.broken = clip.detach()
        return (damage - self.level) / self._gap

    def _ask(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():  # an autograd function is called without
            return self._oracle.gradient(self._near if torch.equal(clip, self._x) else clip, self._surrogate)

    @torch.no_grad()
    def smallest_break(self, clip: Tensor) -> Tensor:
        """The smallest multiple of the perturbation of ``clip``, 8-bit and allowed, that still breaks the codec.

        If none does, the largest that is allowed. An attack finds its perturbation for real numbers, by a gradient
        that does not see the rounding of latents, and on the boundary: rounded, it may just fail.
        """
        x, threat, delta = self._x, self._threat, clip - self._x
        norm = float(delta.abs().max() if threat.norm == "linf" else delta.double().norm())
        if norm == 0:
            return clip
        whole = float(threat.radius(x)) / norm

        def scaled(factor: float) -> Tensor:
            return threat.quantise(threat.project(x + factor * delta, x), x)

        def broken(candidate: Tensor) -> bool:
            return bool(self._oracle(candidate) >= self.level)

        low = 0.0
        for high in (*(f for f in ENLARGED if f == 1 or f < whole), *([whole] if whole > 1 else [])):
            if broken(found := scaled(high)):
                break
            low = high
        else:
            return scaled(max(1.0, whole))
        if threat.norm == "l2":
            high = min(high, max(whole, low))  # multiples beyond the budget are all projected to one clip
        while high - low > PRECISION * high:
            middle = (low + high) / 2
            if broken(candidate := scaled(middle)):
                high, found = middle, candidate
            else:
                low = middle
        return found


class _Damage(torch.autograd.Function):
    """Damage of a clip with the gradient that the oracle gives with it."""

    @staticmethod
    def forward(ctx: Any, clip: Tensor, ask: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        damage, grad = ask(clip)
        ctx.save_for_backward(grad)
        return damage

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (grad,) = ctx.saved_tensors
        return per_sample(upstream) * grad, None


def as_picture(x: Tensor) -> Tensor:
    """One clip ``(1, T, 3, H, W)`` as ``(1, 3, T·H, W)``: many attacks know pictures of three channels only."""
    return x.transpose(1, 2).flatten(2, 3)


def as_clip(picture: Tensor, x: Tensor) -> Tensor:
    """The inverse, for clips like ``x``."""
    return picture.reshape(1, 3, x.shape[1], *x.shape[3:]).transpose(1, 2)
