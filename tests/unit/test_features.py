"""VGG-19 features: torchvision's layers, values by an independent loop, and where weights come from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import toys
from torch import Tensor
from torch.nn import functional as F

from robustcodec import registry
from robustcodec.errors import MissingDependency, WeightsError
from robustcodec.scores.metrics.perceptual import BACKBONES
from robustcodec.training.features import IMAGENET, VGG19, FeatureLoss, Layer, LpipsLoss, _vgg, feature_loss
from robustcodec.weights.statedict import Published

NARROW = (4, 5, 6, 7, 8)  # in place of 64 … 512: VGG-19 in all but width


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def published(tmp_path: Path) -> tuple[Published, Path, dict[str, Tensor]]:
    """A narrow VGG-19 as torchvision would publish it: all of its state dict, the digest in the name."""
    state = {f"features.{k}": v for k, v in FeatureLoss(widths=NARROW, seed=5).features.state_dict().items()}
    for name in state:
        if name.endswith("bias"):
            state[name] = torch.linspace(-0.2, 0.3, len(state[name]))
    plain = tmp_path / "plain.pth"
    torch.save({**state, "classifier.0.weight": torch.zeros(2, 2)}, plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    path = plain.rename(tmp_path / f"vgg19-{digest[:8]}.pth")
    return Published(path.as_uri()), path, state


def by_hand(state: dict[str, Tensor], clip: Tensor, last_relu: bool) -> Tensor:
    """conv5_4 by the paper's table: convolution, ReLU, maximum over 2×2, never in place."""
    mean, std = ([[[v]] for v in values] for values in IMAGENET)
    x = (clip.flatten(0, 1) - torch.tensor(mean)) / torch.tensor(std)
    index = 0
    for stage, convolutions in enumerate((2, 2, 4, 4, 4)):
        for i in range(convolutions):
            weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
            x = F.conv2d(x, weight, bias, padding=1)
            index += 2
            if (stage, i) != (4, 3) or last_relu:
                x = torch.maximum(x, torch.zeros(()))
        if stage < 4:
            rows = torch.maximum(x[..., 0 : x.shape[-2] // 2 * 2 : 2, :], x[..., 1::2, :])
            x = torch.maximum(rows[..., 0 : rows.shape[-1] // 2 * 2 : 2], rows[..., 1::2])
            index += 1
    assert index == 36
    return x


@pytest.mark.parametrize("layer", ["conv5_4", "relu5_4"])
def test_value_by_an_independent_loop(layer: Layer, published: tuple[Published, Path, dict[str, Tensor]]) -> None:
    source, path, state = published
    loss = feature_loss(str(path), layer, source, NARROW)
    assert loss is not None
    x, y = torch.rand(2, 3, 3, 34, 49, generator=torch.manual_seed(0)), torch.rand(2, 3, 3, 34, 49)
    kept = x.clone(), y.clone()
    a, b = (by_hand(state, clip, layer == "relu5_4") for clip in (x, y))
    assert (a < 0).any() == (layer == "conv5_4")
    assert float(loss(x, y)) == pytest.approx(float((a - b).abs().mean()), rel=1e-5)
    assert torch.equal(x, kept[0]) and torch.equal(y, kept[1])  # activations are in place, inputs are not
    assert float(loss(x, x)) == 0


def test_gradient_reaches_the_decoded_clip_alone() -> None:
    loss = FeatureLoss(widths=NARROW).double()
    x = torch.rand(1, 1, 3, 32, 32, dtype=torch.float64, generator=torch.manual_seed(0))
    y = torch.rand(1, 1, 3, 32, 32, dtype=torch.float64).requires_grad_(True)
    (grad,) = torch.autograd.grad(loss(x, y), y)
    for where in [(0, 0, 0, 3, 4), (0, 0, 1, 17, 9), (0, 0, 2, 31, 31)]:
        step = torch.zeros_like(y)
        step[where] = 1e-7
        difference = (loss(x, y + step) - loss(x, y - step)).item() / 2e-7
        assert grad[where].item() == pytest.approx(difference, rel=1e-4, abs=1e-9)
    assert not any(p.requires_grad for p in loss.parameters())


@pytest.mark.parametrize("layer, depth", [("conv5_4", 35), ("relu5_4", 36)])
def test_layers_are_torchvisions(layer: Layer, depth: int) -> None:
    """The fourth convolution before the fifth pooling is ``features[34]``; official weights fit by name and shape."""
    from torchvision.models import VGG19_Weights, vgg19

    with torch.device("meta"):
        theirs, ours = vgg19().features[:depth], _vgg((64, 128, 256, 512, 512), layer)
    assert [type(m) for m in ours] == [type(m) for m in theirs]
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert [str(m) for m in ours] == [str(m) for m in theirs]
    assert VGG19.url == VGG19_Weights.IMAGENET1K_V1.url and VGG19.digest == "dcbb9e9d"


def test_normalisation_is_torchvisions() -> None:
    from torchvision.transforms.functional import normalize

    frames = torch.rand(2, 3, 8, 8)
    ours = FeatureLoss(widths=NARROW).standardise(frames)
    torch.testing.assert_close(ours, normalize(frames, list(IMAGENET[0]), list(IMAGENET[1])))


def test_absent_weights_are_off_loudly_or_an_error(cache: Path) -> None:
    with pytest.warns(UserWarning, match=f"VGG-19 term is OFF.*{VGG19.url}.*{cache / 'vgg19-dcbb9e9d.pth'}"):
        assert feature_loss(None) is None
    with pytest.raises(WeightsError, match=f"{VGG19.url}.*{cache / 'vgg19-dcbb9e9d.pth'}"):
        feature_loss("required")
    with pytest.raises(WeightsError, match="no weights at .*nowhere.pth"):
        feature_loss(str(cache / "nowhere.pth"))


def test_cache_and_download(
    cache: Path, published: tuple[Published, Path, dict[str, Tensor]], capsys: pytest.CaptureFixture[str]
) -> None:
    source, path, state = published
    with pytest.warns(UserWarning, match="OFF"):  # None never downloads
        assert feature_loss(None, published=source, widths=NARROW) is None
    downloaded = feature_loss("download", published=source, widths=NARROW)
    assert source.cached == cache / path.name and source.cached.read_bytes() == path.read_bytes()
    assert capsys.readouterr().out == ""
    path.unlink()
    for weights in (None, "required", "download"):
        loss = feature_loss(weights, published=source, widths=NARROW)
        assert loss is not None and downloaded is not None
        assert loss.origin == f"vgg19 ImageNet1K_V1 (sha256 {hashlib.sha256(source.cached.read_bytes()).hexdigest()})"
        for k, v in loss.features.state_dict().items():
            assert torch.equal(v, state[f"features.{k}"])
    source.cached.unlink()
    with pytest.raises(WeightsError, match="cannot be downloaded.*put it at"):  # offline
        feature_loss("download", published=source, widths=NARROW)


def test_other_contents_are_refused(
    cache: Path, published: tuple[Published, Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    source, path, _ = published
    source.cached.write_bytes(path.read_bytes()[:-1])
    for weights in (None, "required", "download", str(source.cached)):
        with pytest.raises(WeightsError, match=f"damaged or another file.*expected {source.digest}"):
            feature_loss(weights, published=source, widths=NARROW)
    renamed = path.rename(tmp_path / "other.pth")  # a given path: what counts is the content
    assert feature_loss(str(renamed), published=source, widths=NARROW) is not None
    with pytest.raises(WeightsError, match="holds no VGG-19"):
        feature_loss(str(renamed), published=source, widths=(4, 5, 6, 7, 9))
    lying = Published((tmp_path / "vgg19-00000000.pth").as_uri())
    renamed.rename(tmp_path / "vgg19-00000000.pth")
    with pytest.raises(WeightsError, match="another file"):
        feature_loss("download", published=lying, widths=NARROW)
    assert not lying.cached.exists()


def test_a_file_of_something_else(cache: Path, tmp_path: Path) -> None:
    content = b"not a checkpoint"
    path = tmp_path / f"vgg19-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is cut short, damaged or no checkpoint"):
        feature_loss(str(path), published=Published(path.as_uri()), widths=NARROW)


def test_random_features_are_seeded_and_say_what_they_are() -> None:
    state = torch.get_rng_state()
    loss, again = (feature_loss("random", widths=NARROW) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert loss is not None and again is not None and "not perceptual" in loss.origin
    x, y = torch.rand(1, 2, 3, 32, 32), torch.rand(1, 2, 3, 32, 32)
    assert float(loss(x, y)) == float(again(x, y)) > 0
    weight = FeatureLoss(widths=(64, 64, 8, 8, 8)).features[2].weight
    assert isinstance(weight, Tensor)
    assert float(weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)  # He et al. 2015: √(2 / fan-in)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="conv5_4"):
        FeatureLoss("conv1_1")  # type: ignore[arg-type]
    loss = FeatureLoss(widths=NARROW)
    for a, b in [((1, 1, 3, 32, 32), (1, 2, 3, 32, 32)), ((3, 32, 32), (3, 32, 32)), ((1, 1, 3, 8, 32),) * 2]:
        with pytest.raises(ValueError, match="at least 16 pixels"):
            loss(torch.rand(a), torch.rand(b))


def test_lpips_as_a_term_is_the_mean_of_the_metric(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random backbone weights in the place of the trained ones: the loading and the arithmetic are the same."""
    from robustcodec.scores import metrics

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    metrics.lpips_model.cache_clear()
    with pytest.raises(MissingDependency, match="squeezenet1_1-b8a52dc0.pth"):
        LpipsLoss("squeeze")
    monkeypatch.setitem(BACKBONES, "squeeze", toys.random_backbone(cache.parents[1]))
    torch.manual_seed(0)
    x, x_hat = torch.rand(2, 2, 3, 3, 40, 48)
    x_hat.requires_grad_(True)
    loss = LpipsLoss("squeeze")
    value = loss(x, x_hat)
    expected = registry.metrics.build("lpips:net=squeeze").fn(x, x_hat.detach()).mean()
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-4)
    (grad,) = torch.autograd.grad(value, x_hat)
    assert grad.isfinite().all() and grad.ne(0).any()
    assert "trained for" in loss.origin
    metrics.lpips_model.cache_clear()
