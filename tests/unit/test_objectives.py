"""Objectives: formulas by hand, their levels and gradients, and only the branch they need."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2ycbcr
from torch import Tensor

from robustcodec.errors import BadParameter
from robustcodec.interfaces import Objective, Output
from robustcodec.objectives.damage import luma, ycbcr
from robustcodec.registry import objectives
from robustcodec.scores import metrics

BITS, CLEAN_BITS = torch.tensor([120.0, 60.0]), torch.tensor([80.0, 90.0])
RATES = ("rate", "rate-down")
JOINT = ("rate-distortion", "rate-constrained-distortion")


def forbidden() -> Tensor:
    raise AssertionError("this branch must not be evaluated")


def clips(count: int, *shape: int, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=rng) for _ in range(count)]


def outputs(name: str, clean: Tensor, attacked: Tensor) -> tuple[Output, Output]:
    """Clean and attacked output that show what ``name`` may look at and nothing else."""
    branches = {"x_hat": name not in RATES, "bits": name in RATES + JOINT}

    def output(x_hat: Tensor, bits: Tensor) -> Output:
        return Output(
            (lambda: x_hat) if branches["x_hat"] else forbidden, (lambda: bits) if branches["bits"] else forbidden
        )

    return output(clean, CLEAN_BITS), output(attacked, BITS)


def numpy_luma(clip: NDArray[np.float64]) -> NDArray[np.float64]:
    weighted: NDArray[np.float64] = 0.299 * clip[:, :, 0] + 0.587 * clip[:, :, 1] + 0.114 * clip[:, :, 2]
    return weighted[:, :, None]


def numpy_ycbcr(clip: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix of JFIF, to four digits."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    values: NDArray[np.float64] = np.einsum("dc,ntchw->ntdhw", matrix, clip) + np.array([0, 0.5, 0.5])[:, None, None]
    return values


SEEN = {"rgb": lambda clip: clip, "luma": numpy_luma, "ycbcr": numpy_ycbcr}


def mean(values: NDArray[Any]) -> NDArray[Any]:
    per_sample: NDArray[Any] = values.reshape(len(values), -1).mean(1)
    return per_sample


@pytest.mark.parametrize("space", list(SEEN))
def test_formulas_and_levels(space: str) -> None:
    x, x_adv, clean, attacked = clips(4, 2, 3, 3, 4, 5)
    a, b, c, d = (t.double().numpy() for t in (x, clean, attacked, x_adv))
    a, b, c, d = (SEEN[space](t) for t in (a, b, c, d))
    bits, before = BITS.double().numpy(), CLEAN_BITS.double().numpy()
    error, clean_error, moved = mean((c - a) ** 2), mean((b - a) ** 2), mean((c - b) ** 2)
    wanted: dict[str, tuple[Any, Any]] = {  # damage and level at tau = 3
        "distortion": (moved, 2 * clean_error),
        "source-distortion": (error, 3 * clean_error),
        "own-distortion": (mean((c - d) ** 2), 3 * clean_error),
        "added-noise": (mean(((c - b) - (d - a)) ** 2), 2 * clean_error),
        "rate": (bits / 60, 3 * before / 60),  # 3 frames of 4x5 pixels
        "rate-down": (-bits / 60, -before / 60 / 3),
        "rate-distortion:0.5": (np.log2(error / clean_error * (bits / before) ** 0.5), [math.log2(3)] * 2),
        "rate-constrained-distortion:limit=1.25,kappa=0.5": (moved - [0.5 * (1.5 - 1.25), 0], 2 * clean_error),
        "frame:1": (mean((c - b)[:, 1] ** 2), 2 * mean((b - a)[:, 1] ** 2)),
        "frame:-1": (mean((c - b)[:, 2] ** 2), 2 * mean((b - a)[:, 2] ** 2)),
        "drift": (mean((c - b)[:, 2:] ** 2), 2 * mean((b - a)[:, 2:] ** 2)),  # half of three frames: one
        "drift:2": (mean((c - b)[:, 1:] ** 2), 2 * mean((b - a)[:, 1:] ** 2)),
    }
    for name, (value, level) in wanted.items():
        family = name.partition(":")[0]
        chosen = "" if family in RATES else f",space={space}"
        objective = objectives.build(f"{name}{',' if ':' in name else ':'}tau=3{chosen}")
        before_out, after_out = outputs(family, clean, attacked)
        np.testing.assert_allclose(objective(x, before_out, after_out, x_adv).numpy(), value, rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(objective.level(x, before_out).numpy(), level, rtol=1e-4, err_msg=name)


def test_level_of_distortion_is_a_fall_in_psnr_of_uncorrelated_damage() -> None:
    """With tau = 2 a codec counts as broken where its PSNR has fallen by 3 dB."""
    (x,) = clips(1, 1, 1, 3, 64, 64)
    error, damage = (0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    clean = Output(lambda: x + error, forbidden)
    attacked = Output(lambda: x + error + damage, forbidden)
    objective = objectives.build("distortion")
    assert float(objective(x, clean, attacked, x) / objective.level(x, clean)) == pytest.approx(1, rel=0.05)
    fall = metrics.decibels((error**2).mean()) - metrics.decibels(((error + damage) ** 2).mean())
    assert float(fall) == pytest.approx(3.01, abs=0.15)


def test_luma_is_that_of_pillow_and_scikit_image() -> None:
    pixels = torch.randint(0, 256, (1, 1, 3, 24, 32), generator=torch.Generator().manual_seed(3))
    ours = luma(pixels / 255)[0, 0, 0].double().numpy()
    rgb = pixels[0, 0].permute(1, 2, 0).numpy().astype(np.uint8)
    pillow = np.asarray(Image.fromarray(rgb).convert("L")) / 255
    assert np.abs(ours - pillow).max() <= 0.51 / 255  # Pillow rounds
    np.testing.assert_allclose(ours, (rgb2ycbcr(rgb / 255.0)[..., 0] - 16) / 219, atol=1e-5)


def test_colour_differences_are_those_of_pillow() -> None:
    pixels = torch.randint(0, 256, (1, 1, 3, 24, 32), generator=torch.Generator().manual_seed(3))
    ours = ycbcr(pixels / 255)[0, 0].permute(1, 2, 0).numpy()
    rgb = Image.fromarray(pixels[0, 0].permute(1, 2, 0).numpy().astype(np.uint8))
    pillow = np.asarray(rgb.convert("YCbCr")) / 255  # which has its zero at 128 of 255
    assert np.abs(ours - pillow + [0, 0.5 / 255, 0.5 / 255]).max() <= 1.01 / 255


@pytest.mark.parametrize("name", ["ms-ssim", "lpips:squeeze"])
@pytest.mark.parametrize("space", ["rgb", "luma"])
def test_perceptual_distances_are_the_metrics(name: str, space: str, backbone: None) -> None:
    x, clean, attacked, x_adv = clips(4, 2, 2, 3, 40, 48)
    clean, attacked = 0.7 * x + 0.3 * clean, 0.5 * x + 0.5 * attacked
    metric = metrics.ms_ssim() if name == "ms-ssim" else metrics.lpips("squeeze")
    sign, offset = (-1, 1) if name == "ms-ssim" else (1, 0)
    a, b, c, d = ((luma(t).repeat(1, 1, 3, 1, 1) if space == "luma" else t) for t in (x, clean, attacked, x_adv))
    before, after = outputs("distortion", clean, attacked)
    for against, reference, factor in (("clean", b, 2), ("source", a, 3), ("own", d, 3)):
        separator = "," if ":" in name else ":"
        objective = objectives.build(f"{name}{separator}against={against},space={space},tau=3")
        damage = objective(x, before, after, x_adv)
        torch.testing.assert_close(damage, offset + sign * metric.fn(reference, c), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            objective.level(x, before), factor * (offset + sign * metric.fn(a, b)), rtol=1e-4, atol=1e-5
        )


SMOOTH = ["distortion", "distortion:luma", "distortion:ycbcr", "source-distortion", "own-distortion", "added-noise",
          "pointwise-added-noise", "rate", "rate-down", "rate-distortion", "rate-constrained-distortion", "frame:0",
          "drift"]  # fmt: skip


def damage_of(objective: Objective, x: Tensor) -> Any:
    """Damage as a function of the attacked input, for a smooth codec."""
    clean = Output(lambda: x.square(), lambda: x.flatten(1).exp().sum(1))

    def damage(x_adv: Tensor) -> Tensor:
        after = Output(lambda: x_adv.square(), lambda: x_adv.flatten(1).exp().sum(1))
        value: Tensor = objective(x, clean, after, x_adv)
        return value

    return damage


@pytest.mark.parametrize("name", SMOOTH)
def test_damage_is_differentiable(name: str) -> None:
    x = torch.rand(2, 2, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = (x + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(damage_of(objectives.build(name), x), (start,))


@pytest.mark.parametrize("name", ["ms-ssim", "ms-ssim:luma", "ms-ssim:ycbcr,against=source", "ms-ssim:against=own"])
def test_ms_ssim_has_its_derivative(name: str) -> None:
    x, other, direction = (c.double() for c in clips(3, 1, 1, 3, 36, 40))
    start = 0.8 * x + 0.2 * other
    damage = damage_of(objectives.build(name), x)
    leaf = start.clone().requires_grad_()
    (grad,) = torch.autograd.grad(damage(leaf).sum(), leaf)
    step = 1e-5
    slope = (damage(start + step * direction) - damage(start - step * direction)) / (2 * step)
    assert float((grad * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_pointwise_noise_is_weighed_by_a_gaussian_window() -> None:
    """NIC-RobustBench's window: 19 x 19 pixels, sigma 3, here around row 10 and column 19 of a frame of 21 x 39."""
    x, clean, attacked, x_adv = clips(4, 1, 1, 3, 21, 39)
    row, column = np.mgrid[:21, :39]
    window = np.exp(-((row - 10) ** 2 + (column - 19) ** 2) / 18) * (abs(row - 10) <= 9) * (abs(column - 19) <= 9)
    a, b, c, d = (t.double().numpy() for t in (x, clean, attacked, x_adv))
    expected = (((c - b) - (d - a)) ** 2 * window).sum() / window.sum() / 3
    objective = objectives.build("pointwise-added-noise")
    damage = objective(x, *outputs("distortion", clean, attacked), x_adv)
    assert float(damage) == pytest.approx(expected, rel=1e-5)


