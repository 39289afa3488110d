"""Diffusion purification against its formulas, finite differences and diffusers' own files."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor, nn
from toys import SMALL, clips, purified, purified_codec, small, stored_purifier

from robustcodec import weights
from robustcodec.clips import to_float
from robustcodec.defenses._purifier import Architecture, Purifier, Sampler
from robustcodec.defenses._purifier_weights import purifier
from robustcodec.defenses.diffpure import Purification
from robustcodec.errors import BadParameter, MissingDependency
from robustcodec.registry import codecs, data, defenses
from robustcodec.studies.check import check


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ours with the small network."""
    return stored_purifier(tmp_path_factory.mktemp("weights"))


def draws(shape: torch.Size, times: int, seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(shape) for _ in range(times)]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


# -- the noise and its levels ------------------------------------------------------------------------------------------


class Silent(nn.Module):
    """A network that tells no noise."""

    config = {"block_out_channels": (1,)}

    def forward(self, z: Tensor, level: Tensor) -> Any:
        return SimpleNamespace(sample=torch.zeros_like(z))


@pytest.mark.parametrize("sigma", [0.002, 0.03, 0.15])
def test_sigma_is_the_noise_in_pixels(sigma: float) -> None:
    """Without a denoiser, noise of ``σ_t`` is what is left."""
    x = torch.full((2, 3, 64, 64), 0.5)
    silent = Purifier(Silent(), Architecture().alphas, {})
    torch.manual_seed(0)
    left = silent.purified(x, sigma, 1, "ddpm") - x
    (noise,) = draws(x.shape, 1)
    nearest = float(silent.sigmas[silent.level(sigma)])
    torch.testing.assert_close(left, (nearest * noise).clamp(-0.5, 0.5), rtol=1e-3, atol=1e-6)
    assert abs(math.log(nearest / sigma)) <= math.log(75) / 99 / 2 + 1e-9  # half a level


def test_levels_are_those_of_the_formula() -> None:
    sigmas = 0.002 * 75 ** (np.arange(100) / 99)
    np.testing.assert_allclose(Architecture().alphas.numpy(), 1 / (1 + (2 * sigmas) ** 2), rtol=1e-12)
    np.testing.assert_allclose(Purifier(Silent(), Architecture().alphas, {}).sigmas.numpy(), sigmas, rtol=1e-6)


def test_diffusing_is_a_sum_of_signal_and_noise() -> None:
    network, (z, noise) = small(), draws(torch.Size((1, 3, 4, 4)), 2)
    scheduler, levels = network.schedule(13, 4, "ddpm")
    alpha = 1 / (1 + 4 * float(network.sigmas[13]) ** 2)
    noised = scheduler.add_noise(z, noise, torch.tensor([len(levels) - 1]))
    torch.testing.assert_close(noised, math.sqrt(alpha) * z + math.sqrt(1 - alpha) * noise)


@pytest.mark.parametrize(
    ("level", "steps", "expected"),
    [(11, 3, [3, 7, 11]), (19, 1, [19]), (2, 8, [0, 1, 2]), (0, 2, [0]), (9, 4, [1, 4, 7, 9])],
)
def test_steps_are_spread_over_the_levels(level: int, steps: int, expected: list[int]) -> None:
    scheduler, levels = small().schedule(level, steps, "ddim")
    assert levels == expected
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), small().alphas[levels], rtol=1e-6, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_reverse_steps_are_those_of_the_papers(sampler: Sampler, steps: int) -> None:
    """Ho et al., 2020, Eq. 6, 7 and 15; Song et al., 2021 (https://arxiv.org/abs/2010.02502), Eq. 12 without noise."""
    network, x = small(), clips(1)[0]
    level = network.level(0.05)
    torch.manual_seed(5)
    ours = network.purified(x, 0.05, steps, sampler)
    levels = network.schedule(level, steps, sampler)[1]
    noises = draws(x.shape, steps, 5)
    bars = [1 / (1 + 4 * float(network.sigmas[t]) ** 2) for t in levels]
    z = math.sqrt(bars[-1]) * (2 * x - 1) + math.sqrt(1 - bars[-1]) * noises[0]
    for i in reversed(range(steps)):
        bar, before = bars[i], bars[i - 1] if i else 1.0
        told = network.predicted(z, torch.tensor([levels[i]]))
        start = (z - math.sqrt(1 - bar) * told) / math.sqrt(bar)
        alpha = bar / before
        if sampler == "ddim":
            z = math.sqrt(before) * start + math.sqrt(1 - before) * told
        else:
            z = (math.sqrt(before) * (1 - alpha) * start + math.sqrt(alpha) * (1 - before) * z) / (1 - bar)
            z = z + math.sqrt((1 - before) / (1 - bar) * (1 - alpha)) * (noises[steps - i] if i else 0)
    torch.testing.assert_close(ours, ((z + 1) / 2).clamp(0, 1), rtol=0, atol=1e-4)


