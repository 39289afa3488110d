"""The one way through bytes: what is decoded comes from the bytes, a failure is a value, draws are a seed's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from robustcodec.clips import as_batch, to_uint8
from robustcodec.coding import code, defended, estimated_bits, judged
from robustcodec.errors import BadParameter, MissingDependency, StreamError, UnknownName, WeightsError
from robustcodec.interfaces import Card, Codec, Output

CLIP = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).view(2, 3, 8, 8)


class Raw(Codec):
    """Its bytes are the pixels plus a number that it draws; ``broken``: what its decoder raises."""

    card = Card("raw", "raw")
    randomised = True

    def __init__(self, broken: Exception | None = None) -> None:
        super().__init__()
        self.broken = broken

    def forward(self, x: Tensor) -> Output:
        drawn = torch.randint(256, ()).item()
        return Output(lambda: x, lambda: torch.full((len(x),), float(drawn)))

    def compress(self, x: Tensor) -> list[bytes]:
        return [bytes([int(torch.randint(256, ()))]) + to_uint8(clip).numpy().tobytes() for clip in x]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        if self.broken is not None:
            raise self.broken
        pixels = [torch.frombuffer(bytearray(data[1:]), dtype=torch.uint8).view(CLIP.shape) for data in streams]
        return torch.stack(pixels) / 255


def test_a_clip_comes_back_from_its_bytes() -> None:
    coded = code(Raw(), CLIP)
    assert coded.x_hat is not None and torch.equal(coded.x_hat, CLIP) and torch.equal(coded.decoded(), CLIP)
    assert coded.bits == 8 * (1 + CLIP.numel()) and coded.reason is None
    assert coded.encode_s > 0 and coded.decode_s > 0


def test_what_a_decoder_raises_is_a_value_and_raised_where_a_picture_is_needed() -> None:
    coded = code(Raw(StreamError("no")), CLIP)
    assert coded.x_hat is None and coded.reason == "StreamError: no"
    with pytest.raises(StreamError, match="no"):
        coded.decoded()


@pytest.mark.parametrize("error", [BadParameter("a variable"), WeightsError("gone"), MissingDependency("a package")])
def test_a_decoder_that_cannot_work_here_has_found_nothing(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        code(Raw(error), CLIP)


def test_draws_are_those_of_the_seed_and_leave_no_trace() -> None:
    """Bytes and their estimate meet the same draw; without a seed the random state goes on."""
    torch.manual_seed(1)
    expected = int(torch.randint(256, ()))
    torch.manual_seed(9)
    state = torch.get_rng_state()
    assert code(Raw(), CLIP, seed=1).stream[0] == estimated_bits(Raw(), CLIP, seed=1) == expected
    assert torch.equal(torch.get_rng_state(), state)
    code(Raw(), CLIP)
    assert not torch.equal(torch.get_rng_state(), state)


def test_values_are_rounded_to_eight_bits() -> None:
    class Between(Raw):
        def decompress(self, streams: Sequence[bytes]) -> Tensor:
            return super().decompress(streams) + 0.4 / 255

    assert torch.equal(code(Between(), CLIP.clamp(max=254)).decoded(), CLIP.clamp(max=254))


def test_codecs_that_are_judged_are_frozen_and_others_can_be_trained() -> None:
    name = "bmshj2018-factorized.tiny-q1"
    frozen, free = judged(name, "flip"), defended(name, "flip")
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())
    assert not free.training and all(p.requires_grad for p in free.parameters())
    assert frozen.card.name == free.card.name == f"{name}+flip"
    with pytest.raises(UnknownName):
        judged("no-such-codec")


def test_a_batch_of_one() -> None:
    x = as_batch(CLIP)
    assert x.shape == (1, *CLIP.shape) and x.dtype == torch.float32 and torch.equal(to_uint8(x)[0], CLIP)
