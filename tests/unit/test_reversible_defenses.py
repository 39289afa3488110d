"""Flips, rotations, shifts, orders of colours: moved as numpy moves them, named in the bytes, and undone exactly."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcodec.defenses._moves import Shift
from robustcodec.errors import AttackError, BadData, BadParameter, StreamError
from robustcodec.interfaces import Card, Codec, Output
from robustcodec.objectives.damage import SourceDistortion
from robustcodec.oracle import Oracle
from robustcodec.registry import codecs, defenses
from robustcodec.studies.check import check

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
FIXED: dict[str, Callable[[Array], Array]] = {  # of (..., 3, H, W)
    "flip:horizontal": lambda a: a[..., ::-1],
    "flip:vertical": lambda a: a[..., ::-1, :],
    "flip:both": lambda a: a[..., ::-1, ::-1],
    "rotate:90": lambda a: np.rot90(a, 1, (-2, -1)),
    "rotate:180": lambda a: np.rot90(a, 2, (-2, -1)),
    "rotate:270": lambda a: np.rot90(a, 3, (-2, -1)),
    "roll:down=5,right=0": lambda a: np.roll(a, 5, -2),
    "roll:down=-3,right=300": lambda a: np.roll(np.roll(a, -3, -2), 300, -1),
    "colour-order:rbg": lambda a: a[..., [0, 2, 1], :, :],
    "colour-order:grb": lambda a: a[..., [1, 0, 2], :, :],
    "colour-order:gbr": lambda a: a[..., [1, 2, 0], :, :],
    "colour-order:brg": lambda a: a[..., [2, 0, 1], :, :],
    "colour-order:bgr": lambda a: a[..., [2, 1, 0], :, :],
}
RANDOM = ["flip", "rotate", "roll", "roll:down=random,right=2", "colour-order"]


class Raw(Codec):
    """Lossless, so that what a move does to a clip can be read off exactly; its streams have a checksum."""

    card = Card("raw", "raw")

    def forward(self, x: Tensor) -> Output:
        return Output(lambda: x * 1, lambda: torch.full((len(x),), 8.0 * (12 + 4 * x[0].numel())), lambda: [x])

    def compress(self, x: Tensor) -> list[bytes]:
        bodies = [np.array(clip.shape, "<u2").tobytes() + clip.contiguous().numpy().tobytes() for clip in x]
        return [zlib.crc32(body).to_bytes(4, "little") + body for body in bodies]

    def decompress(self, streams: Sequence[bytes]) -> Tensor:
        return torch.stack([torch.from_numpy(shown(s)) for s in streams])


def shown(stream: bytes) -> Array:
    """The clip in a stream of :class:`Raw`."""
    if len(stream) < 12 or zlib.crc32(stream[4:]) != int.from_bytes(stream[:4], "little"):
        raise StreamError("damaged")
    clip: Array = np.frombuffer(stream[12:], np.float32).reshape(np.frombuffer(stream[4:12], "<u2")).copy()
    return clip


def clips(n: int = 2, t: int = 2, height: int = 33, width: int = 47) -> Tensor:
    return torch.rand(n, t, 3, height, width, generator=torch.Generator().manual_seed(0))


def behind(spec: str, codec: Codec | None = None) -> Codec:
    wrapped: Codec = defenses.build(spec).wrap(codec or Raw())
    return wrapped


def head(spec: str) -> int:
    """Bytes of side information."""
    return 4 if spec.startswith("roll") else 1


def inside(spec: str, stream: bytes) -> bytes:
    """The inner codec's stream."""
    codec: Any = behind(spec)
    assert codec.taken_apart(stream)[0] == stream[: head(spec)]
    inner: bytes = codec.taken_apart(stream)[1]
    return inner


@cache
def learned() -> Codec:
    codec: Codec = codecs.build("bmshj2018-factorized.tiny-q1")
    return codec.requires_grad_(False).eval()


@pytest.mark.parametrize("shape", [(2, 1, 33, 47), (1, 3, 64, 48), (1, 1, 1, 1), (1, 2, 2, 31)])
@pytest.mark.parametrize("spec", FIXED)
def test_what_is_coded_is_moved_as_numpy_moves_it(spec: str, shape: tuple[int, int, int, int]) -> None:
    x, codec = clips(*shape), behind(spec)
    streams = codec.compress(x)
    for clip, stream in zip(x.numpy(), streams, strict=True):
        assert np.array_equal(shown(inside(spec, stream)), FIXED[spec](clip))
    assert torch.equal(behind(spec).decompress(streams), x)
    out = codec(x)
    assert torch.equal(out.x_hat, x)
    assert out.bits.tolist() == [8 * len(s) for s in streams]
    assert np.array_equal(out.latents[0].numpy(), FIXED[spec](x.numpy()))
    assert not codec.randomised


@pytest.mark.parametrize("spec", RANDOM)
def test_random_moves_are_undone_exactly_and_repeat_after_a_seed(spec: str) -> None:
    x, codec = clips(6), behind(spec)
    torch.manual_seed(4)
    streams = codec.compress(x)
    assert torch.equal(behind(spec).decompress(streams[:1]), x[:1])
    assert torch.equal(torch.cat([behind(spec).decompress([s]) for s in streams]), x)
    torch.manual_seed(4)
    out = codec(x)
    assert torch.equal(out.x_hat, x) and out.bits.tolist() == [8 * len(s) for s in streams]
    torch.manual_seed(4)
    assert codec.compress(x) == streams
    assert codec.compress(x) != streams
    assert codec.randomised
    with pytest.raises(AttackError, match="no latents"):
        _ = out.latents