def test_one_step_is_the_denoiser() -> None:
    network, x = small(), clips(1)[0]
    torch.manual_seed(2)
    purified = network.purified(x, 0.05, 1, "ddpm")
    noisy = x + float(network.sigmas[network.level(0.05)]) * draws(x.shape, 1, 2)[0]
    torch.testing.assert_close(network.denoised(noisy, 0.05), purified, rtol=0, atol=1e-5)


def test_the_loss_is_the_error_of_the_told_noise() -> None:
    network, x = small(), clips(3)[:, 0]
    torch.manual_seed(4)
    loss = network.loss(x)
    torch.manual_seed(4)
    levels, noise = torch.randint(20, (3,)), torch.randn(x.shape)
    errors = []
    for frame, level, eps in zip(x, levels, noise, strict=True):
        sigma = float(network.sigmas[level])
        z = ((2 * frame - 1) + 2 * sigma * eps) / math.sqrt(1 + 4 * sigma**2)
        errors.append((network.predicted(z[None], level[None])[0] - eps).square().mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean())


# -- gradients and shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 1), ("ddpm", 3), ("ddim", 2)])
def test_the_gradient_is_the_derivative_through_all_steps(sampler: Sampler, steps: int) -> None:
    network = small().double()
    x = (0.25 + 0.5 * clips(1, 1, 5, 6)[0].double()).requires_grad_()
    directions = [d / d.norm() for d in (torch.randn(4, *x.shape, generator=torch.Generator().manual_seed(0)).double())]
    weight = torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        torch.manual_seed(0)
        return (weight * network.purified(at, 0.1, steps, sampler)).sum()

    (grad,) = torch.autograd.grad(value(x), x)
    with torch.no_grad():
        for d in directions:
            slope = (value(x + 1e-5 * d) - value(x - 1e-5 * d)) / 2e-5
            torch.testing.assert_close((grad * d).sum(), slope, rtol=1e-5, atol=1e-7)
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 12), (33, 2)])
def test_any_size_is_padded_by_its_edges(size: tuple[int, int]) -> None:
    network, z, level = small(), clips(1, 2, *size)[0], torch.tensor([3, 3])
    height, width = (math.ceil(n / 4) * 4 for n in size)
    whole = np.pad(z.numpy(), ((0, 0), (0, 0), (0, height - size[0]), (0, width - size[1])), mode="edge")
    expected = network.predicted(torch.from_numpy(whole), level)[..., : size[0], : size[1]]
    assert torch.equal(network.predicted(z, level), expected)


def test_frames_are_purified_each_with_its_noise(stored: Path) -> None:
    x = clips(1, 3)
    made = purified(f"diffpure:weights={stored}").preprocessed
    torch.manual_seed(0)
    together = made(x)
    (noise,) = draws(torch.Size((3, 3, 33, 47)), 1)
    assert together.shape == x.shape and together.min() >= 0 and together.max() <= 1
    network = purifier(str(stored))
    torch.manual_seed(0)
    torch.testing.assert_close(together[0], network.purified(x[0], 0.03, 2, "ddpm"))
    alone = purified(f"diffpure:steps=1,weights={stored}").preprocessed
    torch.manual_seed(0)
    frames = alone(x)[0]
    sigma = float(network.sigmas[network.level(0.03)])
    for frame, eps, out in zip(x[0], noise, frames, strict=True):
        torch.testing.assert_close(network.denoised((frame + sigma * eps)[None], 0.03)[0], out, rtol=0, atol=1e-5)


# -- as a defense ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_bytes_and_forward_agree_after_the_same_seed(stored: Path, sampler: str) -> None:
    x, codec = clips(2, 2), purified(f"diffpure:sampler={sampler},weights={stored}")
    torch.manual_seed(1)
    streams = codec.compress(x)
    torch.manual_seed(1)
    assert streams == [s for clip in x for s in codec.compress(clip[None])]
    torch.manual_seed(1)
    assert streams == purified_codec().compress(codec.preprocessed(x))
    torch.manual_seed(1)
    torch.testing.assert_close(codec(x).x_hat, codec.decompress(streams), rtol=0, atol=1e-4)
    assert codec.randomised and codec.compress(x) != streams
    assert codec.card.name == f"{purified_codec().card.name}+diffpure"


@pytest.mark.parametrize("size", [(1, 1), (2, 31)])
def test_any_size_is_coded(stored: Path, size: tuple[int, int]) -> None:
    x, codec = clips(1, 2, *size), purified(f"diffpure:weights={stored}")
    assert codec.decompress(codec.compress(x)).shape == x.shape


