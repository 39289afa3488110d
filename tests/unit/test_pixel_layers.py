"""The layers next to the pixels against torch's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustcodec
from robustcodec.zoo._pixels import FromPixels, ToPixels, resampled_quickly, to_pixels
from robustcodec.zoo._upsampling import Upsampling


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def test_the_phases_are_the_transposed_convolution() -> None:
    x, weight, bias = drawn(2, 7, 4, 5), drawn(7, 3, 5, 5), drawn(3)
    expected = F.conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1)
    torch.testing.assert_close(to_pixels(x, weight, bias), expected)


@pytest.mark.parametrize("size", [(8, 12), (7, 12)])
def test_gradients_are_those_of_torch(size: tuple[int, int]) -> None:
    """Of an analysis to its input, twice over; a layer that is trained, or odd sizes, are left to torch."""
    x, layer = drawn(2, 3, *size).requires_grad_(True), nn.Conv2d(3, 6, 5, 2, 2).double()
    (own,) = resampled_quickly(nn.Sequential(layer)).children()
    assert type(own) is FromPixels
    for trained in (True, False):
        own.requires_grad_(trained)
        y = own(x)
        expected = F.conv2d(x, layer.weight, layer.bias, 2, 2)
        torch.testing.assert_close(y, expected)
        first = [torch.autograd.grad(v.pow(3).sum(), x, create_graph=True)[0] for v in (y, expected)]
        torch.testing.assert_close(*first)
        second = [torch.autograd.grad(g.square().sum(), x, retain_graph=True)[0] for g in first]
        torch.testing.assert_close(*second)


def test_a_synthesis_has_gradients_to_everything() -> None:
    x, layer = drawn(2, 6, 4, 3).requires_grad_(True), nn.ConvTranspose2d(6, 3, 5, 2, 2, 1).double().eval()
    (own,) = resampled_quickly(nn.Sequential(layer)).children()
    assert type(own) is ToPixels
    leaves = [x, *own.parameters()]
    plain = F.conv_transpose2d(x, layer.weight, layer.bias, 2, 2, 1)
    for one, other in zip(*(torch.autograd.grad(y.pow(3).sum(), leaves) for y in (own(x), plain)), strict=True):
        torch.testing.assert_close(one, other)


def test_reduced_precision_stays_reduced() -> None:
    """Under autocast both layers give bfloat16, and the gradient of a float32 input is float32."""
    down, up = FromPixels(3, 8, 5, 2, 2), ToPixels(8, 3, 5, 2, 2, 1).eval()
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    down.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        h = down(x)
        y = up(h)
    assert h.dtype == y.dtype == torch.bfloat16
    (grad,) = torch.autograd.grad(y.float().square().sum(), x)
    plain = F.conv2d(x, down.weight, down.bias, 2, 2)
    y = F.conv_transpose2d(plain, up.weight, up.bias, 2, 2, 1)
    (expected,) = torch.autograd.grad(y.square().sum(), x)
    assert grad.dtype == torch.float32 and F.cosine_similarity(grad.flatten(), expected.flatten(), 0) > 0.99


@pytest.mark.parametrize(
    "form",
    [
        {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1},
        {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 2, "bias": False},
        {"kernel_size": (3, 2), "stride": (1, 3), "padding": (0, 1), "dilation": (2, 1), "output_padding": (0, 1)},
    ],
)
def test_what_is_trained_has_torchs_gradients_twice_over(form: dict[str, Any]) -> None:
    layer = nn.ConvTranspose2d(6, 4, **form).double()
    (own,) = resampled_quickly(nn.Sequential(copy.deepcopy(layer))).children()
    assert type(own) is Upsampling
    x = drawn(2, 6, 5, 7).requires_grad_(True)
    found = []
    for one in (own, layer):
        y, leaves = one(x), [x, *one.parameters()]
        first = torch.autograd.grad(y.pow(3).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves)
        found.append([y, *first, *second])
    for quick, plain in zip(*found, strict=True):
        torch.testing.assert_close(quick, plain)


def test_what_is_trained_in_reduced_precision_has_gradients_of_its_weights_precision() -> None:
    torch.manual_seed(1)
    layer = nn.ConvTranspose2d(16, 8, 5, 2, 2, 1)
    (own,) = resampled_quickly(nn.Sequential(copy.deepcopy(layer))).children()
    x = torch.rand(1, 16, 8, 8)
    for one in (own, layer):
        with torch.autocast("cpu", torch.bfloat16):
            y = one(x)
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
    assert own.weight.grad is not None and own.weight.grad.dtype == torch.float32
    torch.testing.assert_close(own.weight.grad, layer.weight.grad, rtol=0.02, atol=0.05)


def test_only_what_is_trained_takes_other_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    own, x = Upsampling(4, 4, 5, 2, 2, 1), torch.rand(1, 4, 4, 4, requires_grad=True)
    monkeypatch.setattr("robustcodec.zoo._upsampling._Transposed.apply", None)
    with pytest.raises(TypeError, match="not callable"):
        own(x)
    with torch.no_grad():
        own(x)
    assert own.requires_grad_(False)(x).requires_grad


def test_other_layers_stay() -> None:
    """Only this form of them; and the bundled codecs have it at both ends."""
    others = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 3, 5, 2, 2), nn.ConvTranspose2d(8, 3, 5, 2, 2))
    assert [type(m) for m in resampled_quickly(others).children()] == [nn.Conv2d, nn.Conv2d, Upsampling]
    names = [type(m) for m in robustcodec.load("bmshj2018-hyperprior.tiny-q1").modules()]
    assert names.count(FromPixels) == names.count(ToPixels) == 1