def test_own_distortion_has_a_gradient_where_the_codec_has_none() -> None:
    (x,) = clips(1, 1, 1, 3, 4, 4)
    shown = torch.zeros_like(x)
    x_adv = x.clone().requires_grad_()
    damage = objectives.build("own-distortion")(
        x, Output(lambda: x, forbidden), Output(lambda: shown, forbidden), x_adv
    )
    (grad,) = torch.autograd.grad(damage.sum(), x_adv)
    torch.testing.assert_close(grad, 2 * x / x.numel())


def test_ms_ssim_of_an_inverted_picture_is_the_worst_and_has_no_nan_gradient() -> None:
    (x,) = clips(1, 1, 1, 3, 40, 40)
    inverted = (1 - x).requires_grad_()
    clean = Output(lambda: x, forbidden)
    damage = objectives.build("ms-ssim")(x, clean, Output(lambda: inverted, forbidden), inverted)
    (grad,) = torch.autograd.grad(damage.sum(), inverted)
    assert damage.tolist() == [1] and torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("name", ["ms-ssim:luma", "distortion:luma"])
def test_damage_is_computed_in_float32_whatever_the_codec_runs_in(name: str) -> None:
    x, noise = clips(2, 1, 1, 3, 40, 40)
    clean, attacked = Output(lambda: x, forbidden), Output(lambda: x + 0.01 * noise, forbidden)
    objective = objectives.build(name)
    expected = objective(x, clean, attacked, x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(objective(x, clean, attacked, x), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "size"), [("ms-ssim", 32), ("lpips:squeeze", 16)])
