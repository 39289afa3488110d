"""GDN with frozen weights against CompressAI's layer, autograd and finite differences."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from compressai.layers import GDN
from torch import Tensor, nn

from robustcodec.zoo._gdn import PIXELS, steady

CHANNELS = 6
both = pytest.mark.parametrize("inverse", [False, True])


def layers(inverse: bool, dtype: torch.dtype = torch.float64) -> tuple[GDN, nn.Module]:
    """CompressAI's layer with weights of every kind, some below their bounds, and ours, frozen, with the same."""
    torch.manual_seed(0)
    plain = GDN(CHANNELS, inverse=inverse)
    nn.init.uniform_(plain.beta, -0.2, 1.5)
    nn.init.uniform_(plain.gamma, -0.2, 0.5)
    plain = plain.to(dtype)
    return plain, steady(copy.deepcopy(plain)).requires_grad_(False)


def clip(dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(2, CHANNELS, 5, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def gradient(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_(True)
    y = layer(leaf)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return y.detach(), torch.autograd.grad((y * weights).sum(), leaf)[0]


@both
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients_are_those_of_compressai(
    inverse: bool, dtype: torch.dtype, tolerance: float, layout: torch.memory_format
) -> None:
    plain, ours = layers(inverse, dtype)
    x = clip(dtype).contiguous(memory_format=layout)
    for a, b in zip(gradient(ours, x), gradient(plain, x), strict=True):
        assert a.dtype == dtype
        assert float((a - b).abs().max()) <= tolerance * float(b.abs().max())


@both
@pytest.mark.parametrize("shape", [(1, 37, 61), (2, 1, 1), (1, 1, 7), (3, 5, 1)])
def test_any_number_of_pixels(inverse: bool, shape: tuple[int, int, int]) -> None:
    """The first is more than twice what is normalised together."""
    plain, ours = layers(inverse)
    n, height, width = shape
    x = torch.randn(n, CHANNELS, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert height * width > 2 * PIXELS or height * width < 10
    for a, b in zip(gradient(ours, x), gradient(plain, x), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


@both
def test_the_gradient_is_the_derivative(inverse: bool) -> None:
    _, ours = layers(inverse)
    assert torch.autograd.gradcheck(ours, clip().requires_grad_(True))


@both
def test_a_zero_input_has_a_finite_gradient(inverse: bool) -> None:
    plain, ours = layers(inverse)
    for a, b in zip(gradient(ours, clip() * 0), gradient(plain, clip() * 0), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=0)


@both
def test_a_layer_may_be_used_twice_in_one_graph(inverse: bool) -> None:
    plain, ours = layers(inverse)
    twice = [nn.Sequential(layer, nn.Tanh(), layer) for layer in (ours, plain)]
    for a, b in zip(gradient(twice[0], clip()), gradient(twice[1], clip()), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


class _Residual(nn.Module):
    """As the residual blocks of cheng2020 use the layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(2 * x)
        out += x
        return out


@both
def test_the_result_may_be_changed_in_place(inverse: bool) -> None:
    plain, ours = layers(inverse)
    for a, b in zip(gradient(_Residual(ours), clip()), gradient(_Residual(plain), clip()), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


@both
def test_the_second_derivative_is_right_too(inverse: bool) -> None:
    x = clip()[:1, :, :2, :2].contiguous().requires_grad_(True)
    assert torch.autograd.gradgradcheck(layers(inverse)[1], x)


@both
def test_unfrozen_weights_have_the_gradients_of_compressai(inverse: bool) -> None:
    plain, ours = layers(inverse)
    ours.requires_grad_(True)
    for layer in (plain, ours):
        layer(clip()).square().sum().backward()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert a.grad is not None
        assert torch.allclose(a.grad, b.grad, rtol=1e-10)


def _loaded(layer: nn.Module, other: nn.Module) -> nn.Module:
    layer.load_state_dict(other.state_dict())
    return layer


def _written(layer: nn.Module, other: nn.Module) -> nn.Module:
    for p, q in zip(layer.parameters(), other.parameters(), strict=True):
        p.data.copy_(q.data)
    return layer


def _through_numpy(layer: nn.Module, other: nn.Module) -> nn.Module:
    for p, q in zip(layer.parameters(), other.parameters(), strict=True):
        p.numpy()[...] = q.numpy()
    return layer


def _replaced(layer: nn.Module, other: nn.Module) -> nn.Module:
    for name, q in other.named_parameters():
        setattr(layer, name, q)
    return layer


def _copied(layer: nn.Module, other: nn.Module) -> nn.Module:
    return copy.deepcopy(other)


def _pickled(layer: nn.Module, other: nn.Module) -> nn.Module:
    again: nn.Module = pickle.loads(pickle.dumps(other))
    return again


@pytest.mark.parametrize("change", [_loaded, _written, _through_numpy, _replaced, _copied, _pickled])
def test_changed_weights_count_at_once(change) -> None:  # type: ignore[no-untyped-def]
    _, ours = layers(False)
    other = copy.deepcopy(ours)
    for p in other.parameters():
        p.data.add_(0.3)
    before, wanted = ours(clip()), other(clip())
    assert not torch.allclose(before, wanted)
    assert torch.equal(change(ours, other)(clip()), wanted)


def test_the_state_dict_is_that_of_compressai() -> None:
    plain, ours = layers(False)
    ours(clip())
    assert ours.state_dict().keys() == plain.state_dict().keys()


def test_a_float64_twin_is_computed_in_float64() -> None:
    plain, ours = layers(True, torch.float32)
    ours(clip(torch.float32))
    twin = copy.deepcopy(ours).double()
    assert torch.allclose(twin(clip()), plain.double()(clip()), rtol=1e-12)


@both
def test_channels_last_stays(inverse: bool) -> None:
    for y in gradient(layers(inverse)[1], clip()):
        assert y.is_contiguous(memory_format=torch.channels_last)


@both
def test_bfloat16_stays_near_float32(inverse: bool) -> None:
    plain, ours = layers(inverse, torch.float32)
    x = clip(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = gradient(ours, x.bfloat16())
    for a, b in zip(reduced, gradient(plain, x), strict=True):
        assert a.dtype == torch.bfloat16
        assert float((a.float() - b).norm() / b.norm()) < 0.02
