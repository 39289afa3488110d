"""The range decoder stays inside its string and what is put behind it: against its algorithm, written down here."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
import torch
from compressai import ans

from robustcodec.errors import BadData, StreamError
from robustcodec.registry import codecs
from robustcodec.stream import pack
from robustcodec.zoo import _rans

LOW, PRECISION, DIGIT = 1 << 31, 16, 4
CDFS = [[0, 20_000, 45_000, 65_000, 1 << 16], [0, 1, 65_534, 65_535, 1 << 16], [0, 9, 99, 999, 9_999, 1 << 16]]
SIZES, OFFSETS = [len(cdf) for cdf in CDFS], [-1, 0, 5]


class Reference:
    """Giesen's rANS with words of 32 bits and escapes as CompressAI has them, which counts the bytes that it reads."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read, self.x = data, 0, 0
        self.x = self._word() | self._word() << 32

    def _word(self) -> int:
        word = self.data[self.read : self.read + 4].ljust(4, b"\0")
        self.read += 4
        return int.from_bytes(word, "little")

    def _renormalise(self) -> None:
        if self.x < LOW:
            self.x = self.x << 32 | self._word()

    def _digit(self) -> int:
        digit = self.x & 15
        self.x >>= DIGIT
        self._renormalise()
        return digit

    def symbol(self, index: int) -> int:
        cdf = CDFS[index]
        within = self.x & 0xFFFF
        s = next(i for i, edge in enumerate(cdf) if edge > within) - 1
        self.x = (cdf[s + 1] - cdf[s]) * (self.x >> PRECISION) + within - cdf[s]
        self._renormalise()
        if s < len(cdf) - 2:
            return s + OFFSETS[index]
        digit = count = self._digit()
        while digit == 15:
            digit = self._digit()
            count += digit
        raw = 0
        for j in range(count):
            raw |= self._digit() << DIGIT * j
        value = -(raw >> 1) - 1 if raw & 1 else (raw >> 1) + s
        return value + OFFSETS[index]


def message(seed: int, count: int = 300) -> tuple[list[int], list[int], bytes]:
    """Symbols, their tables, and the string of them."""
    rng = random.Random(seed)
    indexes = [rng.randrange(len(CDFS)) for _ in range(count)]
    symbols = [OFFSETS[i] + rng.randrange(-40, 60) for i in indexes]
    return symbols, indexes, ans.RansEncoder().encode_with_indexes(symbols, indexes, CDFS, SIZES, OFFSETS)


def test_every_decoder_is_the_bounded_one() -> None:
    from compressai.entropy_models import EntropyBottleneck

    assert ans.RansDecoder is _rans.Bounded
    assert isinstance(EntropyBottleneck(2).entropy_coder._decoder, _rans.Bounded)


@pytest.mark.parametrize("seed", range(4))
def test_whole_strings_decode_at_once_and_in_steps(seed: int) -> None:
    symbols, indexes, data = message(seed, 3 * _rans.FIRST)
    reference = Reference(data)
    assert [reference.symbol(i) for i in indexes[:500]] == symbols[:500]
    assert ans.RansDecoder().decode_with_indexes(data, indexes, CDFS, SIZES, OFFSETS) == symbols
    decoder, found = ans.RansDecoder(), []
    decoder.set_stream(data)
    for at in range(0, len(indexes), 1000):
        found += decoder.decode_stream(indexes[at : at + 1000], CDFS, SIZES, OFFSETS)
    assert found == symbols