def test_frames_too_small_are_a_mistake_and_not_nan(name: str, size: int, backbone: None) -> None:
    (x,) = clips(1, 1, 1, 3, size, 48)
    out = Output(lambda: x, forbidden)
    with pytest.raises(BadParameter, match=f"48x{size} pixels are too small"):
        objectives.build(name)(x, out, out, x)


@pytest.mark.parametrize(("name", "frames"), [("frame:3", 3), ("frame:-4", 3), ("drift", 1), ("drift:3", 3)])
def test_clips_too_short_say_how_long_they_are(name: str, frames: int) -> None:
    (x,) = clips(1, 1, frames, 3, 4, 4)
    out = Output(lambda: x, forbidden)
    with pytest.raises(BadParameter, match=f"{frames} frame"):
        objectives.build(name)(x, out, out, x)


@pytest.mark.parametrize(
    "spec",
    ["distortion:tau=1", "rate:tau=nan", "rate-distortion:weight=nan", "rate-constrained-distortion:limit=0",
     "rate-constrained-distortion:kappa=-1", "drift:0", "drift:1.5", "frame:x", "lpips:net=resnet", "ms-ssim:hsv"],
)  # fmt: skip
def test_impossible_parameters_are_refused(spec: str) -> None:
    with pytest.raises(BadParameter, match="expected"):
        objectives.build(spec)
