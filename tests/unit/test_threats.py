"""Threats: inside the set, per sample, and 8-bit, against brute force and formulas by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustcodec.errors import BadParameter
from robustcodec.interfaces import Draws, Threat
from robustcodec.registry import threats
from robustcodec.threats import L2, Flicker, Linf, Mse, Psnr

FRAMES = st.sampled_from(["all", "first", "-1", "::2"])
PER: st.SearchStrategy[Literal["clip", "frame"]] = st.sampled_from(["clip", "frame"])
BALLS = st.one_of(
    st.builds(Linf, st.floats(1 / 255, 1), frames=FRAMES),
    st.builds(L2, st.floats(0.01, 20), frames=FRAMES, per=PER),
    st.builds(Mse, st.floats(1e-6, 0.1), frames=FRAMES, per=PER),
    st.builds(Psnr, st.floats(15, 60), frames=FRAMES, per=PER),
)
KINDS = st.one_of(BALLS, st.builds(Flicker, st.floats(1 / 255, 1), frames=FRAMES))
SEEDS = st.integers(0, 2**31)
Array = np.ndarray[Any, np.dtype[np.float64]]


def clips(seed: int, n: int = 2, shape: tuple[int, ...] = (2, 3, 5, 4)) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, *shape), generator=rng) / 255


def wild(seed: int, like: Tensor) -> Tensor:
    """Inputs in and far out of the box."""
    rng = torch.Generator().manual_seed(seed + 1)
    size = torch.rand(len(like), generator=rng)[:, None, None, None, None]
    return like + 2 * size**4 * torch.randn(like.shape, generator=rng)


def length(threat: Threat, delta: Tensor) -> Array:
    """The norm of each item, by numpy."""
    flat = delta.flatten(1).double().numpy()
    size: Array = np.abs(flat).max(1) if threat.norm == "linf" else np.sqrt((flat**2).sum(1))
    return size


def inside(threat: Threat, x_adv: Tensor, x: Tensor) -> bool:
    slack = 1e-6 + 1e-5 * threat.radius(x).numpy()
    in_ball = length(threat, x_adv - x) <= threat.radius(x).numpy() + slack
    return bool(in_ball.all() and x_adv.min() >= 0 and x_adv.max() <= 1)


@settings(max_examples=30, deadline=None)
@given(KINDS, SEEDS)
def test_projection_is_inside_and_leaves_allowed_inputs(threat: Threat, seed: int) -> None:
    x = clips(seed)
    once = threat.project(wild(seed, x), x)
    assert inside(threat, once, x)
    torch.testing.assert_close(threat.project(once, x), once, rtol=0, atol=1e-6)
    assert torch.equal(threat.project(x, x), x)


@settings(max_examples=30, deadline=None)
@given(KINDS, SEEDS)
def test_quantised_is_inside_and_8_bit(threat: Threat, seed: int) -> None:
    x = clips(seed)
    y = threat.quantise(wild(seed, x), x)
    assert torch.equal(y, (255 * y).round() / 255)
    levels = ((255 * y).round() - (255 * x).round()).flatten(1).double()
    radius = 255 * threat.radius(x)
    size = levels.abs().amax(1) if threat.norm == "linf" else levels.norm(dim=1)
    assert (size <= radius + 1e-6).all()
    assert y.min() >= 0 and y.max() <= 1
    assert torch.equal(threat.quantise(y, x), y)
    assert torch.equal(threat.quantise(x, x), x)


@settings(max_examples=25, deadline=None)
@given(KINDS, SEEDS)
def test_samples_do_not_see_each_other(threat: Threat, seed: int) -> None:
    x = clips(seed)
    x_adv = wild(seed, x)
    for batch_of in (threat.project, threat.quantise, threat.steepest):
        together = batch_of(x_adv, x)
        alone = torch.cat([batch_of(x_adv[i : i + 1], x[i : i + 1]) for i in range(len(x))])
        torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("threat", [Linf(0.15), L2(0.25), Mse(0.02), Psnr(17)], ids=repr)
def test_projection_is_the_nearest_point_of_the_ball(threat: Threat) -> None:
    x = torch.full((1, 1, 3, 1, 1), 0.5)
    radius = float(threat.radius(x))
    axis = torch.linspace(-radius, radius, 41)
    ball = torch.tensor(list(itertools.product(axis.tolist(), repeat=3)))
    size = ball.abs().amax(1) if threat.norm == "linf" else ball.norm(dim=1)
    ball = 0.5 + ball[size <= radius + 1e-6]
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        target = 0.5 + torch.randn(3, generator=rng)
        p = threat.project(target.view(1, 1, 3, 1, 1), x).flatten()
        nearest = (ball - target).norm(dim=1).min()
        spacing = 2 * radius / 40
        assert nearest - spacing * math.sqrt(3) <= (p - target).norm() <= nearest + 1e-5


@settings(max_examples=25, deadline=None)
@given(BALLS, SEEDS)
def test_steepest_has_full_radius_and_beats_random_steps(threat: Threat, seed: int) -> None:
    x = torch.full((2, 1, 3, 4, 4), 0.5)
    rng = torch.Generator().manual_seed(seed)
    grad = torch.randn(x.shape, generator=rng) * torch.tensor([1e-7, 1e3])[:, None, None, None, None]
    step = threat.steepest(grad, x)
    np.testing.assert_allclose(length(threat, step), threat.radius(x).numpy(), rtol=1e-5)
    for _ in range(10):
        other = torch.randn(x.shape, generator=rng)
        other *= torch.from_numpy(threat.radius(x).numpy() / length(threat, other)).float()[:, None, None, None, None]
        assert ((grad * step).flatten(1).sum(1) >= (grad * other).flatten(1).sum(1)).all()


@pytest.mark.parametrize("threat", [Linf(0.1), Psnr(40)], ids=repr)
def test_no_gradient_no_step(threat: Threat) -> None:
    x = clips(0)
    assert torch.equal(threat.steepest(torch.zeros_like(x), x), torch.zeros_like(x))


@settings(max_examples=30, deadline=None)
@given(KINDS, SEEDS)
def test_random_start_is_allowed_and_seeded(threat: Threat, seed: int) -> None:
    x = clips(seed)
    first, again = (threat.random_start(x, Draws([seed, 7])) for _ in range(2))
    assert torch.equal(first, again)
    assert inside(threat, first, x)
    assert torch.equal(first[1:], threat.random_start(x[1:], Draws([7])))
    assert not torch.equal(first, threat.random_start(x, Draws([seed + 1, 7])))


def test_random_start_is_uniform_in_the_ball() -> None:
    n = 10_000
    x = torch.full((n, 1, 3, 1, 1), 0.5)
    rng = Draws(range(n))
    r = length(L2(0.3), L2(0.3).random_start(x, rng) - x) / 0.3
    # P(|n| <= r) = r³ in three dimensions
    for q in (0.3, 0.6, 0.9):
        assert abs((r <= q).mean() - q**3) < 0.015
    noise = ((Linf(0.3).random_start(x, rng) - x) / 0.3).flatten()
    assert abs(float((noise < -0.5).float().mean()) - 0.25) < 0.015
    assert abs(float((noise < 0.5).float().mean()) - 0.75) < 0.015


@pytest.mark.parametrize("db", [32.0, 40.0, 46.0])
def test_8_bit_inputs_use_the_psnr_budget(db: float) -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randint(60, 196, (3, 1, 3, 64, 64), generator=rng) / 255
    delta = torch.randn(x.shape, generator=rng)
    y = Psnr(db).quantise(Psnr(db).project(x + delta, x), x)
    levels = (255 * y).round().double() - (255 * x).round().double()
    psnr = 10 * torch.log10(255**2 / levels.square().flatten(1).mean(1))
    assert (psnr >= db).all() and (psnr <= db + 0.02).all()


@pytest.mark.parametrize("eps", [1 / 255, 8 / 255, 8.4 / 255])
def test_8_bit_inputs_use_the_linf_budget(eps: float) -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randint(60, 196, (1, 1, 3, 8, 8), generator=rng) / 255
    sign = torch.randn(x.shape, generator=rng).sign()
    y = Linf(eps).quantise(x + eps * sign, x)
    assert torch.equal((255 * (y - x)).round(), math.floor(255 * eps + 1e-6) * sign)


def test_rounding_is_the_largest_scale_that_fits() -> None:
    x = torch.full((1, 1, 3, 4, 4), 128 / 255)
    delta = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)) * 3 / 255
    y = Mse(4 / 255**2).quantise(x + delta, x)
    fits = []
    for scale in np.linspace(0, 1, 20_001):
        q = np.round(scale * (255 * delta).double().numpy())
        if (q**2).mean() <= 4:
            fits.append(q)
    np.testing.assert_array_equal((255 * y).round().numpy() - 128, fits[-1])


def test_names_mean_the_same_budget() -> None:
    x = clips(0)
    radii = [threats.build(s).radius(x) for s in ("psnr:40", "mse:1e-4", f"l2:{math.sqrt(1e-4 * x[0].numel())}")]
    for r in radii[1:]:
        torch.testing.assert_close(r, radii[0])
    assert float(threats.build("linf:8/255").radius(x)[0]) == pytest.approx(8 / 255)


@pytest.mark.parametrize(
    "spec", ["linf:1.5", "linf:256", "linf:0", "l2:-1", "mse:40", "mse:nan", "psnr:-3", "psnr:inf", "l2:inf"]
)
def test_impossible_budgets_are_refused(spec: str) -> None:
    with pytest.raises(BadParameter, match="expected|write|so 40 dB"):
        threats.build(spec)


@pytest.mark.parametrize("threat", ["linf:0.002", "psnr:40+linf:0.002"])
def test_a_bound_below_one_level_is_refused(threat: str) -> None:
    with pytest.raises(BadParameter, match="below one of 255 levels"):
        threats.build(threat)
