"""Objectives: formulas by hand, and only the branch they need."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcodec.interfaces import Output
from robustcodec.registry import objectives


def forbidden() -> Tensor:
    raise AssertionError("this branch must not be evaluated")


def test_formulas() -> None:
    rng = torch.Generator().manual_seed(0)
    x, x_adv, clean, attacked = (torch.rand(2, 3, 3, 4, 5, generator=rng) for _ in range(4))
    bits = torch.tensor([120.0, 60.0])
    a, b, c = (t.double().numpy() for t in (x, clean, attacked))
    before = Output(lambda: clean, forbidden)
    wanted = {
        "distortion": ((c - b) ** 2).mean((1, 2, 3, 4)),
        "source-distortion": ((c - a) ** 2).mean((1, 2, 3, 4)),
        "rate": np.array([120 / 60, 60 / 60]),  # 3 frames of 4x5 pixels
    }
    for name, value in wanted.items():
        after = Output(forbidden, lambda: bits) if name == "rate" else Output(lambda: attacked, forbidden)
        np.testing.assert_allclose(objectives.build(name)(x, before, after, x_adv).numpy(), value, rtol=1e-5)


@pytest.mark.parametrize("name", ["distortion", "source-distortion", "rate"])
def test_damage_is_differentiable(name: str) -> None:
    x = torch.rand(2, 1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = (x + 0.1).requires_grad_()
    objective = objectives.build(name)
    clean = Output(lambda: x.square(), lambda: x.flatten(1).sum(1))

    def damage(x_adv: Tensor) -> Tensor:
        after = Output(lambda: x_adv.square(), lambda: x_adv.flatten(1).exp().sum(1))
        value: Tensor = objective(x, clean, after, x_adv)
        return value

    assert torch.autograd.gradcheck(damage, (start,))
