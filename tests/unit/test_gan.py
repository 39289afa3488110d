"""GAN objectives: values by hand, gradients by finite differences; gradient penalty, clipping, freezing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustcodec.training.gan import FORMS, clip_weights, frozen, gradient_penalty

REAL, FAKE = [0.7, -1.3, 2.1], [-0.4, 1.6]  # of different lengths, so that a mean over the wrong one shows


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(f: Callable[[float], float], values: list[float]) -> float:
    return sum(map(f, values)) / len(values)


E_REAL, E_FAKE = sum(REAL) / 3, sum(FAKE) / 2
MINIMAX = mean(lambda r: -math.log(sigmoid(r)), REAL) + mean(lambda f: -math.log(1 - sigmoid(f)), FAKE)
LOSSES = {
    "dcgan": (MINIMAX, mean(lambda f: math.log(1 - sigmoid(f)), FAKE)),
    "dcgan-ns": (MINIMAX, mean(lambda f: -math.log(sigmoid(f)), FAKE)),
    "wgan-clip": (E_FAKE - E_REAL, -E_FAKE),
    "wgan-gp": (E_FAKE - E_REAL, -E_FAKE),
    "lsgan": (mean(lambda r: (r - 1) ** 2, REAL) + mean(lambda f: f**2, FAKE), mean(lambda f: (f - 1) ** 2, FAKE)),
    "ragan": (
        mean(lambda r: -math.log(sigmoid(r - E_FAKE)), REAL) + mean(lambda f: -math.log(1 - sigmoid(f - E_REAL)), FAKE),
        mean(lambda r: -math.log(1 - sigmoid(r - E_FAKE)), REAL) + mean(lambda f: -math.log(sigmoid(f - E_REAL)), FAKE),
    ),
}


def double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_every_form_has_hand_values() -> None:
    assert set(LOSSES) == set(FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_values_by_hand(name: str) -> None:
    form, (discriminator, decoder) = FORMS[name], LOSSES[name]
    assert float(form.discriminator_loss(double(REAL), double(FAKE))) == pytest.approx(discriminator, rel=1e-12)
    assert float(form.decoder_loss(double(REAL), double(FAKE))) == pytest.approx(decoder, rel=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_shape_of_scores_does_not_matter(name: str) -> None:
    real, fake = torch.randn(2, 3, generator=torch.manual_seed(0)), torch.randn(2, 3)
    for loss in (FORMS[name].discriminator_loss, FORMS[name].decoder_loss):
        assert loss(real, fake).shape == ()
        torch.testing.assert_close(loss(real, fake), loss(real.flatten(), fake.flatten()))


@pytest.mark.parametrize("scale", [1.0, 50.0])  # 50: scores up to ±105
@pytest.mark.parametrize("name", FORMS)
def test_gradients_are_central_differences(name: str, scale: float) -> None:
    for loss in (FORMS[name].discriminator_loss, FORMS[name].decoder_loss):
        scores = [scale * double(REAL), scale * double(FAKE)]
        for which, at in enumerate(scores):
            leaf = at.clone().requires_grad_(True)

            def value(x: Tensor, which: int = which, scores: list[Tensor] = scores, loss=loss) -> Tensor:  # type: ignore[no-untyped-def]
                real, fake = (x if i == which else s for i, s in enumerate(scores))
                out: Tensor = loss(real, fake)
                return out

            out = value(leaf)
            if not out.requires_grad:  # this loss ignores the real scores
                assert which == 0 and loss is FORMS[name].decoder_loss and not FORMS[name].needs_real
                continue
            (grad,) = torch.autograd.grad(out, leaf)
            for i in range(len(at)):
                step = torch.zeros_like(at)
                step[i] = 1e-4
                difference = (value(at + step) - value(at - step)) / 2e-4
                assert float(grad[i]) == pytest.approx(float(difference), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FORMS)
def test_finite_at_large_scores(name: str, dtype: torch.dtype) -> None:
    for r, f in [(100, -100), (-100, 100), (100, 100), (1e4, -1e4), (-1e4, 1e4)]:
        real = torch.tensor([r, 1.0], dtype=dtype, requires_grad=True)
        fake = torch.tensor([f, 1.0], dtype=dtype, requires_grad=True)
        for loss in (FORMS[name].discriminator_loss, FORMS[name].decoder_loss):
            out = loss(real, fake)
            assert out.isfinite()
            for grad in torch.autograd.grad(out, (real, fake), allow_unused=True):
                assert grad is None or grad.isfinite().all()


def test_only_the_relativistic_decoder_needs_real_scores() -> None:
    for name, form in FORMS.items():
        here, there = (float(form.decoder_loss(double([r]), double(FAKE))) for r in (0.5, 2.0))
        assert (here != there) == form.needs_real == (name == "ragan")


def test_saturation_is_what_tells_the_two_minimax_forms_apart() -> None:
    def slope(name: str) -> float:
        fake = double([-10.0]).requires_grad_(True)
        (grad,) = torch.autograd.grad(FORMS[name].decoder_loss(double([3.0]), fake), fake)
        return float(grad)

    assert slope("dcgan") == pytest.approx(-sigmoid(-10), rel=1e-9)  # the decoder learns next to nothing
    assert slope("dcgan-ns") == pytest.approx(sigmoid(-10) - 1, rel=1e-9)


def test_constants_of_the_authors() -> None:
    assert {n: f.n_critic for n, f in FORMS.items() if f.n_critic != 1} == {"wgan-clip": 5, "wgan-gp": 5}
    assert {n: f.clip for n, f in FORMS.items() if f.clip is not None} == {"wgan-clip": 0.01}
    assert {n: f.penalty for n, f in FORMS.items() if f.penalty is not None} == {"wgan-gp": 10.0}


def test_penalty_of_a_linear_critic_and_its_gradient() -> None:
    """C(x) = w·x has slope w everywhere: penalty (|w| − 1)², gradient 2(|w| − 1)·w/|w|."""
    w = double([1.0, -2.0, 2.0]).requires_grad_(True)
    real, fake = torch.rand(4, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)
    out = gradient_penalty(lambda x: x @ w, real, fake, torch.Generator().manual_seed(1))
    assert float(out.detach()) == pytest.approx(4.0)
    out.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(w.grad, 2 * (3 - 1) * w.detach() / 3)


def test_penalty_looks_at_one_point_of_each_segment() -> None:
    """C(x) = |x|²/2 has slope x, so the penalty tells at which points it was taken."""
    real = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.manual_seed(3))
    fake = torch.randn(5, 2, 3, dtype=torch.float64)
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square().flatten(1).sum(1) / 2

    out = gradient_penalty(critic, real, fake, torch.Generator().manual_seed(7))
    (points,) = seen
    shares = ((points - fake) / (real - fake)).flatten(1)
    torch.testing.assert_close(shares, shares[:, :1].expand_as(shares))  # one share per sample …
    assert len(set(shares[:, 0].tolist())) == 5 and shares.min() >= 0 and shares.max() <= 1  # … and each its own
    by_hand = [(math.sqrt(sum(v * v for v in p.flatten().tolist())) - 1) ** 2 for p in points]
    assert out.item() == pytest.approx(sum(by_hand) / 5)
    again = gradient_penalty(critic, real, fake, torch.Generator().manual_seed(7))
    assert again.item() == out.item()


def test_penalty_gradient_by_central_differences() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    real, fake = torch.rand(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)

    def value() -> Tensor:
        return gradient_penalty(critic, real, fake, torch.Generator().manual_seed(5))

    weight = critic[0].weight
    assert isinstance(weight, nn.Parameter)
    (grad,) = torch.autograd.grad(value(), weight)
    for i, j in [(0, 0), (2, 3), (5, 1)]:
        ends = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                weight[i, j] += step
            ends.append(float(value().detach()))
        with torch.no_grad():
            weight[i, j] += 1e-5
        assert float(grad[i, j]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_penalty_of_a_flat_critic_has_a_finite_gradient() -> None:
    w = torch.zeros(3, requires_grad=True)
    out = gradient_penalty(lambda x: x @ w, torch.rand(2, 3), torch.rand(2, 3), torch.Generator())
    out.backward()  # type: ignore[no-untyped-call]
    assert float(out.detach()) == 1 and w.grad is not None and w.grad.isfinite().all()


def test_clipping() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))
    before = [p.detach().clone() for p in net.parameters()]
    clip_weights(net, 0.01)
    for p, old in zip(net.parameters(), before, strict=True):
        expected = [max(-0.01, min(0.01, v)) for v in old.flatten().tolist()]
        torch.testing.assert_close(p.detach().flatten(), torch.tensor(expected))
        assert p.requires_grad
    for limit in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected a positive bound"):
            clip_weights(net, limit)


def test_frozen_gives_the_input_its_gradient_and_restores() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    x = torch.rand(2, 3, requires_grad=True)
    with pytest.raises(KeyError), frozen(net):
        net(x).sum().backward()
        raise KeyError
    assert x.grad is not None and all(p.grad is None for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]
