"""A base class for codecs whose streams are the container of :mod:`robustcodec.stream`.

It has the loop over clips, padding, header and checksums; its subclasses say which parts a clip has, and code a clip to
them and back. Bases that need less: :mod:`robustcodec.zoo.frames` for codecs that code frame by frame, and
:mod:`robustcodec.zoo.symbols` for those of one array of integers per frame.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec import stream as container
from robustcodec.errors import StreamError
from robustcodec.interfaces import Codec, StreamPart


class Part(NamedTuple):
    """What a part of a stream is called, and the frames ``first`` … ``first + frames - 1`` that it codes."""

    name: str
    first: int
    frames: int


class ContainerCodec(Codec):
    """Codes clips one by one; all methods but ``forward`` and those of :class:`Codec` see a single clip.

    ``stride``: what :meth:`pad` makes sides multiples of; ``coder_bits``: what a part costs beyond its information.
    """

    stride: int = 1
    coder_bits: ClassVar[float] = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._model_id: bytes | None = None

    @abstractmethod
    def layout(self, frames: int) -> Iterator[Part]:
        """The parts of a clip of so many frames, in their order in the stream.

        Made as they are asked for: a forged header may name any number of frames.
        """

    @abstractmethod
    def encode_clip(self, clip: Tensor) -> tuple[list[bytes], int]:
        """The parts of a clip ``(T, 3, H, W)`` of any size, and the 32-bit checksum of its symbols."""

    @abstractmethod
    def decode_clip(self, packet: container.Packet) -> tuple[Tensor, int]:
        """The clip that a packet holds, at least as large as that says, and the checksum of its symbols."""

    def decode_clips(self, packets: Sequence[container.Packet]) -> Iterator[tuple[Tensor, int]]:
        """What :meth:`decode_clip` gives for each of several packets of one size; to override if that is faster."""
        return (self.decode_clip(packet) for packet in packets)

    def decoding(self) -> tuple[str, Iterable[tuple[str, Tensor]]]:
        """What the model's id is made of: a text, and by name all tensors that decoding needs. Encoders may differ."""
        return self.card.name, ((n, t) for n, t in self.state().items() if not n.startswith(self.encoder_only))

    @property
    def model_id(self) -> bytes:
        """First 4 bytes of the sha256 of :meth:`decoding`, kept until :meth:`refresh`."""
        if self._model_id is None:
            text, tensors = self.decoding()
            digest = hashlib.sha256(text.encode())
            for name, tensor in tensors:
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._model_id = digest.digest()[:4]
        return self._model_id

    def refresh(self) -> None:
        self._model_id = None

    def compress(self, x: Tensor) -> list[bytes]:
        container.require_finite(x)
        with torch.no_grad():
            return [self._compress_clip(clip) for clip in x]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        packets = [self.packet(data) for data in streams]
        if len({(p.frames, p.height, p.width) for p in packets}) != 1:
            raise StreamError("the streams hold clips of different sizes; decode them one at a time")
        clips = []
        with torch.no_grad():
            for packet, (clip, crc) in zip(packets, self.decode_clips(packets), strict=True):
                packet.expect(crc, self.card.name)
                clips.append(clip[: packet.frames, :, : packet.height, : packet.width].clamp(0, 1))
        return torch.stack(clips)

    def anatomy(self, stream: bytes) -> list[StreamPart]:
        packet = self.packet(stream)
        header = StreamPart("header", 0, 0, 8 * (len(stream) - sum(map(len, packet.parts))))
        parts = zip(self.layout(packet.frames), packet.parts, strict=True)
        return [header, *(StreamPart(*part, bits=8 * len(data)) for part, data in parts if data)]

    def packet(self, data: bytes) -> container.Packet:
        """One stream taken apart; raises :class:`StreamError` unless its bytes are whole and of this model."""

        def count(frames: int) -> int:
            return sum(1 for _ in islice(self.layout(frames), len(data)))  # more do not fit into the stream anyway

        return container.unpack(data, self.model_id, self.card.name, count, symbols=True)

    def pad(self, frames: Tensor) -> Tensor:
        """Frames ``(B, 3, H, W)`` replicated at the bottom and the right up to multiples of ``stride``."""
        height, width = frames.shape[-2:]
        down, right = (length - side for length, side in zip(self.padded(height, width), (height, width), strict=True))
        if down == right == 0:
            return frames
        return F.pad(frames, (0, right, 0, down), mode="replicate")

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size that :meth:`pad` gives frames of so many pixels."""
        return height + -height % self.stride, width + -width % self.stride

    def overhead(self, part_bits: Tensor, x: Tensor) -> Tensor:
        """``(N,)`` bits of container and coder for clips ``x`` whose parts cost ``part_bits`` ``(N, parts)``.

        What an estimate lacks without it; it has no gradient.
        """
        shape = x.shape[1], x.shape[-2], x.shape[-1]
        sizes = part_bits.detach().div(8).ceil().int()
        total = container.overhead_of(shape, sizes).double() + self.coder_bits * sizes.shape[1]
        return total.to(torch.get_default_dtype())

    def _compress_clip(self, clip: Tensor) -> bytes:
        parts, crc = self.encode_clip(clip)
        packet = container.Packet(len(clip), clip.shape[-2], clip.shape[-1], tuple(parts), crc)
        return container.pack(packet, self.model_id)


def chain(crc: int, *others: int) -> int:
    """Checksum ``crc`` continued over other checksums."""
    for other in others:
        crc = container.symbol_crc(other.to_bytes(4, "little"), crc)
    return crc
