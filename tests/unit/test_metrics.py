"""Metrics against scikit-image, hand formulas, and the libraries they stand on."""

from __future__ import annotations

import math
import shutil
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args
from urllib.error import URLError

import numpy as np
import pytest
import torch
import toys
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from robustcodec.errors import BadParameter, MissingDependency
from robustcodec.registry import metrics
from robustcodec.scores import metrics as scores
from robustcodec.scores.metrics.perceptual import BACKBONES, LPIPS_SIDE


def score(name: str, reference: Tensor, test: Tensor) -> Tensor:
    values: Tensor = metrics.build(name).fn(reference, test)
    assert values.shape == reference.shape[:1]
    return values


def pair(*shape: int, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """A smooth clip, so that structure matters, and a noisy one, both rounded to 8 bits."""
    rng = torch.Generator().manual_seed(sum(shape))
    height, width = shape[-2:]
    waves = torch.sin(torch.arange(height)[:, None] / 7) * torch.cos(torch.arange(width) / 5)
    x = 0.5 + 0.3 * waves + 0.1 * torch.rand(shape, generator=rng)
    y = (x + noise * torch.randn(shape, generator=rng)).clamp(0, 1)
    return (x * 255).round() / 255, (y * 255).round() / 255


def test_psnr_is_of_the_whole_clip_as_in_scikit_image() -> None:
    ratio: Callable[..., float] = peak_signal_noise_ratio
    x, y = pair(3, 4, 3, 20, 28)
    expected = [ratio(a.numpy(), b.numpy(), data_range=1.0) for a, b in zip(x, y, strict=True)]
    assert score("psnr", x, y).tolist() == pytest.approx(expected, abs=1e-4)


def test_mse_psnr_and_linf_by_hand() -> None:
    x = torch.zeros(1, 1, 3, 2, 2)
    y = x.clone()
    y[0, 0, 0, 0, 0], y[0, 0, 2, 1, 1] = 0.6, 0.8  # squares 0.36 + 0.64 over 12 values
    assert score("mse", x, y).item() == pytest.approx(1 / 12)
    assert score("psnr", x, y).item() == pytest.approx(10 * math.log10(12))
    assert score("linf", x, y).item() == pytest.approx(0.8)
    assert score("linf", y, x).item() == pytest.approx(0.8)


def test_psnr_of_equal_clips_is_the_cap_and_nothing_exceeds_it() -> None:
    x = torch.rand(2, 1, 3, 8, 8)
    y = x.clone()
    y[1, 0, 0, 0, 0] += 1e-6
    assert score("psnr", x, x).tolist() == [100, 100]
    assert score("psnr", x, y).tolist() == [100, 100]


def test_the_error_does_not_depend_on_the_batch() -> None:
    x, y = pair(3, 2, 3, 37, 41)
    assert score("mse", x, y).tolist() == [score("mse", a[None], b[None]).item() for a, b in zip(x, y, strict=True)]


@pytest.mark.parametrize("name", ["mse", "psnr", "linf", "ms_ssim", "lpips"])
def test_shapes_that_differ_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 3, 8, 8\).*\(1, 1, 3, 8, 8\)"):
        metrics.build(name).fn(torch.zeros(1, 1, 3, 8, 8), torch.zeros(2, 1, 3, 8, 8))


def ms_ssim_by_hand(frame: Tensor, other: Tensor, taps: int) -> float:
    """Wang et al.'s formula with SciPy's filter on frames (3, H, W) of sides divisible by 16."""

    def blur(v: NDArray[np.float64]) -> NDArray[np.float64]:
        edge = taps // 2  # only windows that lie inside the frame count
        blurred = gaussian_filter(v, sigma=1.5, radius=edge)
        return np.asarray(blurred[edge : v.shape[0] - edge, edge : v.shape[1] - edge])

    channels = []
    for a, b in zip(frame.double().numpy(), other.double().numpy(), strict=True):
        product = 1.0
        for level, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
            if level:
                a, b = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2).mean((1, 3)) for v in (a, b))
            mean_a, mean_b = blur(a), blur(b)
            variances = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
            structure = (2 * (blur(a * b) - mean_a * mean_b) + 0.03**2) / (variances + 0.03**2)
            luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
            product *= (structure * luminance if level == 4 else structure).mean() ** weight
        channels.append(product)
    return float(np.mean(channels))