def test_nothing_is_read_behind_what_is_put_there() -> None:
    """Strings of noise, of escapes without end, cut ones and empty ones, for up to 20,000 symbols."""
    rng = random.Random(0)
    whole = message(0)[2]
    strings = [b"", b"\xff" * 400, b"\xff\xff\xff\xf0" * 50, whole[:8], whole[: len(whole) // 2], bytes(64)]
    strings += [rng.randbytes(rng.randrange(200)) for _ in range(40)]
    beyond = 0
    for data in strings:
        count = rng.choice((10, 300, 20_000 if len(data) < 100 else 1000))
        reference = Reference(data)
        for _ in range(count):
            reference.symbol(rng.randrange(len(CDFS)))
        beyond = max(beyond, reference.read - len(data))
        assert reference.read <= len(_rans.padded(data, count))
    assert beyond > 1000


@pytest.mark.parametrize("seed", range(4))
def test_zeros_are_read_behind_the_end_and_not_what_lies_there_in_memory(seed: int) -> None:
    _, indexes, data = message(seed)
    for size in (0, 8, len(data) // 2, len(data) - 4):
        reference = Reference(data[:size])
        expected = [reference.symbol(i) for i in indexes]
        assert reference.read > size
        assert ans.RansDecoder().decode_with_indexes(data[:size], indexes, CDFS, SIZES, OFFSETS) == expected
        decoder = ans.RansDecoder()
        decoder.set_stream(data[:size])
        assert decoder.decode_stream(indexes, CDFS, SIZES, OFFSETS) == expected


@pytest.mark.parametrize("name", ["bmshj2018-hyperprior.tiny-q2", "mbt2018-mean.tiny-q2", "mbt2018:weights=random"])
def test_a_forged_size_with_right_checksums_raises(name: str) -> None:
    codec: Any = codecs.build(name)
    (data,) = codec.compress(torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    packet = codec.packet(data)
    for height, width in ((1024, 32), (512, 512), (32, 1024)):
        forged = type(packet)(1, height, width, packet.parts, packet.symbol_crc)
        with pytest.raises(StreamError):
            codec.decompress([pack(forged, codec.model_id)])


@pytest.mark.parametrize(
    "name",
    ["bmshj2018-hyperprior.tiny-q2", "bmshj2018-factorized.tiny-q1", "bmshj2018-hyperprior-vbr:weights=random"],
)
def test_few_bytes_for_a_large_picture_are_refused_at_once(name: str) -> None:
    codec: Any = codecs.build(name)
    (data,) = codec.compress(torch.full((1, 1, 3, 64, 64), 0.5))
    packet = codec.packet(data)
    forged = pack(type(packet)(1, 8192, 8192, packet.parts, packet.symbol_crc), codec.model_id)
    with pytest.raises(StreamError, match="bytes cannot hold the .* latents"):
        codec.decompress([forged])
    flat = torch.full((1, 1, 3, 512, 512), 0.5)  # no picture takes less
    assert codec.decompress(codec.compress(flat)).shape == flat.shape


@pytest.mark.parametrize("name", ["bmshj2018-hyperprior.tiny-q2", "rdae.tiny-q2", "jpeg", "h264"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_values_that_are_not_finite_are_refused(name: str, value: float) -> None:
    with pytest.raises(BadData, match="NaN or infinite"):
        codecs.build(name).compress(torch.full((1, 1, 3, 32, 32), value))


def test_latents_that_the_coder_cannot_write_are_refused() -> None:
    codec: Any = codecs.build("mbt2018-mean.tiny-q2")
    with torch.no_grad():
        codec.net.g_a[-1].weight.mul_(1e12)
    with pytest.raises(BadData, match="latents are NaN or beyond"):
        codec.compress(torch.rand(1, 1, 3, 64, 64))


@pytest.mark.parametrize("gain", [0.0, 1e-40, 9.0, float("nan"), float("inf")])
def test_a_stream_that_names_no_gain_there_is_raises(gain: float) -> None:
    codec: Any = codecs.build("bmshj2018-hyperprior-vbr:weights=random")
    (data,) = codec.compress(torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    packet = codec.packet(data)
    side = struct.pack("<f", gain) + packet.parts[1][4:]
    forged = type(packet)(1, 32, 32, (packet.parts[0], side), packet.symbol_crc)
    with pytest.raises(StreamError, match="names no gain from"):
        codec.decompress([pack(forged, codec.model_id)])
