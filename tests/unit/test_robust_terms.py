"""What finetuning adds to a loss, by hand, and the budget that grows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from robustcodec.interfaces import Draws
from robustcodec.registry import threats
from robustcodec.training.finetune_recipe import FinetuneRecipe
from robustcodec.training.robust_terms import Shrunk, TrainingOutput, first_order_rise, latent_stretch, loss_terms

RECIPE = FinetuneRecipe("bmshj2018-factorized.tiny-q1", "at", ("photos:size=64",), 0.0025)


def clip(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_every_term_by_hand() -> None:
    x = torch.full((2, 1, 3, 4, 4), 0.5)
    x_adv = x + 2 / 255
    clean = TrainingOutput(x + 1 / 255, torch.tensor([10.0, 20.0]), [torch.zeros(2, 3)])
    attacked = TrainingOutput(x + 5 / 255, torch.tensor([16.0, 12.0]), [torch.full((2, 3), 2.0)])
    recipe = replace(
        RECIPE, lmbda=0.1, adversarial=0.25, consistency=2, lipschitz=3, rate_robustness=4, gradient_penalty=0
    )

    def of(recipe: FinetuneRecipe, without: bool = False) -> dict[str, float]:
        terms = loss_terms(
            recipe, x, x_adv, None if without else clean, attacked, threats.build("psnr:40"),
            lambda bits: bits.sum() / 32, lambda target, x_hat: torch.tensor(7.0),
        )  # fmt: skip
        return {name: float(value) for name, value in terms.items()}

    stretch = 3 * 2.0**2 / (48 * (2 / 255) ** 2)
    assert of(recipe) == pytest.approx(
        {
            "attacked": 0.25 * (0.1 * 5**2 + 28 / 32 + 7),
            "clean": 0.75 * (0.1 * 1**2 + 30 / 32 + 7),
            "consistency": 2 * 0.1 * 4**2,
            "lipschitz": 3 * stretch,
            "rate_robustness": 4 * 6 / 32,  # the second sample got cheaper, which is no fault
        },
        rel=1e-4,
    )
    own = replace(RECIPE, lmbda=0.1, adversarial=1, target="own")
    assert of(own, without=True) == pytest.approx({"attacked": 0.1 * 3**2 + 28 / 32 + 7}, rel=1e-4)


def test_the_stretch_of_a_linear_map_is_its_gain_and_zero_where_nothing_moved() -> None:
    x, moved = clip(3, 1, 3, 4, 4), clip(3, 1, 3, 4, 4, seed=1)
    moved[2] = x[2]
    latents, attacked = [5 * x[:, :, :1], 5 * x[:, :, 1:]], [5 * moved[:, :, :1], 5 * moved[:, :, 1:]]
    assert float(latent_stretch(latents, attacked, x, moved)) == pytest.approx(25 * 2 / 3, rel=1e-5)


@pytest.mark.parametrize("threat", ["l2:0.5", "linf:4/255"])
def test_the_first_order_rise_is_the_radius_times_the_dual_norm(threat: str) -> None:
    ball: Any = threats.build(threat)
    x = clip(2, 1, 3, 4, 4)
    weight = clip(1, 1, 3, 4, 4, seed=1).double() - 0.5

    def rise(scale: Tensor) -> Tensor:
        at = x.double().requires_grad_(True)
        return first_order_rise((scale * weight * at.square()).flatten(1).sum(1).mean(), at, x.double(), ball)

    slope = 2 * weight * x.double()
    order = 2 if threat.startswith("l2") else 1
    norm = torch.linalg.vector_norm(slope.flatten(1), order, dim=1)
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    by_hand = float(ball.eps * 1.5 * norm.mean())
    found = rise(scale)
    (grad,) = torch.autograd.grad(found, scale)
    step = 1e-4
    numeric = float((rise(scale.detach() + step) - rise(scale.detach() - step)).detach()) / (2 * step)
    assert float(found.detach()) == pytest.approx(by_hand, rel=1e-6)
    assert float(grad) == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("threat", ["psnr:30", "linf:8/255"])
def test_a_ramp_grows_the_published_budget_linearly(threat: str) -> None:
    whole, x = threats.build(threat), 0.25 + 0.5 * clip(2, 1, 3, 8, 8)
    part = Shrunk.ramp(whole, 0.25)
    ratio = part.radius(x) / whole.radius(x)
    assert torch.allclose(ratio if whole.norm == "linf" else ratio.square(), torch.tensor(0.25, dtype=torch.float64))
    order = math.inf if whole.norm == "linf" else 2
    for found in (
        part.project(clip(2, 1, 3, 8, 8, seed=1), x),
        x + part.steepest(clip(2, 1, 3, 8, 8, seed=2) - 0.5, x),
        part.random_start(x, Draws([1, 2])),
    ):
        size = torch.linalg.vector_norm((found - x).flatten(1), order, dim=1).double()
        assert (size <= part.radius(x) * (1 + 1e-4)).all() and (size > 0.5 * part.radius(x)).all()
    assert Shrunk.ramp(whole, 1.0) is whole