@pytest.mark.parametrize(("side", "taps"), [(176, 11), (160, 9), (128, 7), (96, 5), (64, 3), (48, 3)])
def test_ms_ssim_is_the_published_formula_at_the_stated_window(side: int, taps: int) -> None:
    x, y = pair(1, 2, 3, side, 192)
    expected = [ms_ssim_by_hand(a, b, taps) for a, b in zip(x[0], y[0], strict=True)]
    assert expected[0] < 0.99  # the noise shows
    assert score("ms_ssim", x, y).item() == pytest.approx(np.mean(expected), abs=2e-5)


@pytest.mark.parametrize("side", [33, 161])
def test_ms_ssim_at_the_edges_of_the_windows(side: int) -> None:
    x, y = pair(2, 1, 3, side, side)
    assert score("ms_ssim", x, x).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert ((0 < score("ms_ssim", x, y)) & (score("ms_ssim", x, y) < 1)).all()


def test_ms_ssim_of_a_frame_without_room_for_a_window_is_nan() -> None:
    assert score("ms_ssim", *pair(2, 3, 3, 32, 500)).isnan().all()
    assert score("ms_ssim", *pair(1, 1, 3, 1, 1)).isnan().all()


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of backbones, no network, and no model kept from another test."""

    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    scores.lpips_model.cache_clear()
    yield tmp_path
    scores.lpips_model.cache_clear()


@pytest.mark.parametrize(
    ("net", "file"),
    [
        ("alex", "alexnet-owt-7be5be79.pth"),
        ("vgg", "vgg16-397923af.pth"),
        ("squeeze", "squeezenet1_1-b8a52dc0.pth"),
    ],
)
def test_a_missing_backbone_says_which_file_goes_where(
    net: str, file: str, torch_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingDependency) as error:
        score(f"lpips:net={net}", *pair(1, 1, 3, 64, 64))
    message = str(error.value)
    assert f"https://download.pytorch.org/models/{file}" in message
    assert str(torch_home / "hub" / "checkpoints" / file) in message
    assert "no route to host" in message
    assert capsys.readouterr().out == ""


def test_a_damaged_backbone_is_reported_like_a_missing_one(torch_home: Path) -> None:
    file = torch_home / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"<html>captive portal</html>")
    with pytest.raises(MissingDependency, match="squeezenet1_1-b8a52dc0.pth"):
        score("lpips:net=squeeze", *pair(1, 1, 3, 64, 64))


def test_lpips_averages_frames_of_the_package_on_its_own_range(
    torch_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lpips import LPIPS

    published = toys.random_backbone(torch_home)
    monkeypatch.setitem(BACKBONES, "squeeze", published)
    shutil.copy(published.cached, published.cached.with_name("squeezenet1_1-b8a52dc0.pth"))  # where the package looks
    x, y = pair(2, 3, 3, 40, 48, noise=0.2)
    values = score("lpips:net=squeeze", x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = LPIPS(net="squeeze", verbose=False)
    with torch.no_grad():
        expected = package(x.flatten(0, 1), y.flatten(0, 1), normalize=True).view(2, 3).mean(1)
    assert values.tolist() == pytest.approx(expected.tolist(), rel=1e-4)
    assert (values > 1e-4).all()
    assert score("lpips:net=squeeze", x, x).tolist() == pytest.approx([0, 0], abs=1e-7)
    model = scores.lpips_model("squeeze", x.device)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert score("lpips:net=squeeze", *pair(1, 1, 3, 16, 90)).isnan().all()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("net", get_args(scores.Net))
def test_the_smallest_side_is_the_smallest_the_backbone_takes(net: scores.Net) -> None:
    from lpips import LPIPS

    with warnings.catch_warnings(), torch.device("meta"):  # shapes without weights
        warnings.simplefilter("ignore")
        model = LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False).to("meta")
        side = LPIPS_SIDE[net]
        model(torch.empty(1, 3, side, 99), torch.empty(1, 3, side, 99))
        with pytest.raises(RuntimeError):
            model(torch.empty(1, 3, side - 1, 99), torch.empty(1, 3, side - 1, 99))


def test_lpips_carries_a_backbone_other_than_the_default_in_its_name() -> None:
    assert metrics.build("lpips").name == metrics.build("lpips:alex").name == "lpips"
    assert metrics.build("lpips:vgg").name == "lpips_vgg"
    with pytest.raises(BadParameter, match="alex, vgg, squeeze"):
        metrics.build("lpips:net=resnet")


def test_better_means_closer() -> None:
    x, near = pair(1, 1, 3, 64, 64, noise=0.02)
    _, far = pair(1, 1, 3, 64, 64, noise=0.2)
    for name in ("mse", "psnr", "linf", "ms_ssim"):
        metric = metrics.build(name)
        assert (metric.fn(x, near) > metric.fn(x, far)).item() == metric.higher_is_better
        assert metric.name == name
