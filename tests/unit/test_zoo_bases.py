"""What codecs have from the public bases of the zoo, on a codec as plain as can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustcodec import stream
from robustcodec.errors import StreamError
from robustcodec.interfaces import Card
from robustcodec.zoo.symbols import SymbolCodec, Symbols


class Scaled(SymbolCodec):
    """Means of 4 × 4 pixels times a gain, which the decoder divides by; symbols are written as they are."""

    card, stride, channels = Card("scaled", "scaled"), 4, 3
    encoder_only = ("bias",)

    def __init__(self, gain: float = 50.0, bias: float = 0.0, drift: int = 0) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.tensor(gain)), nn.Parameter(torch.tensor(bias))
        self.drift = drift
        self.eval()

    def analyse(self, frames: Tensor) -> Tensor:
        assert frames.shape[-1] % 4 == frames.shape[-2] % 4 == 0
        return self.gain * torch.nn.functional.avg_pool2d(frames, 4) + self.bias

    def synthesise(self, y_hat: Tensor) -> Tensor:
        return (y_hat / self.gain).repeat_interleave(4, -1).repeat_interleave(4, -2)

    def estimate(self, y_hat: Tensor) -> Tensor:
        return torch.full((len(y_hat),), 32.0 * y_hat[0].numel())

    def encode_symbols(self, symbols: Symbols) -> bytes:
        assert symbols.dtype == np.int32 and symbols.ndim == 1
        return symbols.astype("<i4").tobytes()

    def decode_symbols(self, data: bytes, count: int) -> Symbols:
        return np.frombuffer(data, "<i4", count).astype(np.int32) + np.int32(self.drift)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, 3, 3, 7, 10, generator=torch.Generator().manual_seed(0))


def test_any_size_comes_back_as_forward_shows_it(x: Tensor) -> None:
    codec = Scaled()
    streams = codec.compress(x)
    assert torch.equal(codec.decompress(streams), codec(x).x_hat)
    assert codec(x).latents[0].shape == (2, 3, 3, 2, 3)
    assert [p.name for p in codec.anatomy(streams[0])] == ["header", "symbols", "symbols", "symbols"]
    assert codec(x).bits.tolist() == [8 * len(s) + 3 * codec.coder_bits for s in streams]


def test_other_symbols_than_were_written_raise(x: Tensor) -> None:
    with pytest.raises(StreamError, match="something else than was encoded"):
        Scaled(drift=1).decompress(Scaled().compress(x))


def test_clips_of_different_sizes_raise(x: Tensor) -> None:
    codec = Scaled()
    with pytest.raises(StreamError, match="different sizes"):
        codec.decompress(codec.compress(x) + codec.compress(x[:, :1]))


def test_a_model_id_is_of_what_decoding_needs(x: Tensor) -> None:
    codec, streams = Scaled(), Scaled().compress(x)
    assert torch.equal(Scaled(bias=1.0).decompress(streams), codec.decompress(streams))
    with pytest.raises(StreamError, match="was not written by"):
        Scaled(gain=51.0).decompress(streams)
    before = codec.model_id
    codec.gain.data += 1
    codec.refresh()
    assert codec.model_id == Scaled(gain=51.0).model_id != before


def test_a_header_that_asks_for_more_frames_than_bytes_is_refused_at_once() -> None:
    codec = Scaled()
    forged = stream.pack(stream.Packet(stream.MAX_PIXELS, 1, 1, (), 0), codec.model_id)
    with pytest.raises(StreamError, match="too short"):
        codec.decompress([forged])