def test_it_keeps_a_codecs_promises(stored: Path) -> None:
    photos, spec = [clip[None] for clip in clips(2, 1, 16, 24)], f"diffpure:sigma=0.01,weights={stored}"
    checks = check(purified(spec), photos, lambda: purified(spec))
    assert not [c for c in checks if not c.passed]


def test_wrapped_codecs_share_a_network_that_is_no_part_of_them(stored: Path) -> None:
    one, other = purified(f"diffpure:weights={stored}"), purified(f"diffpure:sigma=0.1,weights={stored}")
    assert isinstance(one.pre, Purification) and isinstance(other.pre, Purification)
    assert one.pre.network is other.pre.network
    assert [p.shape for p in one.parameters()] == [p.shape for p in purified_codec().parameters()]
    assert not any(p.requires_grad for p in one.pre.network.parameters())


def test_an_attacker_meets_a_gradient_with_other_precision(stored: Path) -> None:
    x = clips(1).requires_grad_()
    codec = purified(f"diffpure:weights={stored}")
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(0)
        coarse = codec.preprocessed(x)
    torch.manual_seed(0)
    assert torch.equal(coarse, codec.preprocessed(x))  # values do not depend on it
    (grad,) = torch.autograd.grad(coarse.sum(), x)
    assert grad.isfinite().all() and grad.any()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("diffpure:sigma=0", "positive standard deviation"),
        ("diffpure:sigma=inf", "cannot be read"),
        ("diffpure:steps=0", "a step or more"),
        ("diffpure:sampler=euler", "ddpm, ddim"),
    ],
)
def test_parameters_are_checked(spec: str, expected: str) -> None:
    with pytest.raises(BadParameter, match=expected):
        defenses.build(spec)


def test_a_sigma_that_the_weights_do_not_know_is_refused(stored: Path) -> None:
    for sigma in (0.001, 0.16):
        with pytest.raises(BadParameter, match=r"sigma=.*from 0.002 to 0.15"):
            purified(f"diffpure:sigma={sigma},weights={stored}")


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependency, match=r"pip install 'robustcodec\[diffusion\]'"):
        Purifier.of(SMALL)


# -- the one that ships ------------------------------------------------------------------------------------------------


def shipped() -> tuple[Purifier, dict[str, Any]]:
    path = weights.find("diffpure", "tiny")
    return purifier(None), weights.read_card(path)


def test_its_card_says_how_it_was_made() -> None:
    path = weights.find("diffpure", "tiny")
    card = weights.read_card(path)
    assert card["sha256"] == weights.sha256(path) and path.stat().st_size < 2.1e6
    assert (
        card["training"]["command"].startswith("robustcodec train diffpure --name tiny") and card["training"]["sources"]
    )
    assert weights.bundled_tags("diffpure") == ["tiny"] and "diffpure" not in codecs.names()


@pytest.mark.parametrize("sigma", ["0.02", "0.05", "0.1"])
def test_it_removes_noise_as_measured_and_better_than_total_variation(sigma: str) -> None:
    """Six photos that it was not trained on, centre-cropped to 128 pixels; the best of total variation's weights."""
    network, card = shipped()
    measured, grid = card["measured"][f"sigma_{sigma}"], card["measured"]["tv_weights"]
    scores, smooth = [], np.zeros(len(grid))
    torch.manual_seed(0)
    for sample in data.build("photos:size=128").samples():
        x = to_float(sample.load())
        noisy = x + float(sigma) * torch.randn(x.shape)
        scores.append((psnr(noisy, x), psnr(network.denoised(noisy, float(sigma)), x)))
        plane = noisy[0].permute(1, 2, 0).double().numpy()
        for i, weight in enumerate(grid):
            out = denoise_tv_chambolle(plane, weight * float(sigma), channel_axis=-1)  # type: ignore[no-untyped-call]
            smooth[i] += psnr(torch.from_numpy(out).clamp(0, 1).permute(2, 0, 1), x[0].double()) / 6
    noisy_db, ours = np.mean(scores, axis=0)
    assert noisy_db == pytest.approx(measured["noisy"], abs=0.01)
    assert ours == pytest.approx(measured["psnr"], abs=0.02)
    assert smooth.max() == pytest.approx(measured["tv"], abs=0.02)
    assert ours > smooth.max() and ours > noisy_db + 3 * (sigma != "0.02")


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_purifying_takes_a_perturbation_away(sampler: Sampler) -> None:
    """Of a random pattern of four 8-bit levels less than a third of the energy is left after noise of 0.03."""
    network, _ = shipped()
    x = to_float(data.build("photos:size=64").samples()[1].load())
    pattern = (4 / 255) * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).sign()
    outs = []
    for at in (x, x + pattern):
        torch.manual_seed(0)
        outs.append(network.purified(at, 0.03, 2, sampler))
    assert (outs[1] - outs[0]).square().mean() < pattern.square().mean() / 3
