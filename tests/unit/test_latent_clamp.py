"""Clamped latents: ranges by brute force, streams that the bare codec decodes, and no trace left in it."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robustcodec.defenses.latent_clamp import LatentClampCodec
from robustcodec.errors import BadData, BadParameter
from robustcodec.interfaces import Codec
from robustcodec.registry import codecs, data, defenses
from robustcodec.studies.check import check

SPEC = "latent-clamp:data=photos:size=48"


@cache
def inner() -> Codec:
    codec: Codec = codecs.build("bmshj2018-factorized.tiny-q1")
    return codec.requires_grad_(False).eval()


def wrapped(spec: str = SPEC, codec: Codec | None = None) -> LatentClampCodec:
    made = defenses.build(spec).wrap(codec or inner())
    assert isinstance(made, LatentClampCodec)
    return made


def photos(size: int = 48) -> Tensor:
    return torch.stack([s.load() for s in data.build(f"photos:size={size}").samples()]).float() / 255


def wild() -> Tensor:
    """Noise of full contrast, 33 x 47: latents that no photo has."""
    return (torch.rand(2, 2, 3, 33, 47, generator=torch.Generator().manual_seed(0)) > 0.5).float()


def latent(x: Tensor, codec: Codec | None = None) -> Tensor:
    """``g_a`` of all frames, padded as the codec pads them."""
    frames = F.pad(x.flatten(0, 1), (0, -x.shape[-1] % 16, 0, -x.shape[-2] % 16), mode="replicate")
    with torch.no_grad():
        y: Tensor = (codec or inner()).get_submodule("net.g_a")(frames)
    return y


def extremes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of every channel, ``(1, C, 1, 1)``."""
    y = latent(x)
    return y.amin((0, 2, 3), keepdim=True), y.amax((0, 2, 3), keepdim=True)


def test_ranges_are_those_of_the_clean_images() -> None:
    low, high = extremes(photos())
    for margin in (0.0, 0.5):
        (seen,) = wrapped(f"{SPEC},margin={margin}").ranges
        for ours, theirs in ((seen.low, low - margin * (high - low)), (seen.high, high + margin * (high - low))):
            torch.testing.assert_close(ours, theirs.flatten(), rtol=1e-5, atol=1e-5)
    some = defenses.build("latent-clamp:data=folder:pictures;crop=8")
    with pytest.raises(BadData, match="pictures is not a folder"):
        some.made_on()
    assert [s.id for s in defenses.build(SPEC).made_on()] == [s.id for s in data.build("photos").samples()]


def test_clean_images_are_coded_as_before_and_others_are_not() -> None:
    codec, x = wrapped(), photos()
    assert codec.compress(x) == inner().compress(x)
    assert codec.compress(wild()) != inner().compress(wild())


def test_what_is_coded_is_the_clamped_latent() -> None:
    codec, x = wrapped(), wild()
    y, (low, high) = latent(x), extremes(photos())
    assert ((y < low) | (y > high)).float().mean() > 0.01
    out = codec(x)
    coded = out.latents[0].flatten(0, 1)
    medians = inner().get_parameter("net.entropy_bottleneck.quantiles")[:, 0, 1].view(1, -1, 1, 1)
    expected = (y.clamp(low, high) - medians).round() + medians
    assert (coded - expected).abs().gt(1e-3).float().mean() < 1e-3  # but for latents half way between two levels
    streams = codec.compress(x)
    decoded = inner().decompress(streams)  # by a decoder that knows of no defense
    assert torch.equal(decoded, codec.decompress(streams))
    torch.testing.assert_close(out.x_hat, decoded, rtol=0, atol=1e-4)
    real = torch.tensor([8.0 * len(s) for s in streams])
    assert ((out.bits - real).abs() <= 0.01 * real + 64).all()
    assert codec.anatomy(streams[0]) == inner().anatomy(streams[0])


