"""The container: what is packed comes back, its size is known in advance, and nothing damaged gets through."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustcodec import stream
from robustcodec.errors import BadData, BadParameter, StreamError

MODEL, OTHER = b"\x01\x02\x03\x04", b"\x01\x02\x03\x05"
PER_FRAME = 2
fast = settings(max_examples=150, deadline=None, database=None)


@st.composite
def packets(draw: Any) -> stream.Packet:
    frames = draw(st.integers(1, 4))
    parts = draw(st.lists(st.binary(max_size=300), min_size=frames * PER_FRAME, max_size=frames * PER_FRAME))
    size = st.integers(1, 4000)
    return stream.Packet(frames, draw(size), draw(size), tuple(parts), draw(st.integers(0, 0xFFFFFFFF)))


def read(data: bytes, model: bytes = MODEL) -> stream.Packet:
    return stream.unpack(data, model, "model", lambda frames: frames * PER_FRAME, symbols=True)


def reseal(body: bytes) -> bytes:
    """A stream whose checksum is right although its contents are not."""
    return body + zlib.crc32(body).to_bytes(4, "little")


@fast
@given(packets())
def test_what_is_packed_comes_back(packet: stream.Packet) -> None:
    assert read(stream.pack(packet, MODEL)) == packet


@fast
@given(packets())
def test_overhead_is_the_size_without_the_parts(packet: stream.Packet) -> None:
    sizes = [len(p) for p in packet.parts]
    shape = (packet.frames, packet.height, packet.width)
    assert 8 * (len(stream.pack(packet, MODEL)) - sum(sizes)) == stream.overhead_bits(shape, sizes)


def test_overheads_of_several_samples_are_those_of_each() -> None:
    shape, borders = (1, 300, 5), [[0, 127, 128], [2**14 - 1, 2**14, 2**21], [2**21 - 1, 2**28 - 1, 2**28]]
    together = stream.overhead_of(shape, torch.tensor(borders, dtype=torch.int32))
    assert together.tolist() == [stream.overhead_bits(shape, sizes) for sizes in borders]


@fast
@given(packets(), st.data())
def test_any_damage_raises(packet: stream.Packet, data: st.DataObject) -> None:
    whole = stream.pack(packet, MODEL)
    damaged = bytearray(whole)
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "overwrite"]))
    if kind == "flip":
        damaged[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del damaged[at:]
    elif kind == "insert":
        damaged[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    else:
        noise = data.draw(st.binary(min_size=1, max_size=40))
        damaged[at : at + len(noise)] = noise
    if bytes(damaged) != whole:
        with pytest.raises(StreamError):
            read(bytes(damaged))


@fast
@given(st.binary(max_size=400))
def test_noise_raises_even_behind_a_valid_checksum_and_header(noise: bytes) -> None:
    for body in (noise, stream.MAGIC + noise, stream.MAGIC + bytes([stream.VERSION]) + MODEL + noise):
        with pytest.raises(StreamError):
            read(reseal(body))


@fast
@given(packets(), st.data())
def test_putting_the_last_checksum_right_is_not_enough(packet: stream.Packet, data: st.DataObject) -> None:
    whole = stream.pack(packet, MODEL)
    body = bytearray(whole[:-4])
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = read(reseal(bytes(body)))
    except StreamError:
        return
    with pytest.raises(StreamError, match="something else than was encoded"):
        found.expect(packet.symbol_crc, "model")


def test_another_models_or_sizes_stream_is_refused_before_its_parts_are_counted() -> None:
    def never(frames: int) -> int:
        raise AssertionError("parts were counted")

    packet = stream.Packet(1, 8, 8, (b"ab", b"c"), 7)
    data = stream.pack(packet, OTHER)
    with pytest.raises(StreamError, match="not written by model for a clip of 1 x 8x8.*the codec that wrote it"):
        stream.unpack(data, MODEL, "model", never)
    larger = bytearray(stream.pack(packet, MODEL)[:-4])
    larger[8] = 40  # its height
    with pytest.raises(StreamError, match="1 x 8x40"):
        stream.unpack(reseal(bytes(larger)), MODEL, "model", never)


def test_another_version_raises() -> None:
    body = bytearray(stream.pack(stream.Packet(1, 8, 8, (b"ab", b"c"), 7), MODEL)[:-4])
    body[2] += 1
    with pytest.raises(StreamError, match="version"):
        read(reseal(bytes(body)))


@pytest.mark.parametrize("shape", [(0, 8, 8), (1, 0, 8), (1, 1 << 20, 1 << 20)])
def test_impossible_sizes_raise_before_anything_is_decoded(shape: tuple[int, int, int]) -> None:
    packet = stream.Packet(*shape, parts=(b"ab", b"c"), symbol_crc=7)
    with pytest.raises(BadData, match="pixels"):
        stream.pack(packet, MODEL)
    body = stream.pack(stream.Packet(1, 1, 1, packet.parts, 7), MODEL)
    forged = body[:7] + packet.sizes + body[10:-4]
    with pytest.raises(StreamError, match="pixels"):
        read(reseal(forged))


def test_the_largest_clip_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    packet = stream.Packet(1, 8, 8, (b"ab", b"c"), 7)
    data = stream.pack(packet, MODEL)
    monkeypatch.setenv(stream.LIMIT, "63")
    with pytest.raises(StreamError, match=f"expected 1 to 63 pixels in all: set {stream.LIMIT}"):
        read(data)
    with pytest.raises(BadData, match="63 pixels"):
        stream.pack(packet, MODEL)
    monkeypatch.setenv(stream.LIMIT, "64")
    assert read(data) == packet
    monkeypatch.setenv(stream.LIMIT, "much")
    with pytest.raises(BadParameter, match="=much: expected a number of pixels"):
        read(data)


def test_the_checksum_of_symbols_chains() -> None:
    assert stream.symbol_crc(b"robust" + b"codec") == stream.symbol_crc(b"codec", stream.symbol_crc(b"robust"))
    assert stream.symbol_crc(b"123456789") == 0xCBF43926  # the check value of CRC-32/ISO-HDLC
