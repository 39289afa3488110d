"""The container of one sample's bytes: what a learned codec writes and nothing else.

======  ==========================================================================
bytes   meaning
======  ==========================================================================
2       magic ``rc``
1       container version
4       model id: first bytes of the sha256 of architecture and of the weights that decoding needs
3 × v   frames, height, width as unsigned LEB128
2       CRC-16 of the decoded symbols: a decoder whose probabilities drift is caught
n × v   lengths of the parts, then the parts
4       CRC-32 of everything before
======  ==========================================================================

The checksum is verified before any part reaches an entropy decoder, so damage raises and never decodes.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustcodec.errors import StreamError

MAGIC, VERSION = b"rc", 2
MAX_PIXELS = 1 << 30  # frames × height × width a header may ask for


@dataclass(frozen=True)
class Packet:
    """One sample: true size, the parts an entropy coder wrote, and the checksum of its symbols."""

    frames: int
    height: int
    width: int
    parts: tuple[bytes, ...]
    symbol_crc: int


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def symbol_crc(symbols: bytes, start: int = 0) -> int:
    """16-bit checksum of decoded symbols."""
    return binascii.crc_hqx(symbols, start)


def overhead_bits(packet_shape: tuple[int, int, int], part_sizes: Sequence[int]) -> int:
    """Bits of everything but the parts."""
    fields = [*packet_shape, *part_sizes]
    return 8 * (len(MAGIC) + 1 + 4 + 2 + 4 + sum(len(_varint(v)) for v in fields))


def overhead_of(packet_shape: tuple[int, int, int], part_sizes: Tensor) -> Tensor:
    """:func:`overhead_bits` of several samples, ``(N,)`` int64, computed where their parts' sizes are: int32, bytes,
    ``(N, parts)``.
    """
    longer = [(part_sizes >= 1 << 7 * more).sum(1) for more in range(1, 5)]
    return overhead_bits(packet_shape, ()) + 8 * (part_sizes.shape[1] + torch.stack(longer).sum(0))


def pack(packet: Packet, model_id: bytes) -> bytes:
    """``packet`` as bytes; ``model_id`` has 4 bytes."""
    body = b"".join(
        (
            MAGIC,
            bytes([VERSION]),
            model_id,
            *(_varint(v) for v in (packet.frames, packet.height, packet.width)),
            packet.symbol_crc.to_bytes(2, "little"),
            *(_varint(len(p)) for p in packet.parts),
            *packet.parts,
        )
    )
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack(stream: bytes, model_id: bytes, model_name: str, parts: Callable[[int], int]) -> Packet:
    """Read :func:`pack`'s bytes; ``parts`` says how many parts so many frames have.

    Raises :class:`StreamError` unless the bytes are whole and of this model.
    """
    if len(stream) < 16 or stream[:2] != MAGIC:
        raise StreamError(f"{len(stream)} bytes that are not a robustcodec stream (no 'rc' at the start)")
    if stream[2] != VERSION:
        raise StreamError(f"stream of container version {stream[2]}; this release reads version {VERSION}")
    body, check = stream[:-4], int.from_bytes(stream[-4:], "little")
    if zlib.crc32(body) != check:
        raise StreamError("the stream's checksum does not match its bytes: it is damaged or cut short")
    if body[3:7] != model_id:
        raise StreamError(
            f"the stream was written by model {body[3:7].hex()}, not by {model_name} ({model_id.hex()}); "
            "decode it with the codec that wrote it"
        )
    at = 7

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
    if not 0 < frames * height * width <= MAX_PIXELS:
        raise StreamError(f"the header asks for {frames} frames of {width}x{height}; at most {MAX_PIXELS} pixels")
    crc = int.from_bytes(body[at : at + 2], "little")
    at += 2
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
    return Packet(frames, height, width, tuple(strings), crc)
