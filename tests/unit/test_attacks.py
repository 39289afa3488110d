"""Attacks: on a linear codec, where the worst case is known in closed form."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import toys
from torch import Tensor
from toys import Linear

from robustcodec.attacks.chen_ma import ChenMa
from robustcodec.attacks.fgsm import FGSM
from robustcodec.attacks.noise import Noise
from robustcodec.attacks.pgd import PGD
from robustcodec.interfaces import Attack, Codec, Draws, Objective, Output, Threat
from robustcodec.objectives.damage import Distortion, SourceDistortion
from robustcodec.oracle import Oracle
from robustcodec.rounding import round_latent
from robustcodec.threats import Linf, Mse, Psnr

SHAPE = (1, 3, 4, 4)
VALUES = math.prod(SHAPE)


class Stairs(Linear):
    """The same with a coarse rounding in front: no gradient of ``distortion`` until a latent flips."""

    def forward(self, x: Tensor) -> Output:
        return super().forward(round_latent(4 * x - 0.25) / 4)


spectrum, positive, grey = (partial(toys.spectrum, SHAPE), partial(toys.positive, SHAPE), partial(toys.grey, SHAPE))


def damage(
    attack: Attack, codec: Codec, threat: Threat, x: Tensor, objective: Objective | None = None, first_seed: int = 0
) -> Tensor:
    objective = objective or Distortion()
    oracle = Oracle(codec, objective, x, attack.access)
    x_adv = attack.run(oracle, x, threat, Draws(range(first_seed, first_seed + len(x))))
    torch.testing.assert_close(threat.project(x_adv, x), x_adv, rtol=0, atol=1e-6)
    with torch.no_grad():
        return Oracle(codec, objective, x, "black")(x_adv)


def worst_l2(threat: Threat, matrix: Tensor, x: Tensor) -> Tensor:
    """σ² r² / values: the perturbation is the first singular vector."""
    top = float(torch.linalg.svdvals(matrix.double())[0])
    return top**2 * threat.radius(x) ** 2 / VALUES


def worst_linf(eps: float, matrix: Tensor) -> Tensor:
    """No entry is negative, so all values move by +eps."""
    return (eps * matrix.double().sum(1)).square().mean()


def test_pgd_finds_the_top_singular_vector() -> None:
    matrix, x, threat = spectrum(), grey(), Psnr(30)  # at 40 dB so few values lose 2 % to the rounding to 8 bits
    assert (damage(PGD(steps=50), Linear(matrix), threat, x) >= 0.99 * worst_l2(threat, matrix, x)).all()


def test_pgd_finds_the_worst_corner() -> None:
    matrix, x = positive(), grey()
    reached = damage(PGD(), Linear(matrix), Linf(8 / 255), x)
    assert (reached >= 0.99 * worst_linf(8 / 255, matrix)).all()
    assert (damage(PGD(momentum=0.9), Linear(matrix), Linf(8 / 255), x) >= 0.99 * worst_linf(8 / 255, matrix)).all()


@pytest.mark.parametrize("threat", [Psnr(40), Psnr(30), Mse(1e-5)], ids=repr)
def test_chen_ma_finds_the_top_singular_vector(threat: Threat) -> None:
    matrix, x = spectrum(), grey()
    assert (damage(ChenMa(), Linear(matrix), threat, x) >= 0.95 * worst_l2(threat, matrix, x)).all()


def test_chen_ma_finds_the_worst_corner() -> None:
    matrix, x = positive(), grey()
    reached = damage(ChenMa(steps=200), Linear(matrix), Linf(8 / 255), x)
    assert (reached >= 0.99 * worst_linf(8 / 255, matrix)).all()


def test_chen_ma_constants_are_the_published_ones_at_40_db() -> None:
    x, codec = grey(), Linear(spectrum())
    at_40, at_34 = (
        [damage(ChenMa(steps=60, constants=c), codec, Psnr(db), x) for c in ("published", "threat")]
        for db in (40.0, 34.0)
    )
    torch.testing.assert_close(at_40[0], at_40[1], rtol=1e-3, atol=0)
    assert (at_34[1] > 2 * at_34[0]).all()  # the published hinge stays at 40 dB


def reference_chen_ma(matrix: Tensor, x: Tensor, n: Tensor, steps: int) -> Tensor:
    """One clip, the loss as written and its gradient by autograd; the best iterate below the hinge."""
    x_hat = matrix @ x.flatten()
    n = n.clone().requires_grad_()
    adam = torch.optim.Adam([n], lr=0.01, eps=1e-2 / VALUES)
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [steps // 3, 2 * steps // 3], gamma=0.33)
    best, best_damage = x, torch.tensor(-math.inf)
    for _ in range(steps):
        # nothing comes near a clip here, so its gradient is 1
        x_adv = (x + n.clamp(-16 / 255, 16 / 255)).clamp(0, 1)
        loss_in = (x_adv - x).square().mean()
        loss_out = (x_hat - matrix @ x_adv.flatten()).square().mean()
        if loss_in <= 1e-4 and loss_out > best_damage:
            best, best_damage = x_adv.detach(), loss_out.detach()
        adam.zero_grad()
        (loss_in if loss_in > 1e-4 else 1 - loss_out).backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
    return best


def test_chen_ma_follows_the_published_loop() -> None:
    matrix, x = spectrum() / 4, grey(1)  # singular values small enough that no value reaches the clip
    oracle = Oracle(Linear(matrix), Distortion(), x, "white")
    found = ChenMa(steps=30).run(oracle, x, Psnr(40), Draws([0]))
    n = (Draws([0]).child().uniform(x.shape) * 2 - 1) * 0.01
    expected = reference_chen_ma(matrix, x[0], n[0], 30)
    assert (expected - x[0]).abs().max() < 16 / 255
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5)


def test_chen_ma_passes_the_rounding() -> None:
    """No latent flips at the start, so a loop with the rounding on would have no gradient."""
    x = torch.full((1, *SHAPE), 0.5)
    codec = Stairs(torch.eye(VALUES))
    start = Linf(0.01).random_start(x, Draws([0]))
    _, grad = Oracle(codec, Distortion(), x, "white").gradient(start, "straight-through")
    assert not grad.any()
    assert damage(ChenMa(steps=60), codec, Linf(0.1), x) > 0


def test_more_restarts_never_do_less_damage() -> None:
    matrix, x = torch.randn(VALUES, VALUES, generator=torch.Generator().manual_seed(8)), grey()
    for attack in (PGD(steps=3), PGD(steps=3, momentum=0.9)):
        reached = [
            damage(type(attack)(steps=3, momentum=attack.momentum, restarts=r), Linear(matrix), Linf(8 / 255), x)
            for r in (1, 2, 4, 8)
        ]
        assert all((b >= a).all() for a, b in zip(reached, reached[1:], strict=False))
        assert (reached[-1] > reached[0]).all()
    few, more = (damage(ChenMa(steps=9, restarts=r), Linear(matrix), Linf(8 / 255), x) for r in (1, 3))
    assert (more >= few).all() and (more > few).any()


@pytest.mark.parametrize("threat", [Psnr(40), Linf(8 / 255)], ids=repr)
def test_more_steps_never_do_less_damage_if_all_are_judged(threat: Threat) -> None:
    matrix, x = torch.randn(VALUES, VALUES, generator=torch.Generator().manual_seed(8)), grey()
    reached = [damage(PGD(steps=s, judge=1), Linear(matrix), threat, x) for s in (1, 2, 5, 10, 20)]
    assert all((b >= a).all() for a, b in zip(reached, reached[1:], strict=False))
    assert (reached[-1] > reached[0]).all()


@pytest.mark.parametrize("threat", [Psnr(40), Linf(8 / 255)], ids=repr)
@pytest.mark.parametrize(
    "attack",
    [Noise(), FGSM(), PGD(momentum=0.5, restarts=2), ChenMa(steps=40, restarts=2)],
    ids=lambda a: type(a).__name__,
)
def test_samples_do_not_see_each_other(attack: Attack, threat: Threat) -> None:
    x, codec = grey(), Linear(spectrum())
    together = damage(attack, codec, threat, x)
    alone = torch.cat([damage(attack, codec, threat, x[i : i + 1], first_seed=i) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=0)


def test_pgd_from_the_clean_clip() -> None:
    x, codec = grey(), Linear(spectrum())
    seeds = [damage(PGD(random_start=False), codec, Psnr(40), x, SourceDistortion(), first_seed=s) for s in (0, 9)]
    assert torch.equal(seeds[0], seeds[1])
    assert (seeds[0] > SourceDistortion()(x, codec(x), codec(x), x)).all()


@pytest.mark.parametrize("threat", [Psnr(30), Linf(8 / 255)], ids=repr)
def test_order_of_strength(threat: Threat) -> None:
    x, codec = grey(), Linear(spectrum())
    noise, fgsm, pgd = (damage(a, codec, threat, x) for a in (Noise(), FGSM(), PGD()))
    assert (4 * noise < fgsm).all() and (0.98 * fgsm < pgd).all()


def test_fgsm_step() -> None:
    x, threat = grey(), Linf(8 / 255)
    matrix = spectrum()
    oracle = Oracle(Linear(matrix), SourceDistortion(), x, "white")
    x_adv = FGSM(start=0).run(oracle, x, threat, Draws(range(2)))
    flat = x.flatten(1)
    by_hand = ((flat @ matrix.T - flat) @ matrix).sign().view_as(x)
    assert torch.equal(x_adv, x + 8 / 255 * by_hand) and oracle.queries == 1
    oracle = Oracle(Linear(matrix), Distortion(), x, "white")
    assert torch.equal(FGSM(start=0).run(oracle, x, threat, Draws(range(2))), x)


def test_noise_uses_the_budget_and_asks_nothing() -> None:
    x = torch.randint(60, 196, (2, 1, 3, 24, 24), generator=torch.Generator().manual_seed(0)) / 255
    oracle = Oracle(Linear(torch.eye(3 * 24 * 24)), Distortion(), x, "black")
    x_adv = Noise().run(oracle, x, Psnr(40), Draws(range(2)))
    psnr = -10 * torch.log10((x_adv - x).double().square().flatten(1).mean(1))
    assert ((psnr - 40).abs() < 0.01).all() and oracle.queries == 0
    x_adv = Noise().run(oracle, x, Linf(8 / 255), Draws(range(2)))
    assert 7.9 / 255 < (x_adv - x).abs().max() <= 8.001 / 255


def test_queries_are_what_they_say() -> None:
    x = grey()
    counted: list[tuple[Attack, int]] = [
        (PGD(steps=5, restarts=2), 12),
        (PGD(steps=5, judge=1), 10),
        (FGSM(), 1),
        (ChenMa(steps=5, restarts=2), 12),
    ]
    for attack, expected in counted:
        oracle = Oracle(Linear(positive()), Distortion(), x, "white")
        attack.run(oracle, x, Linf(8 / 255), Draws(range(2)))
        assert oracle.queries == expected, attack


def test_impossible_parameters_are_refused() -> None:
    for build in (
        lambda: PGD(steps=0),
        lambda: PGD(step_size=-1),
        lambda: PGD(restarts=2, random_start=False),
        lambda: FGSM(start=2),
        lambda: ChenMa(steps=0),
        lambda: ChenMa(lr=0),
    ):
        with pytest.raises(ValueError, match="expected|use random_start"):
            build()
