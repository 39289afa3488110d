"""Large pictures in tiles: the same latents, pictures, bits and gradients, from the same bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustcodec import load
from robustcodec.interfaces import Codec
from robustcodec.memory.tiling import limits, tiling
from robustcodec.scores.metrics import structure
from robustcodec.zoo import _entropy, _tiles

FAMILIES = ("bmshj2018-hyperprior.tiny-q2", "mbt2018-mean.tiny-q2", "bmshj2018-factorized.tiny-q1")


def picture(height: int, width: int) -> Tensor:
    """Waves of several lengths, and grain."""
    rows, columns = torch.linspace(0, 9, height)[:, None], torch.linspace(0, 7, width)
    waves = torch.stack([(rows * k + columns * columns).sin() for k in (1, 2, 3)])
    grain = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) - 0.5
    return (0.5 + 0.3 * waves + 0.2 * grain).clamp(0, 1)[None, None]


def network(*layers: nn.Module) -> Any:
    """A network whose analysis is ``layers``, in tiles where it can be."""
    torch.manual_seed(0)
    net: Any = nn.Module()
    net.g_a = nn.Sequential(*layers)
    return _tiles.in_tiles(net).eval()


@pytest.fixture(params=FAMILIES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return load(request.param).requires_grad_(False)


def test_a_picture_in_tiles_has_the_same_bytes_and_looks_the_same(codec: Codec) -> None:
    x = picture(200, 330)
    (whole,) = codec.compress(x)
    shown = codec.decompress([whole])
    with tiling(whole=0, side=96):
        assert codec.compress(x) == [whole]
        assert (codec.decompress([whole]) - shown).abs().max() < 2e-6


def test_forward_in_tiles_is_what_the_bytes_decode_to(codec: Codec) -> None:
    x = picture(200, 330)
    with tiling(whole=0, side=96):
        assert (codec(x).x_hat - codec.decompress(codec.compress(x))).abs().max() == 0


def test_gradients_through_tiles_are_those_of_the_whole(codec: Codec) -> None:
    x = picture(160, 224).requires_grad_()

    def slope() -> Tensor:
        out = codec(x)
        return torch.autograd.grad(out.x_hat.square().sum() + 1e-3 * out.bits.sum(), x)[0]

    whole = slope()
    with tiling(whole=0, side=96):
        assert torch.allclose(slope(), whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_tiles_keep_less_for_the_gradient() -> None:
    codec = load(FAMILIES[0]).requires_grad_(False)
    x = picture(256, 256).requires_grad_()

    def kept() -> int:
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            held = codec(x).x_hat
        assert held.requires_grad
        return sum(sizes.values())

    whole = kept()
    with tiling(whole=0, side=64):
        assert kept() < whole / 10


def test_small_pictures_and_training_never_see_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("in tiles")

    monkeypatch.setattr(_tiles, "tiled", refuse)
    codec: Any = load(FAMILIES[0])
    codec.compress(picture(64, 64))
    with tiling(whole=0, side=64):
        codec.train()(picture(64, 64)).x_hat  # noqa: B018
        codec.eval().net.g_a[0].register_forward_hook(lambda *args: None)
        codec.net.g_a(picture(64, 128)[0])  # somebody looks into its layers
    assert limits().whole >= 32 * 270 * 480, "published clips were computed at once"


def test_how_far_a_network_looks_is_measured() -> None:
    net = network(nn.Conv2d(3, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 4, 5, 2, 2))
    found = _tiles.reach(nn.Sequential.forward.__get__(net.g_a), torch.zeros(1, 3, 8, 8), 64)
    assert found == (4, 1, 2)  # 2 + 2 · 2 = 6 pixels, more than one latent of 4


class Corner(nn.Module):
    """Counts places from the corner, as windows of attention do."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.arange(x.shape[-1]) % 3)


class Mean(nn.Module):
    """Looks at all of a picture."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((-2, -1), keepdim=True)


@pytest.mark.parametrize("odd", [Corner(), Mean(), nn.Conv2d(4, 4, (3, 3), (1, 2), 1)])
def test_what_is_no_sum_of_neighbours_runs_whole(odd: nn.Module) -> None:
    net, x = network(nn.Conv2d(3, 4, 5, 2, 2), odd), torch.rand(1, 3, 128, 256)
    whole = net.g_a(x)
    with tiling(whole=0, side=32):
        assert torch.equal(net.g_a(x), whole)
    assert net.g_a.__dict__["_reach"] is None


@pytest.mark.parametrize("sides", [(512, 512), (301, 402)])
def test_similarity_of_strips_is_that_of_the_whole(sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    x = picture(*sides)
    y = (x + 0.1 * picture(*sides).flip(-1)).clamp(0, 1).requires_grad_()
    metric = structure.ms_ssim().fn
    whole = metric(x, y)
    (slope,) = torch.autograd.grad(whole.sum(), y)
    monkeypatch.setattr(structure, "WHOLE", 0)
    monkeypatch.setattr(structure, "STRIP", 1 << 14)
    again = metric(x, y)
    assert again.dtype == whole.dtype and float((again - whole).detach().abs()) < 2e-6
    assert torch.allclose(
        torch.autograd.grad(again.sum(), y)[0], slope, rtol=1e-3, atol=1e-3 * float(slope.abs().max())
    )


def test_tables_are_found_as_the_coder_finds_them() -> None:
    model: Any = load(FAMILIES[0]).get_submodule("net.gaussian_conditional")
    odd = torch.tensor([0.0, -1.0, 1e9, torch.inf, torch.nan])
    scales = torch.cat((torch.rand(1000) * 40, model.scale_table, odd))
    assert torch.equal(_entropy.table_indexes(model, scales), model.build_indexes(scales))


@pytest.mark.parametrize("inverse", [False, True])
def test_normalising_without_a_gradient_is_the_same_to_the_bit(inverse: bool) -> None:
    from robustcodec.zoo._gdn import SteadyGDN

    layer = SteadyGDN(24, inverse=inverse)
    x = torch.randn(2, 24, 40, 56, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    with_gradient = layer(x.clone().requires_grad_()).detach()
    with torch.no_grad():
        assert torch.equal(layer(x), with_gradient)
