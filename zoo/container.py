"""A base class for codecs whose streams use the container of :mod:`robustcodec.stream`.

The base class has the loop over clips, the padding, the header and the checksums. Its subclasses say which parts a clip
has, and code a clip to these parts and back. Two further bases ask for less: :mod:`robustcodec.zoo.frames` for codecs
that work frame by frame, and :mod:`robustcodec.zoo.symbols` for codecs with one array of integers per frame.
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
    """A part of a stream: its name, and the frames ``first`` … ``first + frames - 1`` that it codes."""

    name: str
    first: int
    frames: int


class ContainerCodec(Codec):
    """Codes clips one by one; its methods see a single clip, apart from ``forward`` and the methods of :class:`Codec`.

    ``stride``: :meth:`pad` makes the sides of frames multiples of it, in pixels. ``coder_bits``: how many bits a part
    costs beyond the information in it.
    """

    stride: int = 1
    coder_bits: ClassVar[float] = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._model_id: bytes | None = None

    @abstractmethod
    def layout(self, frames: int) -> Iterator[Part]:
        """The parts of a clip with this many frames, in their order in the stream.

        The parts are made one at a time, as they are asked for, because a forged header may announce any number of
        frames.
        """

    @abstractmethod
    def encode_clip(self, clip: Tensor) -> tuple[list[bytes], int]:
        """The parts of a clip ``(T, 3, H, W)`` of any size, and the 32-bit checksum of its symbols."""

    @abstractmethod
    def decode_clip(self, packet: container.Packet) -> tuple[Tensor, int]:
        """The clip in ``packet``, at least as large as the packet says, and the checksum of its symbols."""

    def decode_clips(self, packets: Sequence[container.Packet]) -> Iterator[tuple[Tensor, int]]:
        """What :meth:`decode_clip` gives for each of several packets of one size.

        A subclass overrides it if it decodes several clips together faster.
        """
        return (self.decode_clip(packet) for packet in packets)

    def decoding(self) -> tuple[str, Iterable[tuple[str, Tensor]]]:
        """What identifies the model in a stream: a text, and all tensors that decoding needs, by name.

        Codecs that differ only in their encoders have the same identity.
        """
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
        """One stream taken apart; raises :class:`StreamError` unless its bytes are complete and of this model."""

        def count(frames: int) -> int:
            return sum(1 for _ in islice(self.layout(frames), len(data)))  # more do not fit into the stream anyway

        return container.unpack(data, self.model_id, self.card.name, count, symbols=True)

    def pad(self, frames: Tensor) -> Tensor:
        """Frames ``(B, 3, H, W)``, enlarged at the bottom and at the right to multiples of ``stride`` by repeating
        their edges.
        """
        height, width = frames.shape[-2:]
        down, right = (length - side for length, side in zip(self.padded(height, width), (height, width), strict=True))
        if down == right == 0:
            return frames
        return F.pad(frames, (0, right, 0, down), mode="replicate")

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The height and width to which :meth:`pad` enlarges frames of ``height`` × ``width`` pixels."""
        return height + -height % self.stride, width + -width % self.stride

    def overhead(self, part_bits: Tensor, x: Tensor) -> Tensor:
        """``(N,)`` bits that container and coder add to clips ``x`` whose parts cost ``part_bits`` ``(N, parts)``.

        An estimate of the size must add them. They have no gradient.
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
