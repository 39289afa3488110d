"""A base class of defenses that preprocess: a codec that is given another clip, and gradients for what has none.

The decoder is the wrapped codec's own, and its stream has no byte more. A preprocessor hands on float pixels in [0, 1]
and does not round them to 8 bits: learned encoders take them as they are, classical ones round by themselves, and a
rounding would only hide a gradient. What comes out of JPEG or H.264 is 8-bit anyway.
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
    """A defense that has another clip coded in the place of each; subclasses are frozen dataclasses.

    ``random``: it draws from torch's global random state. ``label``: what the name of a defended codec says of it,
    with the surrogate that its gradient is of, if it has none of its own; by default the name of the class.
    """

    random: ClassVar[bool] = False
    label: ClassVar[str] = ""

    @abstractmethod
    def preprocess(self, x: Tensor) -> Tensor:
        """What is coded in the place of one clip ``(1, T, 3, H, W)`` in [0, 1]; like it."""

    def wrap(self, codec: Codec) -> Codec:
        label = self.label or re.sub(r"\B(?=[A-Z])", "-", type(self).__name__).lower()
        return PreprocessedCodec(codec, label, self.preprocess, random=self.random)


class PreprocessedCodec(Wrapping):
    """Codes ``pre(clip)``, ``(1, T, 3, H, W)`` in [0, 1] like its input, in the place of each clip.

    ``name``: of the defense, and of the surrogate that its gradient is of, if it has none of its own. Clips are
    preprocessed one by one in float32, so that no bit of a stream depends on a batch or on an attacker's precision.
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
        """What ``inner`` codes in the place of ``x``."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.cat([self.pre(clip[None]) for clip in x])


def with_gradient_of(surrogate: Callable[[], Tensor], value: Tensor) -> Tensor:
    """``value`` that changes as ``surrogate()`` does (BPDA; Athalye et al., 2018, https://arxiv.org/abs/1802.00420).

    Whatever an attacker chooses for the rounding of latents, the value is real. Only under ``frozen`` rounding is it
    the surrogate plus what it lacked at the first call, a smooth function that finite differences can check.
    """
    if is_frozen():
        soft = surrogate()
        return soft + kept(value - soft)
    if not torch.is_grad_enabled():
        return value
    soft = surrogate()
    return value + (soft - soft.detach())


def reflected(planes: Tensor, margin: int) -> Tensor:
    """``(…, H, W)`` with ``margin`` more pixels on every side, mirrored about its edges: ``c b a a b c c b a``.

    A margin may be wider than the planes. It is the mode ``reflect`` of scipy.ndimage.
    """
    for dim in (-2, -1):
        length = planes.shape[dim]
        at = torch.arange(-margin, length + margin, device=planes.device) % (2 * length)
        planes = planes.index_select(dim, torch.minimum(at, 2 * length - 1 - at))
    return planes
