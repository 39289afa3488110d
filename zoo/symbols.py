"""A base class for codecs of one array of integers per frame: an author writes a transform and an entropy coder.

docs/howto/add-a-codec.md shows a whole codec.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from robustcodec.probing import LATENTS, probe
from robustcodec.rounding import round_latent
from robustcodec.stream import symbol_crc
from robustcodec.zoo.frames import FrameCodec, Latents

Symbols = np.ndarray[Any, np.dtype[np.int32]]


class SymbolCodec(FrameCodec):
    """A frame of H × W pixels becomes ``(channels, H / stride, W / stride)`` symbols, rounded by :func:`round_latent`.

    Frames are padded to multiples of ``stride`` before the analysis. ``coder_bits``: bits that the coder spends beyond
    the information of the symbols; the default fits range coders that write words of 32 bits and spend 16 to 48.
    """

    channels: ClassVar[int]
    coder_bits = 32.0
    part_names = ("symbols",)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_place", torch.empty(0), persistent=False)  # follows .to(device)

    @abstractmethod
    def analyse(self, frames: Tensor) -> Tensor:
        """The values that are rounded to symbols, ``(B, channels, h, w)``, of frames ``(B, 3, H, W)`` in [0, 1]."""

    @abstractmethod
    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Frames ``(B, 3, H, W)`` from symbols; values outside [0, 1] are clamped afterwards."""

    @abstractmethod
    def estimate(self, y_hat: Tensor) -> Tensor:
        """``(B,)`` bits, differentiable: an estimate of what :meth:`encode_symbols` spends on the symbols of each
        frame.
        """

    @abstractmethod
    def encode_symbols(self, symbols: Symbols) -> bytes:
        """All symbols of one frame as bytes; they are int32, in the order of channels, rows and columns."""

    @abstractmethod
    def decode_symbols(self, data: bytes, count: int) -> Symbols:
        """The ``count`` symbols that :meth:`encode_symbols` wrote."""

    def latents(self, frames: Tensor) -> Latents:
        y = self.analyse(frames)
        y_hat = probe(LATENTS, round_latent(y), y)
        return Latents(lambda: y_hat, lambda: [self.estimate(y_hat)], lambda: [y_hat])

    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        symbols = self.analyse(frame).round().to(torch.int32).cpu().numpy().ravel()
        return [self.encode_symbols(symbols)], _crc(symbols)

    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        shape = (1, self.channels, height // self.stride, width // self.stride)
        symbols = self.decode_symbols(parts[0], int(np.prod(shape)))
        y_hat = torch.tensor(symbols, dtype=torch.float32, device=self.get_buffer("_place").device)
        return self.synthesise(y_hat.view(shape)), _crc(symbols)


def _crc(symbols: Symbols) -> int:
    return symbol_crc(symbols.astype("<i4").tobytes())