def test_nothing_stays_in_the_codec() -> None:
    codec: Codec = codecs.build("bmshj2018-factorized.tiny-q1").eval()
    x = wild()
    before = codec.compress(x)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    clamped = wrapped(SPEC, codec)
    assert torch.equal(torch.random.get_rng_state(), state)
    lazy = clamped(x)
    with pytest.raises(RuntimeError):
        clamped(x[:, :, :1])  # one colour
    assert codec.compress(x) == before
    assert not any(m._forward_hooks for m in codec.modules())
    torch.testing.assert_close(lazy.x_hat, clamped.decompress(clamped.compress(x)), rtol=0, atol=1e-4)
    assert clamped.state().keys() == codec.state().keys()
    assert not clamped.randomised and clamped.card.name.endswith("+latent-clamp")


def test_the_gradient_is_the_clamps() -> None:
    codec, x = wrapped(), wild()[:1, :1, :, :32, :32]
    weights = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((weights * codec(leaf).x_hat).sum(), leaf)
    network, decoder = inner().get_submodule("net.g_a"), inner().get_submodule("net.g_s")
    low, high = extremes(photos())
    alone = x.clone().requires_grad_()
    y = network(alone[0])
    inside = ((y >= low) & (y <= high)).float()
    at = codec(x).latents[0][0].detach().requires_grad_()  # straight-through
    shown = decoder(at)
    (slope,) = torch.autograd.grad((weights * shown.clamp(0, 1)).sum(), at)
    (expected,) = torch.autograd.grad(y, alone, slope * inside)
    assert 0 < inside.mean() < 1
    torch.testing.assert_close(grad, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_ranges_follow_the_weights() -> None:
    codec: Codec = codecs.build("bmshj2018-factorized:weights=random").eval()
    clamped = wrapped(SPEC, codec)
    (seen,) = clamped.ranges
    before = seen.get_buffer("high").clone()
    with torch.no_grad():
        last: Any = codec.get_submodule("net.g_a.6")
        last.weight.mul_(3), last.bias.mul_(3)
    clamped.train()
    clamped.refresh()
    torch.testing.assert_close(seen.get_buffer("high"), 3 * before)
    assert clamped.training and codec.training


def test_video_codecs_are_clamped_too() -> None:
    bare: Codec = codecs.build("rdae:weights=random,config=tiny").eval()
    codec = wrapped("latent-clamp:data=photos:size=32", bare)
    x = wild()[:1]
    network = bare.get_submodule("encoder")
    seen: list[Tensor] = []
    handle = network.register_forward_hook(lambda module, args, y: seen.append(y))
    codec.compress(x), bare.compress(x)
    handle.remove()
    (values,) = codec.ranges
    shape = (1, -1, 1, 1, 1)
    torch.testing.assert_close(seen[0], seen[1])  # what the network itself gives
    assert (seen[1] > values.get_buffer("high").view(shape)).any()
    torch.testing.assert_close(codec(x).x_hat, bare.decompress(codec.compress(x)), rtol=0, atol=1e-4)


def test_around_other_defenses() -> None:
    blurred = defenses.build("blur:sigma=0.6").wrap(inner())
    assert wrapped(SPEC, blurred).compress(photos()) == blurred.compress(photos())
    outside = defenses.build("blur:sigma=0.6").wrap(wrapped())
    x = wild()
    torch.testing.assert_close(outside(x).x_hat, inner().decompress(outside.compress(x)), rtol=0, atol=1e-4)


def test_it_keeps_a_codecs_promises() -> None:
    clips = [clip[None, :, :, :24, :40] for clip in photos()[:2]]
    assert not [c for c in check(wrapped(), clips, wrapped) if not c.passed]


def test_what_cannot_be_clamped_is_refused() -> None:
    with pytest.raises(BadParameter, match="jpeg:quality=75 has none"):
        wrapped(SPEC, codecs.build("jpeg"))
    with pytest.raises(BadData, match="reaches net.(motion|res)_encoder of ssf2020.*data=clips"):
        wrapped("latent-clamp:data=photos:size=8", codecs.build("ssf2020:weights=random,quality=1"))
    with pytest.raises(BadParameter, match="at least 0"):
        defenses.build("latent-clamp:margin=-1")
