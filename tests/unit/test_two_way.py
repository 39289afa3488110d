"""Two-way coding: the cheaper of two ways by brute force, clean clips as good as before, counted side information."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from robustcodec.defenses._moves import ColourOrder, Move, Shift, View
from robustcodec.defenses.two_way import TwoWayCodec
from robustcodec.defenses.wrapping import StepwiseCodec, laid_over
from robustcodec.errors import AttackError, BadParameter, StreamError
from robustcodec.interfaces import Codec
from robustcodec.registry import codecs, defenses
from robustcodec.rounding import rounding
from robustcodec.studies.check import check

ALL = "view;roll;colour-order"
LENGTHS = {0: 1, 1: 2, 2: 5, 3: 2}  # of the head, by its first byte: as it is, view, shift, order of colours
READERS: dict[int, type[Move]] = {1: View, 2: Shift, 3: ColourOrder}


@cache
def inner() -> Codec:
    codec: Codec = codecs.build("bmshj2018-factorized.tiny-q1")
    return codec.requires_grad_(False).eval()


def wrapped(transforms: str = ALL, lmbda: float = 0.01, codec: Codec | None = None) -> TwoWayCodec:
    made = defenses.build(f"two-way:transforms={transforms},lmbda={lmbda}").wrap(codec or inner())
    assert isinstance(made, TwoWayCodec)
    return made


def clips(n: int = 12, t: int = 1) -> Tensor:
    """Odd, non-square clips of slanted edges, so that some gain by being moved and some do not."""
    rng = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(47.0), indexing="ij")
    slope = torch.randn(n, t, 3, 1, 1, generator=rng) / 3
    wave = torch.sin(rows * slope + columns * slope.flip(0) + torch.randn(n, 1, 3, 1, 1, generator=rng))
    return ((0.5 + 0.4 * wave * columns / 47).clamp(0, 1) * 255).round() / 255


def drawn(codec: TwoWayCodec, x: Tensor, seed: int) -> list[Move]:
    """The moves that a codec draws after this seed, seen by making it prefer them whatever they cost."""
    torch.manual_seed(seed)
    kinds = codec.kinds
    moves = []
    for _ in x:
        kind = kinds[int(torch.randint(len(kinds), ())) if len(kinds) > 1 else 0]
        moves.append(kind.draw(*x.shape[-2:]))
    return moves


def cost(v: Tensor, head: int, lmbda: float) -> float:
    """Bits per pixel + lmbda · 255² · MSE of real bytes."""
    (stream,) = inner().compress(v)
    error = float((inner().decompress([stream]) - v).square().mean())
    return 8 * (head + len(stream)) / v[0, :, 0].numel() + lmbda * 255**2 * error


@pytest.mark.parametrize("lmbda", [1e-5, 0.01, 1.0])
def test_the_cheaper_way_is_sent(lmbda: float) -> None:
    x, codec = clips(), wrapped(lmbda=lmbda)
    moves = drawn(codec, x, 3)
    torch.manual_seed(3)
    streams = codec.compress(x)
    for i, (stream, move) in enumerate(zip(streams, moves, strict=True)):
        clip, length = x[i : i + 1], LENGTHS[stream[0]]
        plain = cost(clip, 1, lmbda)
        moved = cost(move.apply(clip), 2 if not isinstance(move, Shift) else 7, lmbda)
        assert codec.taken_apart(stream)[1] == inner().compress(clip if length == 1 else move.apply(clip))[0]
        slack = (0.01 * 8 * len(stream) + 64) / (33 * 47)  # the choice is by estimated bits
        assert (plain if length == 1 else moved) <= min(plain, moved) + slack
        if length > 1:
            assert READERS[stream[0]].read(stream[1:]) == (move, length - 1)
            assert isinstance(move, READERS[stream[0]])
    if lmbda == 0.01:
        assert len({s[0] for s in streams}) >= 3, "the clips should not all be sent in one way"


def test_bytes_alone_decode_to_what_forward_shows() -> None:
    x, codec = clips(6, 2), wrapped()
    torch.manual_seed(3)
    streams = codec.compress(x)
    torch.manual_seed(3)
    out = codec(x)
    decoded = wrapped().decompress(streams)
    torch.testing.assert_close(out.x_hat, decoded, rtol=0, atol=1e-4)
    real = torch.tensor([8.0 * len(s) for s in streams])
    assert ((out.bits - real).abs() <= 0.01 * real + 64).all()
    with pytest.raises(AttackError, match="no latents"):
        _ = out.latents


def test_it_never_costs_more_than_a_byte() -> None:
    x = clips()
    pixels = x[0, :, 0].numel()
    torch.manual_seed(0)
    with torch.no_grad():
        plain, defended = inner()(x), wrapped()(x)
    before, after = (
        o.bits / pixels + 0.01 * 255**2 * (o.x_hat - x).square().flatten(1).mean(1) for o in (plain, defended)
    )
    assert (after <= before * (1 + 2e-5) + 8 / pixels).all()
    assert (after < before - 8 / pixels).any()


def test_only_named_transforms_are_drawn() -> None:
    x = torch.rand(16, 1, 3, 24, 40, generator=torch.Generator().manual_seed(0))  # as good moved as not
    for name, byte in (("view", 1), ("roll", 2), ("colour-order", 3)):
        torch.manual_seed(1)
        assert {s[0] for s in wrapped(name, lmbda=1.0).compress(x)} == {0, byte}


def test_gradient_goes_through_the_chosen_way() -> None:
    x, codec = clips(4), wrapped("view")
    target = x.flip(0)
    torch.manual_seed(3)
    streams = codec.compress(x)
    leaf = x.clone().requires_grad_()
    torch.manual_seed(3)
    (grad,) = torch.autograd.grad((codec(leaf).x_hat - target).square().sum(), leaf)
    for i, stream in enumerate(streams):
        move = View(stream[1]) if stream[0] else View(0)
        alone = x[i : i + 1].clone().requires_grad_()
        x_hat = move.undo(inner()(move.apply(alone)).x_hat)
        (expected,) = torch.autograd.grad((x_hat - target[i : i + 1]).square().sum(), alone)
        torch.testing.assert_close(grad[i : i + 1], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert grad.any()


def test_the_choice_is_the_encoders_whatever_the_attackers_rounding() -> None:
    x, codec = clips(6), wrapped()

    def heads() -> list[bytes]:
        torch.manual_seed(3)
        return [step.head for step in codec.steps(x, real=False)]

    expected = heads()
    with rounding("noise"):
        assert heads() == expected


def test_damaged_streams_are_refused() -> None:
    x, codec = clips(), wrapped()
    torch.manual_seed(3)
    streams = codec.compress(x)
    for first in {s[0] for s in streams}:
        stream = next(s for s in streams if s[0] == first)
        for bit in range(8 * LENGTHS[first]):
            wrong = bytearray(stream)
            wrong[bit // 8] ^= 1 << bit % 8
            with pytest.raises(StreamError):
                codec.decompress([bytes(wrong)])
        for length in (0, 1, LENGTHS[first], len(stream) - 1):
            with pytest.raises(StreamError):
                codec.decompress([stream[:length]])
        parts = codec.anatomy(stream)
        assert parts[0].name == "transform" and parts[0].bits == 8 * LENGTHS[first]
        assert sum(p.bits for p in parts) == 8 * len(stream)
    coded = inner().compress(x[:1].roll((3, 4), (-2, -1)))[0]
    head = bytes([2]) + Shift(3, 4).pack()
    shifted = head + laid_over(coded, head)
    assert torch.equal(codec.decompress([shifted]), inner().decompress([coded]).roll((-3, -4), (-2, -1)))
    with pytest.raises(StreamError, match="names no transform; expected one of 0, 1"):
        wrapped("view").decompress([shifted])
    head = bytes([2]) + Shift(40, 0).pack()
    with pytest.raises(StreamError, match="do not belong together"):
        codec.decompress([head + laid_over(inner().compress(x[:1])[0], head)])
    with pytest.raises(StreamError, match="checksum"):
        codec.decompress([head + inner().compress(x[:1])[0]])


def test_it_keeps_a_codecs_promises() -> None:
    photos = torch.nn.functional.interpolate(clips(2)[:, 0], (40, 56), mode="bicubic").clamp(0, 1)[:, None]
    checks = check(wrapped(), [photos[:1], photos[1:]], wrapped)
    assert not [c for c in checks if not c.passed]


def test_a_classical_codec_is_wrapped_too() -> None:
    x, codec = clips(3), wrapped(codec=codecs.build("jpeg:quality=30"))
    assert isinstance(codec, StepwiseCodec) and codec.randomised and not codec.differentiable
    torch.manual_seed(0)
    streams = codec.compress(x)
    torch.manual_seed(0)
    torch.testing.assert_close(codec(x).x_hat, codec.decompress(streams))


@pytest.mark.parametrize("params", ["transforms=shear", "transforms=view;view", "transforms=", "lmbda=0", "lmbda=-1"])
def test_parameters_are_checked(params: str) -> None:
    with pytest.raises(BadParameter, match="expected (some of view, roll, colour-order|a positive weight)"):
        defenses.build(f"two-way:{params}")
