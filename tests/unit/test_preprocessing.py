"""Preprocessors against scipy, scikit-image, Pillow and numpy; their gradients; and that bytes stay the codec's."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor
from toys import clips

from robustcodec.defenses.bitdepth import reduced
from robustcodec.defenses.blur import blurred
from robustcodec.defenses.median import filtered
from robustcodec.defenses.noise import SmoothCodec, noisy
from robustcodec.defenses.preprocessing import PreprocessedCodec, reflected, with_gradient_of
from robustcodec.defenses.tv import denoised
from robustcodec.errors import BadParameter, StreamError
from robustcodec.interfaces import Codec
from robustcodec.registry import codecs, defenses
from robustcodec.rounding import Surrogate, rounding
from robustcodec.studies.check import check

Plane = np.ndarray[Any, Any]
DRAWN = ["noise:sigma=0.05", "smooth:sigma=0.05,draws=3"]
FIXED = ["bitdepth:bits=4", "jpeg:quality=30", "blur:sigma=0.8", "median:size=3", "tv:steps=5", "h264:crf=30"]


@cache
def inner() -> Codec:
    codec: Codec = codecs.build("bmshj2018-factorized.tiny-q1")
    return codec.requires_grad_(False).eval()


def wrapped(spec: str, codec: Codec | None = None) -> PreprocessedCodec:
    made = defenses.build(spec).wrap(codec or inner())
    assert isinstance(made, PreprocessedCodec)
    return made


def planes(x: Tensor, change: Callable[[Plane], Plane]) -> Tensor:
    """``change`` of every plane, in double precision."""
    out = [change(plane) for plane in x.double().flatten(0, 2).numpy()]
    return torch.from_numpy(np.stack(out)).view(x.shape).float()


# -- against other implementations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 7), (20, 31)])
@pytest.mark.parametrize("sigma", [0.3, 1.1, 2.5])
def test_blur_is_scipys(size: tuple[int, int], sigma: float) -> None:
    x = clips(1, 2, *size)
    expected = planes(x, lambda p: scipy.ndimage.gaussian_filter(p, sigma, mode="reflect"))
    torch.testing.assert_close(blurred(x, sigma), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 7), (20, 31)])
@pytest.mark.parametrize("side", [1, 3, 5])
def test_median_is_scipys(size: tuple[int, int], side: int) -> None:
    x = clips(1, 2, *size)
    expected = planes(x, lambda p: scipy.ndimage.median_filter(p, side, mode="reflect"))
    assert torch.equal(filtered(x, side), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (20, 31)])
@pytest.mark.parametrize(("weight", "steps"), [(0.02, 20), (0.3, 7), (0.1, 1)])
def test_tv_is_scikit_images(size: tuple[int, int], weight: float, steps: int) -> None:
    x = clips(1, 2, *size)
    expected = planes(x, lambda p: denoise_tv_chambolle(p, weight, eps=0, max_num_iter=steps + 1))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(denoised(x, weight, steps), expected, rtol=0, atol=1e-5)


def test_tv_lowers_what_it_minimises() -> None:
    x, weight = clips(1), 0.1

    def cost(u: Tensor) -> float:
        down, right = u.diff(dim=-2)[..., :, :-1], u.diff(dim=-1)[..., :-1, :]
        return float(0.5 * (u - x).square().sum() + weight * (down.square() + right.square()).sqrt().sum())

    costs = [cost(x), *(cost(denoised(x, weight, steps)) for steps in (2, 10, 50))]
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.9 * costs[0]


@pytest.mark.parametrize("bits", [1, 3, 6, 8])
def test_bitdepth_keeps_so_many_equally_spaced_values(bits: int) -> None:
    every = torch.arange(256).view(1, 1, 1, 16, 16).expand(1, 1, 3, 16, 16) / 255
    out = reduced(every, bits)
    expected = np.rint(every.double().numpy() * (2**bits - 1)) / (2**bits - 1)
    torch.testing.assert_close(out.double(), torch.from_numpy(expected), rtol=0, atol=1e-7)
    assert len(set(out.flatten().tolist())) == 2**bits and out.min() == 0 and out.max() == 1
    assert bits < 8 or torch.equal(out, every)


def test_jpeg_is_a_generation_of_pillows() -> None:
    x = clips(2, 2)
    coded = wrapped("jpeg:quality=30").preprocessed(x)
    for frame, ours in zip(x.flatten(0, 1), coded.flatten(0, 1), strict=True):
        file = io.BytesIO()
        Image.fromarray((frame * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=30)
        with Image.open(file) as image:
            assert np.array_equal(np.asarray(image), (ours * 255).round().byte().permute(1, 2, 0).numpy())


def test_h264_codes_the_clip_as_a_whole() -> None:
    x, real = clips(1, 4), codecs.build("h264:crf=30")
    coded = wrapped("h264:crf=30").preprocessed(x)
    assert torch.equal(coded, real.decompress(real.compress(x)))
    alone = torch.cat([wrapped("h264:crf=30").preprocessed(x[:, t : t + 1]) for t in range(4)], 1)
    assert not torch.equal(coded, alone)  # frames refer to one another
    errors = [(wrapped(f"h264:crf={crf}").preprocessed(x) - x).square().mean() for crf in (10, 30, 45)]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 7)])
@pytest.mark.parametrize("margin", [0, 1, 5, 12])
def test_edges_are_mirrored_as_numpy_does(shape: tuple[int, int], margin: int) -> None:
    x = torch.arange(shape[0] * shape[1]).view(shape)
    assert np.array_equal(reflected(x, margin).numpy(), np.pad(x.numpy(), margin, mode="symmetric"))


# -- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [partial(blurred, sigma=0.8), partial(filtered, size=3), partial(denoised, weight=0.1, steps=4)],
    ids=["blur", "median", "tv"],
)
def test_gradients_are_derivatives(change: Callable[[Tensor], Tensor]) -> None:
    values = torch.randperm(2 * 3 * 4 * 5, generator=torch.Generator().manual_seed(0)) / 160 + 0.1  # no two alike
    x = values.double().view(1, 2, 3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(change, x, eps=1e-5)


def test_a_flat_clip_has_a_gradient() -> None:
    for spec in FIXED:
        x = torch.full((1, 1, 3, 16, 16), 0.5, requires_grad=True)
        (grad,) = torch.autograd.grad(wrapped(spec).preprocessed(x).sum(), x)
        assert grad.isfinite().all() and grad.any(), spec


@pytest.mark.parametrize("spec", ["jpeg:quality=30", "h264:crf=30"])
@pytest.mark.parametrize("surrogate", ["straight-through", "none", "noise", "soft"])
def test_a_surrogate_gives_the_gradient_and_no_value(spec: str, surrogate: Surrogate) -> None:
    x, weights = clips(1), torch.rand(1, 1, 3, 33, 47, generator=torch.Generator().manual_seed(0))
    guide = codecs.build("diff-jpeg:quality=30")

    def slope(of: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        torch.manual_seed(0)
        with rounding(surrogate):
            value = of(leaf)
        (grad,) = torch.autograd.grad((weights * value).sum(), leaf)
        return value.detach(), grad

    value, grad = slope(wrapped(spec).preprocessed)
    assert torch.equal(value, wrapped(spec).preprocessed(x))
    expected = weights if spec.startswith("h264") else slope(lambda leaf: guide(leaf).x_hat)[1]
    torch.testing.assert_close(grad, expected)


def test_bitdepth_is_rounded_as_an_attack_says() -> None:
    x = clips(1)
    with rounding("none"):
        torch.testing.assert_close(reduced(x, 4), x)
    with rounding("noise"):
        noise = 15 * (reduced(x, 4) - x)
    assert noise.abs().max() <= 0.5 + 1e-5 and abs(float(noise.std()) - 12**-0.5) < 0.01
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(reduced(leaf, 4).sum(), leaf)
    torch.testing.assert_close(grad, torch.ones_like(x))
    expected = inner().compress(reduced(x, 2))
    with rounding("none"):  # an attacker's; bytes are bytes
        assert wrapped("bitdepth:bits=2").compress(x) == expected


def test_frozen_rounding_freezes_what_has_no_derivative() -> None:
    x, step = torch.rand(7, generator=torch.Generator().manual_seed(0)), torch.full((7,), 0.2)

    def stairs(at: Tensor) -> Tensor:
        return with_gradient_of(lambda: at.square(), (4 * at).round() / 4)

    with rounding("frozen") as state:
        first = stairs(x)
        state.rewind()
        moved = stairs(x + step)
    assert torch.equal(first, (4 * x).round() / 4)
    torch.testing.assert_close(moved - first, (x + step).square() - x.square())


# -- as codecs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", FIXED)
def test_a_stream_is_the_codecs_of_the_preprocessed_clip(spec: str) -> None:
    x, codec = clips(2, 2), wrapped(spec)
    small = codec.preprocessed(x)
    assert small.shape == x.shape and small.min() >= 0 and small.max() <= 1 + 1e-6 and not torch.equal(small, x)
    streams = codec.compress(x)
    assert streams == inner().compress(small) == [s for clip in x for s in codec.compress(clip[None])]
    assert torch.equal(codec.decompress(streams), inner().decompress(streams))
    assert codec.anatomy(streams[0]) == inner().anatomy(streams[0])
    out, expected = codec(x), inner()(small)
    for ours, theirs in ((out.x_hat, expected.x_hat), (out.bits, expected.bits), (out.latents[0], expected.latents[0])):
        torch.testing.assert_close(ours, theirs)
    assert not codec.randomised and codec.differentiable and codec.exact_forward
    assert codec.state().keys() == inner().state().keys()


@pytest.mark.parametrize("spec", [*FIXED, *DRAWN])
@pytest.mark.parametrize("size", [(1, 1), (2, 31)])
def test_any_size(spec: str, size: tuple[int, int]) -> None:
    x, codec = clips(2, 2, *size), wrapped(spec)
    torch.manual_seed(3)
    decoded = codec.decompress(codec.compress(x))
    torch.manual_seed(3)
    assert decoded.shape == x.shape and decoded.min() >= 0 and decoded.max() <= 1
    torch.testing.assert_close(codec(x).x_hat, decoded, rtol=0, atol=1e-4)


@pytest.mark.parametrize("spec", [s for s in (*FIXED, "smooth:draws=2") if s[:2] not in ("bl", "tv")])
def test_it_keeps_a_codecs_promises(spec: str) -> None:
    photos = [clip[None] for clip in clips(2, 1, 16, 24)]
    checks = check(wrapped(spec), photos, lambda: wrapped(spec))
    assert not [c for c in checks if not c.passed]


def test_gradients_reach_the_input_through_the_codec() -> None:
    x, weights = clips(1), torch.rand(1, 1, 3, 33, 47, generator=torch.Generator().manual_seed(0))
    leaf, mid = x.clone().requires_grad_(), blurred(x, 0.8).requires_grad_()
    (grad,) = torch.autograd.grad((weights * wrapped("blur:sigma=0.8")(leaf).x_hat).sum(), leaf)
    (slope,) = torch.autograd.grad((weights * inner()(mid).x_hat).sum(), mid)
    torch.testing.assert_close(grad, blurred_back(slope, x), rtol=1e-4, atol=1e-4 * float(grad.abs().max()))


def blurred_back(slope: Tensor, x: Tensor) -> Tensor:
    """The transpose of the blur, applied to ``slope``."""
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(blurred(leaf, 0.8), leaf, slope)
    return grad


def test_two_of_them_stack() -> None:
    x = clips(2)
    codec = wrapped("bitdepth:bits=3", wrapped("blur:sigma=0.8"))
    assert codec.compress(x) == inner().compress(blurred(reduced(x, 3), 0.8))
    assert codec.compress(x) != wrapped("blur:sigma=0.8", wrapped("bitdepth:bits=3")).compress(x)
    torch.testing.assert_close(codec(x).x_hat, codec.decompress(codec.compress(x)), rtol=0, atol=1e-4)
    random = wrapped("smooth:sigma=0.05,draws=2", wrapped("blur", wrapped("noise:sigma=0.05")))
    torch.manual_seed(1)
    decoded = random.decompress(random.compress(x))
    torch.manual_seed(1)
    torch.testing.assert_close(random(x).x_hat, decoded, rtol=0, atol=1e-4)
    assert random.randomised and random.card.name == f"{inner().card.name}+noise+blur+smooth"


def test_files_stay_files() -> None:
    codec = wrapped("blur", codecs.build("jpeg:quality=50"))
    assert not codec.differentiable and codec.card.name == "jpeg:quality=50+blur"
    with Image.open(io.BytesIO(codec.compress(clips(1))[0])) as image:
        assert image.format == "JPEG" and image.size == (47, 33)


def test_names_say_whose_gradient_it_is() -> None:
    names = {spec: wrapped(spec).card.name.removeprefix(inner().card.name) for spec in FIXED}
    assert names["jpeg:quality=30"] == "+jpeg (gradient of diff-jpeg:quality=30)"
    assert names["h264:crf=30"] == "+h264 (gradient of the identity)"
    assert names["bitdepth:bits=4"] == "+bitdepth (gradient by the surrogate of rounding)"
    assert [names[f] for f in FIXED[2:5]] == ["+blur", "+median", "+tv"]
    assert "pillow" in defenses.build("jpeg").fingerprint() and "libx264" in defenses.build("h264").fingerprint()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("bitdepth:bits=0", "1 to 8"),
        ("bitdepth:bits=9", "1 to 8"),
        ("jpeg:quality=0", "1 .smallest. to 100"),
        ("blur:sigma=0", "a positive number of pixels"),
        ("blur:sigma=inf", "cannot be read"),
        ("median:size=2", "an odd number"),
        ("median:size=-1", "an odd number"),
        ("tv:weight=0", "a positive weight"),
        ("tv:steps=0", "a step or more"),
        ("noise:sigma=-1", "positive standard deviation"),
        ("smooth:draws=0", "at least 1"),
        ("h264:crf=52", "0 .finest. to 51"),
    ],
)
def test_parameters_are_checked(spec: str, expected: str) -> None:
    with pytest.raises(BadParameter, match=expected):
        defenses.build(spec)


# -- noise -------------------------------------------------------------------------------------------------------------


def test_noise_is_gaussian_and_drawn_anew() -> None:
    x = torch.full((1, 1, 3, 64, 64), 0.5)
    torch.manual_seed(0)
    noise = ((noisy(x, 0.03) - x) / 0.03).flatten().double()
    assert scipy.stats.kstest(noise.numpy(), "norm").pvalue > 0.01
    codec = wrapped("noise:sigma=0.1")
    once, again = codec.compress(clips()), codec.compress(clips())
    assert codec.randomised and once != again
    same = clips(1).expand(2, -1, -1, -1, -1)
    assert len(set(codec.compress(same))) == 2  # each sample has its own
    extreme = noisy(torch.tensor([0.0, 1.0]).repeat(50), 1.0)
    assert extreme.min() == 0 and extreme.max() == 1


def test_smoothing_shows_the_mean_of_what_it_sends() -> None:
    x, codec = clips(2, 2), wrapped("smooth:sigma=0.05,draws=3")
    assert isinstance(codec, SmoothCodec)
    torch.manual_seed(7)
    streams = codec.compress(x)
    torch.manual_seed(7)
    parts = [inner().compress(torch.cat([noisy(clip[None], 0.05) for clip in x])) for _ in range(3)]
    decoded = torch.stack([inner().decompress(part) for part in parts]).mean(0)
    torch.testing.assert_close(codec.decompress(streams), decoded)
    for i, stream in enumerate(streams):
        mine = b"".join(part[i] for part in parts)
        assert mine in stream and len(stream) - len(mine) <= 24  # the header
        pieces = codec.anatomy(stream)
        assert sum(p.bits for p in pieces) == 8 * len(stream)
        assert [p.name for p in pieces].count("y") == 6  # of two frames, three times
    torch.manual_seed(7)
    out = codec(x)
    real = torch.tensor([8.0 * len(s) for s in streams])
    assert ((out.bits - real).abs() <= 0.01 * real + 3 * 64).all()
    assert len(out.latents) == 3


def test_smoothing_averages_the_noise_away() -> None:
    x = clips(1)

    def spread(spec: str) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return float(torch.cat([wrapped(spec)(x).x_hat for _ in range(8)]).var(0).mean())

    assert spread("smooth:sigma=0.1,draws=8") < 0.25 * spread("noise:sigma=0.1")


def test_damaged_smooth_streams_are_refused() -> None:
    codec = wrapped("smooth:sigma=0.05,draws=2")
    stream = codec.compress(clips(1))[0]
    for at in range(0, len(stream), 7):
        with pytest.raises(StreamError):
            codec.decompress([stream[:at]])
        with pytest.raises(StreamError):
            codec.decompress([stream[:at] + bytes([stream[at] ^ 1]) + stream[at + 1 :]])
    with pytest.raises(StreamError, match="decode it with the codec that wrote it"):
        wrapped("smooth:sigma=0.05,draws=3").decompress([stream])
    with pytest.raises(StreamError, match="different sizes"):
        codec.decompress([stream, codec.compress(clips(1, 1, 16, 16))[0]])
