"""What codecs without gradient share: 8-bit input, one stream per clip, and a ``forward`` that is the real coder."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from robustcodec.errors import StreamError
from robustcodec.interfaces import Card, Codec, Output
from robustcodec.stream import require_finite


def between(name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`ValueError` unless ``low ≤ value ≤ high``."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value:g} is out of range; expected {low} to {high}")


def really_coded(codec: Codec, x: Tensor) -> Output:
    """What the real coder makes of ``x``, without gradient."""
    with torch.no_grad():
        streams = codec.compress(x)
        bits = torch.tensor([8.0 * len(s) for s in streams], device=x.device)
        return Output(lambda: codec.decompress(streams).to(x.device), lambda: bits)


class ClassicalCodec(Codec):
    """Codes clips of uint8 ``(T, 3, H, W)`` one by one, on the CPU."""

    differentiable = False
    family: ClassVar[str]

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card
        self.register_buffer("_place", torch.empty(0), persistent=False)  # follows .to(device)

    @abstractmethod
    def compress_clip(self, clip: Tensor) -> bytes:
        """The stream of a uint8 clip."""

    @abstractmethod
    def decompress_clip(self, data: bytes) -> Tensor:
        """The uint8 clip of a stream; raises :class:`StreamError` for damaged ones."""

    def forward(self, x: Tensor) -> Output:
        return really_coded(self, x)

    def compress(self, x: Tensor) -> list[bytes]:
        require_finite(x)
        clips = x.detach().mul(255).round().clamp(0, 255).to(torch.uint8).cpu()
        return [self.compress_clip(clip) for clip in clips]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        clips = [self.decompress_clip(s) for s in streams]
        if len({c.shape for c in clips}) != 1:
            raise StreamError("the streams hold clips of different sizes; decode them one at a time")
        return torch.stack(clips).to(self.get_buffer("_place").device).float().div(255)

    @property
    def container_id(self) -> bytes:
        """What tells this family's containers from others."""
        return hashlib.sha256(self.family.encode()).digest()[:4]
