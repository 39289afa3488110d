"""Resizing: exact from the bytes alone after the same seed, counted side information, damage refused."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustcodec.defenses.resize import SIZE, ResizeCodec, scaled
from robustcodec.errors import AttackError, BadParameter, StreamError
from robustcodec.interfaces import Codec
from robustcodec.objectives.damage import SourceDistortion
from robustcodec.oracle import Oracle
from robustcodec.registry import codecs, defenses
from robustcodec.studies.check import check


@cache
def inner() -> Codec:
    """Random weights, with latents large enough that rounding leaves a picture of their input."""
    codec: Codec = codecs.build("bmshj2018-factorized:weights=random")
    state = codec.state_dict()
    for name in ("net.g_a.6.weight", "net.g_s.6.weight"):
        state[name] *= 12
    codec.load_state_dict(state)
    codec.refresh()
    return codec.requires_grad_(False).eval()


def wrapped(low: float = 0.6, high: float = 0.9, codec: Codec | None = None) -> ResizeCodec:
    made = defenses.build(f"resize:low={low},high={high}").wrap(codec or inner())
    assert isinstance(made, ResizeCodec)
    return made


def clips(n: int = 3, t: int = 2, height: int = 33, width: int = 47) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    noise = torch.rand(n * t, 3, height // 6 + 2, width // 6 + 2, generator=rng)
    return scaled(noise.unflatten(0, (n, t)), height, width).clamp(0, 1)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("size", [(33, 47), (64, 48), (1, 1), (2, 31)])
def test_the_same_seed_gives_the_same_clip_from_bytes(size: tuple[int, int]) -> None:
    x, codec = clips(3, 2, *size), wrapped()
    torch.manual_seed(5)
    streams = codec.compress(x)
    torch.manual_seed(5)
    out = codec(x)
    decoded = wrapped().decompress(streams)
    assert decoded.shape == x.shape and decoded.min() >= 0 and decoded.max() <= 1
    torch.testing.assert_close(out.x_hat, decoded, rtol=0, atol=1e-4)
    real = torch.tensor([8.0 * len(s) for s in streams])
    assert ((out.bits - real).abs() <= 0.01 * real + 64).all()


def test_factors_are_drawn_anew_for_every_sample_and_call() -> None:
    x, codec = clips(1).expand(8, -1, -1, -1, -1), wrapped()
    torch.manual_seed(0)
    sizes = [
        tuple(inner().decompress([codec.taken_apart(s)[1]]).shape[-2:]) for s in codec.compress(x) + codec.compress(x)
    ]
    assert len(set(sizes)) > 6
    assert all(0.6 * 33 - 0.5 <= h <= 0.9 * 33 + 0.5 and 0.6 * 47 - 0.5 <= w <= 0.9 * 47 + 0.5 for h, w in sizes)


def test_what_is_coded_is_the_small_clip_and_the_size_is_counted() -> None:
    x, codec = clips(2), wrapped(0.5, 0.5)
    small = scaled(x, 16, 24).clamp(0, 1)  # round(33 / 2) and round(47 / 2), to the even number
    streams = codec.compress(x)
    assert [codec.taken_apart(s)[1] for s in streams] == inner().compress(small)
    torch.testing.assert_close(codec(x).bits, inner()(small).bits + 8 * SIZE.size)
    torch.testing.assert_close(codec.decompress(streams), scaled(inner()(small).x_hat, 33, 47).clamp(0, 1))
    parts = codec.anatomy(streams[0])
    assert parts[0].bits == 8 * SIZE.size and sum(p.bits for p in parts) == 8 * len(streams[0])


@pytest.mark.parametrize("size", [(20, 29), (70, 101)])
def test_scaling_is_pillows_antialiased_bicubic(size: tuple[int, int]) -> None:
    x = (clips(1, 1) * 255).round() / 255
    ours = scaled(x, *size)[0, 0].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
    image = Image.fromarray(x[0, 0].mul(255).round().byte().permute(1, 2, 0).numpy())
    theirs = np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.float32)
    assert np.abs(ours - theirs).max() < 1.1  # Pillow rounds after each direction


def test_a_factor_of_one_changes_nothing_but_the_header() -> None:
    x, codec = clips(2), wrapped(1, 1)
    assert [codec.taken_apart(s)[1] for s in codec.compress(x)] == inner().compress(x)
    torch.testing.assert_close(codec(x).x_hat, inner()(x).x_hat)


def test_gradient_goes_through_both_scalings() -> None:
    x, codec, target = clips(2), wrapped(), clips(2).flip(-1)
    leaf = x.clone().requires_grad_()
    torch.manual_seed(3)
    (grad,) = torch.autograd.grad((codec(leaf).x_hat - target).square().sum(), leaf)
    torch.manual_seed(3)
    factors = [0.6 + 0.3 * float(torch.rand(())) for _ in x]
    for i, f in enumerate(factors):
        alone = x[i : i + 1].clone().requires_grad_()
        small = scaled(alone, round(33 * f), round(47 * f)).clamp(0, 1)
        x_hat = scaled(inner()(small).x_hat, 33, 47).clamp(0, 1)
        (expected,) = torch.autograd.grad((x_hat - target[i : i + 1]).square().sum(), alone)
        torch.testing.assert_close(grad[i : i + 1], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert grad.any()


def test_an_oracle_averages_over_draws() -> None:
    x = clips(1, 1)
    assert wrapped().randomised and not wrapped(0.7, 0.7).randomised
    noisy = (x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)

    def spread(draws: int) -> float:
        oracle = Oracle(wrapped(), SourceDistortion(), x, "white", draws=draws)
        torch.manual_seed(0)
        return float(torch.stack([oracle(noisy) for _ in range(24)]).detach().std())

    assert spread(8) < 0.7 * spread(1)


def test_only_a_fixed_size_shows_latents() -> None:
    x = clips(2)
    assert wrapped(0.7, 0.7)(x).latents[0].shape[0] == 2
    with pytest.raises(AttackError, match="no latents"):
        _ = wrapped()(x).latents


def test_damaged_streams_are_refused() -> None:
    codec = wrapped(0.7, 0.7)
    stream = codec.compress(clips(1))[0]
    for bit in range(8 * SIZE.size):
        wrong = bytearray(stream)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError, match="checksum"):
            codec.decompress([bytes(wrong)])
    for length in (0, 3, SIZE.size, len(stream) - 1):
        with pytest.raises(StreamError):
            codec.decompress([stream[:length]])
    with pytest.raises(StreamError, match="other parameters"):
        wrapped(0.4, 0.5).decompress([stream])
    other = codec.compress(clips(1, 2, 16, 16))[0]
    with pytest.raises(StreamError, match="checksum"):
        codec.decompress([other[: SIZE.size] + stream[SIZE.size :]])
    with pytest.raises(StreamError, match="different sizes"):
        codec.decompress([stream, other])


def test_it_keeps_a_codecs_promises() -> None:
    photos = [clips(1, 1, 72, 88), clips(2, 1, 72, 88)[1:]]
    checks = check(wrapped(0.85, 0.85), photos, lambda: wrapped(0.85, 0.85))
    assert not [c for c in checks if not c.passed]


def test_files_stay_files_inside() -> None:
    codec = wrapped(0.5, 0.5, codecs.build("jpeg"))
    assert not codec.differentiable and codec.card.name == "jpeg:quality=75+resize"
    with Image.open(io.BytesIO(codec.taken_apart(codec.compress(clips(1, 1))[0])[1])) as image:
        assert image.size == (24, 16)


@pytest.mark.parametrize("spec", ["low=0", "low=0.9,high=0.8", "high=1.1"])
def test_factors_are_checked(spec: str) -> None:
    with pytest.raises(BadParameter, match="0 < low <= high <= 1"):
        defenses.build(f"resize:{spec}")
