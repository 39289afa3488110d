"""A base class of defenses that preprocess: the codec codes another clip, and what has no gradient borrows one.

The wrapped codec decodes by itself, and its stream has no extra byte. A preprocessor hands on float pixels in [0, 1]
and does not round them to 8 bits. Learned encoders take floats as they are, classical ones round by themselves, and a
rounding here would only hide a gradient. What JPEG or H.264 decodes is 8-bit anyway.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from robustcodec.defenses.wrapping import Change, Wrapping
from robustcodec.interfaces import Codec, Defense, Output
from robustcodec.rounding import is_frozen, kept, rounding


class Preprocessor(Defense):
    """A defense that changes each clip before it is coded; subclasses are frozen dataclasses.

    ``random``: set it to True if :meth:`preprocess` draws from torch's global random state. ``label``: what the name of
    a defended codec says about the defense; it should also name the surrogate if the defense borrows a gradient. By
    default it is the name of the class.
    """

    random: ClassVar[bool] = False
    label: ClassVar[str] = ""

    @abstractmethod
    def preprocess(self, x: Tensor) -> Tensor:
        """The clip that is coded in the place of ``x``, a single clip ``(1, T, 3, H, W)`` in [0, 1]; it has the same
        shape.
        """

    def wrap(self, codec: Codec) -> Codec:
        label = self.label or re.sub(r"\B(?=[A-Z])", "-", type(self).__name__).lower()
        return PreprocessedCodec(codec, label, self.preprocess, random=self.random)


class PreprocessedCodec(Wrapping):
    """A codec that codes ``pre(clip)`` in the place of each clip; both are ``(1, T, 3, H, W)`` in [0, 1].

    ``name``: the name of the defense, with the surrogate if it borrows a gradient. Clips are preprocessed one by one in
    float32, so that no bit of a stream depends on the batch or on the precision of an attacker.
    """

    def __init__(self, inner: Codec, name: str, pre: Change, *, random: bool = False) -> None:
        super().__init__(inner, name, random=random)
        self.pre: Change = pre

    def forward(self, x: Tensor) -> Output:
        out: Output = self.inner(self.preprocessed(x))
        return out

    def compress(self, x: Tensor) -> list[bytes]:
        with torch.no_grad(), rounding("straight-through"):
            return self.inner.compress(self.preprocessed(x))

    def preprocessed(self, x: Tensor) -> Tensor:
        """The clips that ``inner`` codes in the place of ``x``."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.cat([self.pre(clip[None]) for clip in x])


def with_gradient_of(surrogate: Callable[[], Tensor], value: Tensor) -> Tensor:
    """``value``, with the gradient of ``surrogate()`` (BPDA; Athalye et al., 2018, https://arxiv.org/abs/1802.00420).

    The value is real, whatever an attacker chooses for the rounding of latents. Only under ``frozen`` rounding is it
    the surrogate plus the difference of both at the first call: a smooth function, which finite differences can check.
    """
    if is_frozen():
        soft = surrogate()
        return soft + kept(value - soft)
    if not torch.is_grad_enabled():
        return value
    soft = surrogate()
    return value + (soft - soft.detach())


def reflected(planes: Tensor, margin: int) -> Tensor:
    """``(…, H, W)`` with ``margin`` more pixels on every side, mirrored about the edges: ``c b a a b c c b a``.

    The margin may be wider than the planes. scipy.ndimage calls this mode ``reflect``.
    """
    for dim in (-2, -1):
        length = planes.shape[dim]
        at = torch.arange(-margin, length + margin, device=planes.device) % (2 * length)
        planes = planes.index_select(dim, torch.minimum(at, 2 * length - 1 - at))
    return planes
