"""Estimated bits of common, rare and impossible symbols against CompressAI's own coder."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from compressai.ans import RansEncoder
from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional
from torch import Tensor

from robustcodec.zoo import _entropy

REPEATS = 300  # of one symbol, so that the words that end a string do not count


@cache
def gaussian() -> GaussianConditional:
    model = GaussianConditional(None).eval()
    model.update_scale_table(torch.exp(torch.linspace(-2.2073, 5.5452, 64)).tolist())  # 0.11 to 256, CompressAI's
    return model


@cache
def bottleneck() -> EntropyBottleneck:
    torch.manual_seed(0)
    model = EntropyBottleneck(4).eval()
    model.update(force=True, update_quantiles=True)
    return model


def spent(model: EntropyModel, table: int, symbol: int) -> float:
    """Bits of a symbol, of so many equal ones that were really coded."""
    cdf, length, offset = model.quantized_cdf[table], model.cdf_length[table], model.offset[table]
    tables = [cdf.tolist()], [int(length)], [int(offset)]
    data = RansEncoder().encode_with_indexes([symbol] * REPEATS, [0] * REPEATS, *tables)
    return (8 * len(data) - 48) / REPEATS


def estimate(scale: float, symbols: Tensor) -> Tensor:
    values = symbols.float().view(-1, 1, 1, 1)
    return _entropy.gaussian_bits(gaussian(), values, torch.full_like(values, scale), None)


def information(scale: float, symbols: Tensor) -> Tensor:
    """By the normal distribution of float64, without any bound."""
    values = symbols.abs().double()
    likelihood: Tensor = torch.special.ndtr((0.5 - values) / scale) - torch.special.ndtr((-0.5 - values) / scale)
    return -likelihood.log2()


@pytest.mark.parametrize("table", [0, 12, 22, 35, 40])
def test_the_estimate_follows_the_coder_wherever_the_symbol_is(table: int) -> None:
    """Tables take frequency from their rare symbols, which then cost up to 2.5 bits more than their information."""
    model = gaussian()
    scale, end = float(model.scale_table[table]), -int(model.offset[table])
    inside = [0, end // 4, end // 2, 3 * end // 4, end]
    outside = [sign * (end + d) for d in (1, 2, 8, 9, 128, 129, 2000, 30000) for sign in (1, -1)]
    for symbols, allowed in ((inside, 2.5), (outside, 5.0)):
        real = torch.tensor([spent(model, table, s) for s in symbols])
        gap = estimate(scale, torch.tensor(symbols)) - real
        assert gap.abs().max() < allowed, (symbols, gap)
    assert abs(float(gap.mean())) < 2.0  # over the distances the curve is no more above than below


def test_the_bare_information_is_further_from_the_coder() -> None:
    """What a rate attack could find in CompressAI's estimate: 30 bits for symbols that cost 16 to 28."""
    model, table = gaussian(), 22
    scale, end = float(model.scale_table[table]), -int(model.offset[table])
    symbols = torch.arange(end // 2, end + 20)
    real = torch.tensor([spent(model, table, s) for s in symbols.tolist()])
    values = symbols.float()
    bare = -model.likelihood_lower_bound(model._likelihood(values, torch.full_like(values, scale), None)).log2()
    ours = estimate(scale, symbols)
    assert (ours - real).abs().mean() < 0.3 * (bare - real).abs().mean()


def test_common_symbols_are_their_information() -> None:
    for scale in (0.11, 0.5, 1.7, 6.0, 40.0):
        symbols = torch.arange(-200, 201)
        exact = information(scale, symbols)
        common = exact < 10  # where the smooth minimum is the information to 1e-4 bits
        torch.testing.assert_close(estimate(scale, symbols)[common].double(), exact[common], rtol=1e-3, atol=1e-4)
        assert (estimate(scale, symbols) <= exact + 1e-3 * exact.clamp(max=100) + 1e-4).all()


def test_means_move_the_distribution() -> None:
    y = torch.linspace(-30, 30, 41).view(-1, 1, 1, 1)
    scales, means = torch.full_like(y, 1.3), torch.full_like(y, 4.6)
    moved = _entropy.gaussian_bits(gaussian(), y + means, scales, means)
    torch.testing.assert_close(moved, _entropy.gaussian_bits(gaussian(), y, scales, None), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("table", [3, 22, 40])
def test_beyond_the_table_bits_still_grow_with_a_true_gradient(table: int) -> None:
    model = gaussian()
    scale, end = float(model.scale_table[table]), -int(model.offset[table])
    y = torch.tensor([end + 5.0, end + 40.3, end + 1000.7, -end - 60.2]).view(-1, 1, 1, 1).requires_grad_()
    scales = torch.full(y.shape, scale, requires_grad=True)
    to_y, to_scale = torch.autograd.grad(_entropy.gaussian_bits(model, y, scales, None).sum(), (y, scales))
    assert (to_y.flatten() * y.detach().flatten().sign() > 0).all() and to_y.isfinite().all()
    assert (to_scale < 0).all()  # a wider table ends later

    def at(values: Tensor) -> Tensor:
        return _entropy.gaussian_bits(model, values, scales.detach(), None)

    step = 0.25
    difference = (at(y.detach() + step) - at(y.detach() - step)) / (2 * step)
    torch.testing.assert_close(to_y.flatten(), difference, rtol=0.03, atol=1e-3)


def test_gradients_are_finite_everywhere() -> None:
    values = torch.cat((torch.linspace(-3000, 3000, 2001), torch.tensor([-1e6, 1e6, 0.0]))).view(-1, 1, 1, 1)
    for scale in (1e-3, 0.11, 1.0, 300.0):
        y, scales = values.clone().requires_grad_(), torch.full_like(values, scale).requires_grad_()
        bits = _entropy.gaussian_bits(gaussian(), y, scales, None)
        grads = torch.autograd.grad(bits.sum(), (y, scales))
        assert bits.isfinite().all() and all(g.isfinite().all() for g in grads)
    z = values.expand(-1, 4, 1, 1).clone().requires_grad_()
    bits = _entropy.bottleneck_bits(bottleneck(), z)
    (grad,) = torch.autograd.grad(bits.sum(), z)
    assert bits.isfinite().all() and grad.isfinite().all() and grad[:900].lt(0).all() and grad[1100:2001].gt(0).all()


def test_the_factorised_prior_follows_its_coder_too() -> None:
    model = bottleneck()
    medians = _entropy.medians(model, torch.zeros(1, 4, 1, 1)).flatten()
    for channel in range(4):
        low, length = -int(model.offset[channel]), int(model.cdf_length[channel])
        high = length - 3 - low
        for symbol, allowed in [(0, 0.3), (high // 4, 0.3), (high, 1.0), (-low, 1.0)] + [
            (s, 5.0) for d in (1, 8, 9, 128, 2000) for s in (high + d, -low - d)
        ]:
            other = medians.view(1, -1, 1, 1)
            one = other + symbol * torch.eye(4)[channel].view(1, -1, 1, 1)
            with torch.no_grad():
                ours = float(_entropy.bottleneck_bits(model, one) - _entropy.bottleneck_bits(model, other))
            assert abs(ours - (spent(model, channel, symbol) - spent(model, channel, 0))) < allowed, symbol


def test_training_keeps_compressais_estimate() -> None:
    model = GaussianConditional(None).train()
    y, scales = torch.linspace(-40, 40, 81).view(1, 1, 9, 9), torch.full((1, 1, 9, 9), 1.3)
    expected = -model.likelihood_lower_bound(model._likelihood(y, scales, None)).log2().sum()
    torch.testing.assert_close(_entropy.gaussian_bits(model, y, scales, None), expected[None])
    prior = EntropyBottleneck(1).train()
    rows = prior.likelihood_lower_bound(prior._likelihood(y.view(1, 1, -1))[0])
    torch.testing.assert_close(_entropy.bottleneck_bits(prior, y), -rows.log2().sum()[None])
