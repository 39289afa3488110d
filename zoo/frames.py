"""A base class for learned codecs that code a clip frame by frame, with the same parts for each frame."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from robustcodec import stream
from robustcodec.interfaces import Output
from robustcodec.zoo.container import ContainerCodec, Part, chain


class Latents:
    """The latents of a batch of B frames, computed when they are asked for.

    ``y_hat()``: the rounded latents from which frames are synthesised. ``part_bits()``: the bits of each part, ``(B,)``
    each. ``coded()``: the tensors that are entropy-coded, ``(B, …)`` each, in units of the rounding step.
    """

    def __init__(
        self,
        y_hat: Callable[[], Tensor],
        part_bits: Callable[[], list[Tensor]],
        coded: Callable[[], list[Tensor]],
    ) -> None:
        self.y_hat, self.part_bits, self.coded = y_hat, part_bits, coded


class FrameCodec(ContainerCodec):
    """A codec that codes each frame into the parts ``part_names``.

    A subclass gives ``latents`` (the latents and rates of a batch of frames), ``synthesise`` (frames from latents), and
    ``encode`` and ``decode`` (one frame to the bytes of its parts, and back).
    """

    part_names: tuple[str, ...]

    @abstractmethod
    def latents(self, frames: Tensor) -> Latents:
        """Latents of padded frames ``(B, 3, H, W)``."""

    @abstractmethod
    def synthesise(self, y_hat: Tensor) -> Tensor:
        """Padded frames ``(B, 3, H, W)`` from latents, not clamped."""

    @abstractmethod
    def encode(self, frame: Tensor) -> tuple[list[bytes], int]:
        """Parts and symbol checksum of one padded frame ``(1, 3, H, W)``."""

    @abstractmethod
    def decode(self, parts: Sequence[bytes], height: int, width: int) -> tuple[Tensor, int]:
        """The frame ``(1, 3, height, width)``, in its padded size, and the checksum of its symbols."""

    def forward(self, x: Tensor) -> Output:
        n, t, _, height, width = x.shape
        latents = self.latents(self.pad(x.flatten(0, 1)))

        def x_hat() -> Tensor:
            frames = self.synthesise(latents.y_hat())[..., :height, :width]
            frames = frames if self.training else frames.clamp(0, 1)
            return frames.view(n, t, *frames.shape[1:])

        def bits() -> Tensor:
            parts = latents.part_bits()
            total = torch.stack(parts).sum(0).view(n, t).sum(1)
            return total if self.training else total + self.overhead(torch.stack(parts, -1).view(n, -1), x)

        def coded() -> list[Tensor]:
            return [part.reshape(n, t, *part.shape[1:]) for part in latents.coded()]

        return Output(x_hat, bits, coded)

    def layout(self, frames: int) -> Iterator[Part]:
        return (Part(name, t, 1) for t in range(frames) for name in self.part_names)

    def encode_clip(self, clip: Tensor) -> tuple[list[bytes], int]:
        parts, crc = [], 0
        for frame in clip:
            strings, frame_crc = self.encode(self.pad(frame[None]))
            parts += strings
            crc = chain(crc, frame_crc)
        return parts, crc

    def decode_clip(self, packet: stream.Packet) -> tuple[Tensor, int]:
        size, count = self.padded(packet.height, packet.width), len(self.part_names)
        frames, crc = [], 0
        for first in range(0, len(packet.parts), count):
            frame, frame_crc = self.decode(packet.parts[first : first + count], *size)
            frames.append(frame[..., : packet.height, : packet.width])
            crc = chain(crc, frame_crc)
        return torch.cat(frames), crc
