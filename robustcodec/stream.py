"""The container of one sample's bytes: what a learned codec writes and nothing else.

======  ==========================================================================
bytes   meaning
======  ==========================================================================
2       magic ``rc``
1       container version
4       stream id: first bytes of the sha256 of the model's id and of the three sizes
3 × v   frames, height, width as unsigned LEB128
4       CRC-32 of the decoded symbols, xor that of the sizes and all parts
n × v   lengths of the parts, then the parts
4       CRC-32 of everything before
======  ==========================================================================

The last checksum is verified before any part reaches an entropy decoder, so damage raises and never decodes. The
stream id stops a header of another size, or of another model, before any work is done for it; the checksum of symbols
catches a decoder whose probabilities drift. Its mask makes it one of the sizes and the parts too: a stream in which
only the last checksum is put right shows no other picture.

**What counts.** The bits of a codec, of any kind, are eight times the bytes of its stream: all that a decoder of this
project needs for the picture, sizes and checksums among it, and nothing else. Of a standard image file these are all
its bytes (:mod:`robustcodec.zoo._pillow`), of a video those that its decoder needs (:mod:`robustcodec.zoo.pyav`).
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustcodec.errors import BadData, BadParameter, RobustCodecError, StreamError

MAGIC, VERSION = b"rc", 3
MAX_PIXELS = 1 << 26  # frames × height × width that a stream may ask for: 0.75 GiB of decoded floats
LIMIT = "ROBUSTCODEC_MAX_PIXELS"  # the variable that says another number
ID = 4  # bytes of an id


def max_pixels() -> int:
    """Frames × height × width of the largest clip that is written or read: ``$ROBUSTCODEC_MAX_PIXELS``, or
    :data:`MAX_PIXELS`. Raises :class:`BadParameter` for a variable that is no such number.
    """
    given = os.environ.get(LIMIT, "")
    if given and not (given.isdecimal() and int(given) > 0):
        raise BadParameter(f"{LIMIT}={given}: expected a number of pixels above 0, such as {MAX_PIXELS}")
    return int(given or MAX_PIXELS)


@dataclass(frozen=True)
class Packet:
    """One sample: true size, the parts an entropy coder wrote, and the checksum of what they decode to.

    ``symbol_crc``: 32 bits; 0 of a codec that has no symbols to show.
    """

    frames: int
    height: int
    width: int
    parts: tuple[bytes, ...]
    symbol_crc: int = 0

    @property
    def sizes(self) -> bytes:
        """The three sizes as the header has them."""
        return b"".join(_varint(v) for v in (self.frames, self.height, self.width))

    @property
    def mask(self) -> int:
        """Checksum of the sizes and the parts."""
        return zlib.crc32(b"".join((self.sizes, *self.parts)))

    def expect(self, symbol_crc: int, name: str) -> None:
        """Raise :class:`StreamError` unless the codec ``name`` decoded symbols of this checksum."""
        if symbol_crc != self.symbol_crc:
            raise StreamError(
                f"{name} decoded something else than was encoded: the stream is damaged, or decoders differ between "
                "the machine that wrote it and this one"
            )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def require_finite(x: Tensor) -> None:
    """Raise :class:`BadData` for a batch ``(N, T, 3, H, W)`` that no encoder can code."""
    if not (good := torch.isfinite(x)).all():
        raise BadData(f"{int((~good).sum())} of {x.numel()} values to be coded are NaN or infinite; expected 0 to 1")


def symbol_crc(symbols: bytes, start: int = 0) -> int:
    """32-bit checksum of decoded symbols, continued from ``start``."""
    return zlib.crc32(symbols, start)


def _stream_id(model_id: bytes, sizes: bytes) -> bytes:
    return hashlib.sha256(model_id + sizes).digest()[:ID]


def within_limit(frames: int, height: int, width: int, kind: type[RobustCodecError] = StreamError) -> None:
    """Raise ``kind`` for a clip without pixels, or of more than :func:`max_pixels`."""
    limit = max_pixels()
    if not 0 < frames * height * width <= limit:
        raise kind(
            f"{frames} x {width}x{height} (frames, width, height); expected 1 to {limit} pixels in all: set {LIMIT} to "
            "allow more, or give --max-pixels"
        )


def overhead_bits(packet_shape: tuple[int, int, int], part_sizes: Sequence[int]) -> int:
    """Bits of everything but the parts."""
    fields = [*packet_shape, *part_sizes]
    return 8 * (len(MAGIC) + 1 + ID + 4 + 4 + sum(len(_varint(v)) for v in fields))


def overhead_of(packet_shape: tuple[int, int, int], part_sizes: Tensor) -> Tensor:
    """:func:`overhead_bits` of several samples, ``(N,)`` int64, computed where their parts' sizes are: int32, bytes,
    ``(N, parts)``.
    """
    longer = [(part_sizes >= 1 << 7 * more).sum(1) for more in range(1, 5)]
    return overhead_bits(packet_shape, ()) + 8 * (part_sizes.shape[1] + torch.stack(longer).sum(0))


def pack(packet: Packet, model_id: bytes) -> bytes:
    """``packet`` as bytes; ``model_id`` has 4 bytes. Raises :class:`BadData` for a clip of more than
    :func:`max_pixels`.
    """
    within_limit(packet.frames, packet.height, packet.width, BadData)
    body = b"".join(
        (
            MAGIC,
            bytes([VERSION]),
            _stream_id(model_id, packet.sizes),
            packet.sizes,
            (packet.symbol_crc ^ packet.mask).to_bytes(4, "little"),
            *(_varint(len(p)) for p in packet.parts),
            *packet.parts,
        )
    )
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(
    stream: bytes, model_id: bytes, model_name: str, parts: Callable[[int], int], symbols: bool = False
) -> Packet:
    """Read :func:`pack`'s bytes; ``parts`` says how many parts so many frames have. ``symbols``: True of a codec that
    decodes symbols and shows them to :meth:`Packet.expect`; of all others sizes and parts are compared here.

    Raises :class:`StreamError` unless the bytes are whole, of this model, and ask for no more than :func:`max_pixels`.
    """
    if len(stream) < 18 or stream[:2] != MAGIC:
        raise StreamError(f"{len(stream)} bytes that are not a robustcodec stream (no 'rc' at the start)")
    if stream[2] != VERSION:
        raise StreamError(f"stream of container version {stream[2]}; this release reads version {VERSION}")
    body, check = stream[:-4], int.from_bytes(stream[-4:], "little")
    if zlib.crc32(body) != check:
        raise StreamError("the stream's checksum does not match its bytes: it is damaged or cut short")
    at = 3 + ID

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(body) or shift > 35:
                raise StreamError("the stream's header is cut short")
            byte = body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    frames, height, width = number(), number(), number()
    within_limit(frames, height, width)
    if body[3 : 3 + ID] != _stream_id(model_id, body[3 + ID : at]):
        raise StreamError(
            f"the stream was not written by {model_name} for a clip of {frames} x {width}x{height}: decode it with the "
            "codec that wrote it, with the same weights; if you did, its header is damaged"
        )
    stored = int.from_bytes(body[at : at + 4], "little")
    at += 4
    count = parts(frames)
    if count > len(body) - at:
        raise StreamError("the stream is too short for the parts its header announces")
    sizes = [number() for _ in range(count)]
    if at + sum(sizes) != len(body):
        raise StreamError(f"the header announces {sum(sizes)} bytes of payload, the stream holds {len(body) - at}")
    strings = []
    for size in sizes:
        strings.append(body[at : at + size])
        at += size
    packet = Packet(frames, height, width, tuple(strings))
    packet = replace(packet, symbol_crc=stored ^ packet.mask)
    if not symbols:
        packet.expect(0, model_name)
    return packet
