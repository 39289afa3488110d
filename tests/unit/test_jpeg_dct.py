"""Levels over rounding boundaries: against the exact optimum of a codec of pixels, and against real JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from robustcodec import registry
from robustcodec.attacks._crossing import Levels, measured
from robustcodec.attacks.jpeg_dct import JpegDct, budgets
from robustcodec.clips import to_float
from robustcodec.errors import AttackError
from robustcodec.interfaces import Card, Codec, Draws, Objective, Output, Threat, Transform
from robustcodec.oracle import ForwardOnly, Oracle
from robustcodec.rounding import round_latent, rounding
from robustcodec.threats import Linf, Psnr

STEP = 12  # grey levels


class PixelTransform(Transform):
    def analyse(self, x: Tensor) -> list[Tensor]:
        return [round_latent(255 * x / STEP).movedim(2, 4)]

    def synthesise(self, levels: Sequence[Tensor], height: int, width: int) -> Tensor:
        return (levels[0] * STEP / 255).movedim(4, 2)


class Pixels(ForwardOnly):
    """Rounds every value to whole steps: what an attack can reach is known."""

    card, transform = Card("pixels", "pixels"), PixelTransform()

    def forward(self, x: Tensor) -> Output:
        levels = self.transform.analyse(x)
        shown = self.transform.synthesise(levels, *x.shape[-2:])
        return Output(lambda: shown, lambda: levels[0].abs().flatten(1).sum(1))


@cache
def photos(size: int = 64) -> list[Tensor]:
    return [to_float(s.load())[None] for s in registry.data.build(f"photos:size={size}").samples()[:2]]


def attacked(codec: Codec, threat: Threat, objective: str, x: Tensor, attack: str = "jpeg-dct") -> Tensor:
    built = registry.attacks.build(attack)
    oracle = Oracle(codec, registry.objectives.build(objective), x, built.access)
    x_adv = built.run(oracle, x, threat, Draws(range(len(x))))
    assert torch.equal(threat.quantise(threat.project(x_adv, x), x), x_adv)  # what was judged is what counts
    return x_adv


def levels_of(transform: Transform | None, x: Tensor) -> Levels:
    assert transform is not None
    return Levels(transform, x, *measured(transform))


def error(codec: Codec, x_adv: Tensor, x: Tensor) -> Tensor:
    out: Output = codec(x_adv)
    return (255 * (out.x_hat - x)).square().flatten(1).sum(1)


def optimum(x: Tensor, budget: int) -> float:
    """The largest sum of squared errors within a sum of squared changes, both in whole grey levels: a knapsack that is
    filled exactly, by dynamic programming over every change of every value.
    """
    best = np.zeros(budget + 1)
    for value in (255 * x).round().flatten().int().tolist():
        previous, best = best, np.full(budget + 1, -np.inf)
        for change in range(-STEP, STEP + 1):
            if 0 <= value + change <= 255 and change**2 <= budget:
                gain = (STEP * np.round((value + change) / STEP) - value) ** 2
                best[change**2 :] = np.maximum(best[change**2 :], previous[: budget + 1 - change**2] + gain)
    return float(best[-1])


def test_it_reaches_the_exact_optimum_of_a_codec_of_pixels() -> None:
    """But for the last value that no longer fits."""
    x = torch.randint(20, 236, (1, 1, 3, 5, 5), generator=torch.Generator().manual_seed(0)) / 255
    for db in (38.0, 44.0):
        threat = Psnr(db)
        worst = optimum(x, int((255 * threat.radius(x)) ** 2))
        reached = float(error(Pixels(), attacked(Pixels(), threat, "source-distortion", x), x))
        clean = float(error(Pixels(), x, x))
        assert 0.93 * (worst - clean) < reached - clean <= worst - clean + 1e-3


def test_prices_and_weights_are_those_of_the_transform() -> None:
    """Of JPEG in 4:4:4 by hand: a block of the DCT is orthonormal, and so only the colours and the steps count."""
    from robustcodec.zoo._jpeg import CHROMA, LUMA, TO_RGB, TO_YCC, JpegTransform, quantisation_table

    levels = levels_of(JpegTransform(30, "4:4:4"), torch.zeros(1, 1, 3, 16, 16))
    for i, table in enumerate((LUMA, CHROMA, CHROMA)):
        step = quantisation_table(table, 30) / 255
        price = step.square() / np.square(TO_YCC[i]).sum()
        weight = step.square() * np.square([row[i] for row in TO_RGB]).sum()
        for ours, by_hand in ((levels.price, price), (levels.weight, weight)):
            torch.testing.assert_close(ours.view(3, 2, 2, 8, 8)[i, 1, 0], by_hand.float(), rtol=1e-3, atol=0)


def test_the_least_perturbation_is_that_of_the_pseudo_inverse() -> None:
    torch.manual_seed(0)
    x = photos()[0][..., :16, :16]
    levels = levels_of(registry.codecs.build("jpeg:20").transform, x)
    start = levels.before(x).detach()
    chosen = torch.arange(0, len(levels.price), 23)
    goal = torch.full_like(start, torch.inf)
    goal[..., chosen] = 0.1
    ones = torch.ones_like(start)
    delta, _ = levels.moving(start, goal, ones, 0 * start, lambda d: d, 200)
    leaf = x.clone().requires_grad_()
    moved = levels.before(leaf)[0, 0]
    jacobian = torch.stack([torch.autograd.grad(moved[i], leaf, retain_graph=True)[0].flatten() for i in chosen])
    least = torch.linalg.pinv(jacobian.double()) @ torch.full((len(chosen),), 0.1, dtype=torch.float64)
    assert (jacobian @ delta.flatten() > 0.0999).all()
    assert 0.5 * least.norm() < delta.norm() < 1.001 * least.norm()  # less where a level moves farther than it must


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
def test_the_stated_transform_is_what_libjpeg_does(subsampling: str) -> None:
    codec = registry.codecs.build(f"jpeg:quality=40,subsampling={subsampling}")
    x = torch.cat(photos())
    assert codec.transform is not None
    with rounding("straight-through"):
        shown = codec.transform.synthesise(codec.transform.analyse(x), *x.shape[-2:])
    assert 255 * (shown - codec(x).x_hat).abs().mean() < 0.25
    assert 255 * (shown - x).abs().mean() > 2


@pytest.mark.parametrize("quality", [20, 50])
def test_jpeg_is_hurt_several_times_more_than_by_queries(quality: int) -> None:
    codec, threat = registry.codecs.build(f"jpeg:quality={quality}"), Psnr(40)
    x = photos()[quality == 50]
    clean = error(codec, x, x)
    by_levels, by_queries = (
        10 * torch.log10(error(codec, attacked(codec, threat, "source-distortion", x, attack), x) / clean)
        for attack in ("jpeg-dct:steps=4", "square:queries=200")
    )
    assert by_levels > 1.5 and by_levels > 2 * by_queries


def test_the_objective_is_met_by_its_answers() -> None:
    codec, threat, x = registry.codecs.build("jpeg:30"), Psnr(38), photos()[0]
    bits = {
        aim: float(codec(attacked(codec, threat, aim, x, "jpeg-dct:steps=2")).bits)
        for aim in ("distortion", "rate", "rate-down")
    }
    assert bits["rate"] > 1.15 * float(codec(x).bits) and bits["rate"] > 1.03 * bits["distortion"]
    assert bits["rate-down"] < 0.97 * float(codec(x).bits)


def test_more_steps_never_do_less() -> None:
    codec, x = registry.codecs.build("jpeg:30"), photos()[1]
    reached = [
        error(codec, attacked(codec, Psnr(40), "source-distortion", x, f"jpeg-dct:steps={n}"), x) for n in (0, 2, 8)
    ]
    assert reached[0] <= reached[1] <= reached[2] and reached[0] < reached[2]


@pytest.mark.parametrize(("joined", "inside"), [("psnr:20+linf:8", "linf:8"), ("psnr:34+linf:8", "psnr:40+linf:8")])
def test_an_intersection_is_filled_whichever_bound_holds_it(joined: str, inside: str) -> None:
    codec, x = registry.codecs.build("jpeg:20"), photos()[0]
    more, less = (
        error(codec, attacked(codec, registry.threats.build(name), "source-distortion", x, "jpeg-dct:steps=1"), x)
        for name in (joined, inside)  # whatever the second allows, the first does
    )
    assert more > 0.99 * less


def test_samples_do_not_see_each_other() -> None:
    codec, both = registry.codecs.build("jpeg:30"), torch.cat(photos())
    together = attacked(codec, Psnr(40), "source-distortion", both, "jpeg-dct:steps=2")
    for i, x in enumerate(photos()):
        alone = attacked(codec, Psnr(40), "source-distortion", x, "jpeg-dct:steps=2")
        assert (255 * (together[i : i + 1] - alone)).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("threat", "groups"),
    [
        (Psnr(38), 1),
        (Psnr(38, per="frame"), 3),
        (Psnr(38, frames="first"), 3),
        (Linf(6 / 255), 3),
        (Linf(6 / 255, frames="1:"), 3),
    ],
    ids=repr,
)
def test_clips_under_every_kind_of_threat(threat: Threat, groups: int) -> None:
    x = torch.cat([p[..., :40, :56] for p in (*photos(), photos()[0].flip(4))], 1)
    codec = registry.codecs.build("jpeg:30")
    budget = budgets(threat, x)
    assert budget.shape == (1, groups)
    if threat.norm == "l2":
        assert float(budget.sum()) == pytest.approx(float(threat.radius(x)) ** 2, rel=1e-4)
    x_adv = attacked(codec, threat, "source-distortion", x, "jpeg-dct:steps=2")
    floor = threat.quantise(threat.random_start(x, Draws([0])), x)
    assert error(codec, x_adv, x) - error(codec, x, x) > 2 * (error(codec, floor, x) - error(codec, x, x))
    if threat == Psnr(38, per="frame"):  # every frame spends its own
        assert (10 * torch.log10((x_adv - x).square().mean((2, 3, 4))) > -38.5).all()


@pytest.mark.parametrize("spec", ["webp", "self-ensemble"])
def test_a_codec_without_a_known_transform_is_refused(spec: str) -> None:
    codec = registry.codecs.build("jpeg") if spec != "webp" else registry.codecs.build(spec)
    codec = codec if spec == "webp" else registry.defenses.build(spec).wrap(codec)
    with pytest.raises(AttackError, match="states no transform"):
        attacked(codec, Psnr(40), "distortion", photos()[0])


def test_only_attacks_that_say_so_see_the_transform() -> None:
    objective: Objective = registry.objectives.build("distortion")
    with pytest.raises(AttackError, match="transform"):
        _ = Oracle(registry.codecs.build("jpeg"), objective, photos()[0], "black").transform
    assert JpegDct.access == "transform"