@pytest.mark.parametrize(
    ("spec", "moves"),
    [
        (
            "flip",
            [
                lambda a, f=f: f(a)
                for f in (lambda a: a, *(FIXED[f"flip:{k}"] for k in ("horizontal", "vertical", "both")))
            ],
        ),
        ("rotate", [lambda a, k=k: np.rot90(a, k, (-2, -1)) for k in range(4)]),
        ("roll", [lambda a, d=d, r=r: np.roll(a, (d, r), (-2, -1)) for d in range(2) for r in range(3)]),
        ("colour-order", [lambda a, o=o: a[..., list(o), :, :] for o in itertools.permutations(range(3))]),
    ],
)
def test_every_move_is_drawn_equally_often(spec: str, moves: list[Callable[[Array], Array]]) -> None:
    x, codec = clips(1, 1, 2, 3), behind(spec)
    names = {m(x[0].numpy()).tobytes(): i for i, m in enumerate(moves)}
    assert len(names) == len(moves)
    torch.manual_seed(0)
    n = 200 * len(moves)
    seen = Counter(names[shown(inside(spec, s)).tobytes()] for s in codec.compress(x.expand(n, -1, -1, -1, -1)))
    assert set(seen) == set(range(len(moves)))
    assert all(abs(count - 200) < 4 * 200**0.5 for count in seen.values())


@pytest.mark.parametrize("spec", [*FIXED, *RANDOM])
def test_damaged_or_foreign_side_information_is_refused(spec: str) -> None:
    codec, size = behind(spec), head(spec)
    (stream,) = codec.compress(clips(1))
    for bit in range(8 * size):
        wrong = bytearray(stream)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError):
            codec.decompress([bytes(wrong)])
    for length in (0, size - 1, size, size + 5, len(stream) - 1):
        with pytest.raises(StreamError):
            codec.decompress([stream[:length]])
    parts = codec.anatomy(stream)
    assert (parts[0].name, parts[0].bits) == ("move", 8 * size)
    assert sum(p.bits for p in parts) == 8 * len(stream)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("flip:both", "flip:vertical"),
        ("rotate:90", "rotate:270"),
        ("rotate:90", "flip"),
        ("roll:3", "roll:4"),
        ("roll:down=3,right=1", "roll:down=random,right=2"),
        ("colour-order:bgr", "colour-order:gbr"),
    ],
)
def test_streams_of_other_parameters_are_refused(written: str, read: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(StreamError, match="decode it as it was coded"):
        behind(read).decompress(behind(written).compress(clips(1)))


def test_a_shift_beyond_the_clip_is_refused() -> None:
    with pytest.raises(StreamError, match="expected less than its sides"):
        Shift(20, 30).undo(clips(1, 1, 8, 8))
    far = behind("roll:down=20,right=30").compress(clips(1))[0][:4]
    small = Raw().compress(clips(1, 1, 8, 8))[0]
    with pytest.raises(StreamError, match="damaged"):  # head and rest do not belong together
        behind("roll").decompress([far + small])


def test_a_shift_that_cannot_be_written_is_refused_before() -> None:
    with pytest.raises(BadData, match="up to 65535"):
        behind("roll:down=0,right=-1").compress(torch.zeros(1, 1, 3, 1, 65537))


@pytest.mark.parametrize("spec", [*FIXED, *RANDOM])
def test_gradients_come_back_in_place(spec: str) -> None:
    """Through a lossless codec the gradient of a weighted sum is its weights, wherever pixels were moved meanwhile."""
    x, weights = clips(3).requires_grad_(), clips(3).flip(-1)
    (grad,) = torch.autograd.grad((behind(spec)(x).x_hat * weights).sum(), x)
    assert torch.equal(grad, weights)


@pytest.mark.parametrize("spec", ["flip", "rotate:90", "roll", "colour-order:bgr"])
def test_a_learned_codec_codes_the_moved_clip(spec: str) -> None:
    x, codec = clips(2, 1), behind(spec, learned())
    torch.manual_seed(1)
    streams = codec.compress(x)
    torch.manual_seed(1)
    moved = [torch.from_numpy(shown(inside(spec, s))) for s in behind(spec).compress(x)]
    assert [inside(spec, s) for s in streams] == [learned().compress(m[None])[0] for m in moved]
    torch.manual_seed(1)
    out = codec(x)
    torch.testing.assert_close(out.x_hat, codec.decompress(streams), rtol=0, atol=1e-4)


@pytest.mark.parametrize("spec", ["rotate", "roll"])
def test_they_keep_a_codecs_promises(spec: str) -> None:
    x = torch.nn.functional.interpolate(clips(2, 1, 12, 14)[:, 0], (40, 56), mode="bicubic").clamp(0, 1)[:, None]
    checks = check(behind(spec, learned()), [x[:1], x[1:]], lambda: behind(spec, learned()))
    assert not [c for c in checks if not c.passed]


def test_an_oracle_averages_over_draws() -> None:
    x = clips(1, 1)
    noisy = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)

    def spread(draws: int) -> float:
        oracle = Oracle(behind("roll", learned()), SourceDistortion(), x, "white", draws=draws)
        torch.manual_seed(0)
        return float(torch.stack([oracle(noisy) for _ in range(16)]).detach().std())

    assert spread(8) < 0.7 * spread(1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flip:sideways", "one of horizontal, vertical, both, random"),
        ("rotate:45", "angle=45; expected 90, 180, 270 or random"),
        ("rotate:some", "one of random or int"),
        ("roll:down=0,right=0", "shift nothing"),
        ("roll:0.5", "one of random or int"),
        ("colour-order:rgb", "one of rbg, grb, gbr, brg, bgr, random"),
    ],
)
def test_parameters_are_checked(spec: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        defenses.build(spec)
