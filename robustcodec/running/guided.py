"""A codec with another one's gradient: forward is real, backward is a surrogate's (BPDA).

Athalye, Carlini & Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018
(https://arxiv.org/abs/1802.00420).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robustcodec.interfaces import Codec, Output, StreamPart


class Guided(Codec):
    """``codec``, whose reconstruction and bits change with the input as those of ``guide`` do."""

    def __init__(self, codec: Codec, guide: Codec) -> None:
        super().__init__()
        self.codec: Codec = codec
        self.guide: Codec = guide
        self.card = replace(codec.card, name=f"{codec.card.name} (gradient of {guide.card.name})")
        self.transform = codec.transform
        self.differentiable = guide.differentiable
        self.randomised = codec.randomised or guide.randomised
        self.exact_forward = codec.exact_forward
        self.coded = codec.coded
        self.train(codec.training)

    def forward(self, x: Tensor) -> Output:
        with torch.no_grad():
            real: Output = self.codec(x)
            value: Tensor = real.x_hat
            spent: Tensor = real.bits
        if not torch.is_grad_enabled():
            return real
        guide: Output = self.guide(x)

        def x_hat() -> Tensor:
            return value + (guide.x_hat - guide.x_hat.detach())

        def bits() -> Tensor:
            """The guide's relative change: it may spend another number of bits."""
            return spent * (guide.bits / guide.bits.detach())

        return Output(x_hat, bits)

    def compress(self, x: Tensor) -> list[bytes]:
        streams: list[bytes] = self.codec.compress(x)
        return streams

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        clips: Tensor = self.codec.decompress(streams)
        return clips

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        parts: list[StreamPart] = self.codec.anatomy(stream)
        return parts
