"""Attacks by queries: estimates that converge, published schedules, hard budgets, and damage where it is known."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import toys
from scipy.fft import idctn
from torch import Tensor
from toys import Linear

from robustcodec import registry
from robustcodec.attacks import square
from robustcodec.attacks.nes import NES
from robustcodec.attacks.noise import Noise
from robustcodec.attacks.queries import Asker, Kind, cosines, noise, sized, slope
from robustcodec.attacks.random_search import RandomSearch
from robustcodec.attacks.spsa import SPSA
from robustcodec.attacks.square import Square
from robustcodec.clips import to_float
from robustcodec.data.photos import Photos
from robustcodec.errors import BadParameter
from robustcodec.interfaces import Attack, Codec, Draws, Objective, Output, Threat
from robustcodec.objectives.damage import Distortion, SourceDistortion
from robustcodec.oracle import Oracle
from robustcodec.threats import Flicker, Linf, Psnr
from robustcodec.zoo.pillow import Jpeg

SHAPE = (1, 3, 4, 4)
CPU = torch.device("cpu")
VALUES = math.prod(SHAPE)


class Dice(Linear):
    """The same with noise in it, drawn anew each time."""

    randomised = True

    def forward(self, x: Tensor) -> Output:
        return super().forward(x + 1e-3 * torch.randn_like(x))


spectrum, positive = partial(toys.spectrum, SHAPE), partial(toys.positive, SHAPE)


def grey(n: int = 2, frames: int = 1) -> Tensor:
    return toys.grey((frames, *SHAPE[1:]), n)


def damage(
    attack: Attack, codec: Codec, threat: Threat, x: Tensor, objective: Objective | None = None, first_seed: int = 0
) -> Tensor:
    objective = objective or Distortion()
    oracle = Oracle(codec, objective, x, "black")
    x_adv = attack.run(oracle, x, threat, Draws(range(first_seed, first_seed + len(x))))
    counted = threat.quantise(threat.project(x_adv, x), x)
    if oracle.queries:  # what was asked about is what counts
        torch.testing.assert_close(counted, x_adv, rtol=0, atol=1e-6)
    with torch.no_grad():
        return Oracle(codec, objective, x, "black")(counted)


ByQueries = SPSA | NES | Square | RandomSearch
ALL: list[ByQueries] = [
    SPSA(kind="pixel"),
    NES(kind="pixel", samples=8),
    Square(),
    RandomSearch(kind="pixel"),
]


def name(attack: object) -> str:
    return type(attack).__name__


@pytest.mark.parametrize("signs", [True, False])
def test_estimates_converge_to_the_gradient(signs: bool) -> None:
    """Of a linear function in d dimensions the cosine with n pairs is about sqrt(n / (n + d))."""
    truth = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    x = torch.full((1, *SHAPE), 0.5)

    def f(at: Tensor) -> Tensor:
        return (truth * at).sum((1, 2, 3, 4))

    for pairs in (12, 48, 480):
        alike, length = [], []
        for seed in range(16):
            rng = Draws([seed])
            drawn = (rng.normal(x.shape) for _ in range(pairs))
            found = slope(f, x, (v.sign() if signs else v for v in drawn))
            length.append(float((found * truth).sum() / truth.square().sum()))
            alike.append(float((found * truth).sum() / found.norm() / truth.norm()))
        assert abs(np.mean(alike) - math.sqrt(pairs / (pairs + VALUES))) < 0.08, pairs
    assert abs(np.mean(length) - 1) < 0.05


def test_noise_of_a_threat_has_its_size() -> None:
    x = grey(2, 3)
    for threat in (Psnr(40), Linf(8 / 255), Linf(8 / 255, frames="1"), Flicker(8 / 255), Psnr(40, per="frame")):
        long = sized(Draws([0, 1]).normal(x.shape), x, threat)
        steep = threat.steepest(long, x)
        torch.testing.assert_close(long.flatten(1).norm(dim=1), steep.flatten(1).norm(dim=1))
        torch.testing.assert_close(threat.confine(long, x), long)
        assert not sized(torch.zeros_like(x), x, threat).any()


def test_cosines_are_the_inverse_dct() -> None:
    coefficients = np.zeros((9, 14))
    coefficients[:3, :5] = np.random.default_rng(0).normal(size=(3, 5))
    by_hand = cosines(9, 3, CPU) @ torch.from_numpy(coefficients[:3, :5]).float() @ cosines(14, 5, CPU).T
    torch.testing.assert_close(by_hand, torch.from_numpy(idctn(coefficients, norm="ortho")).float())


@pytest.mark.parametrize("kind", ["pixel", "block", "dct"])
def test_noise_does_not_depend_on_the_batch(kind: Kind) -> None:
    x = torch.zeros(3, 2, 3, 9, 14)
    together = noise(Draws([4, 5, 6]), x, kind, 4)
    assert together.shape == x.shape and (together.std() - (0.25 if kind == "dct" else 1)).abs() < 0.2
    assert torch.equal(together[1:2], noise(Draws([5]), x[:1], kind, 4))
    if kind == "block":
        assert torch.equal(together[..., 4:8, 8:12], together[..., 4:5, 8:9].expand(3, 2, 3, 4, 4))


def published_area(query: int, budget: int, p_init: float) -> float:
    """The schedule as the authors' code writes it."""
    it = int(query / budget * 10000)
    for low, high, divisor in (
        (10, 50, 2), (50, 200, 4), (200, 500, 8), (500, 1000, 16), (1000, 2000, 32), (2000, 4000, 64),
        (4000, 6000, 128), (6000, 8000, 256), (8000, 10000, 512),
    ):  # fmt: skip
        if low < it <= high:
            return p_init / divisor
    return p_init


@pytest.mark.parametrize("budget", [10_000, 5_000, 777])
def test_square_shrinks_as_published(budget: int) -> None:
    for query in range(0, budget, 7):
        assert 0.1 / 2 ** square.halvings(10_000 * query // budget) == published_area(query, budget, 0.1)


def test_a_bump_is_the_published_one() -> None:
    """The loop over growing rings, as the authors' code writes it."""
    for rows, columns in ((3, 3), (5, 5), (2, 5), (3, 7), (1, 3)):
        expected = np.zeros((rows, columns))
        top, left = rows // 2, columns // 2
        for counter in range(max(rows // 2 + 1, columns // 2 + 1)):
            expected[
                max(top, 0) : min(top + 2 * counter + 1, rows), max(0, left) : min(left + 2 * counter + 1, columns)
            ] += 1.0 / (counter + 1) ** 2
            top, left = top - 1, left - 1
        expected /= np.sqrt((expected**2).sum())
        torch.testing.assert_close(square._bump(rows, columns), torch.from_numpy(expected).float())


def test_a_square_is_one_square() -> None:
    before = square._stripes(torch.Size((2, 3, 12, 9)), Draws([0, 1]))
    assert torch.equal(before, before[:, :, :1].expand_as(before)) and before.abs().eq(1).all()
    assert before.mean().abs() < 0.5
    seen = torch.zeros(2, 12, 9, dtype=torch.bool)
    for seed in range(300):
        after = square._recolour(before, 0.25, Draws([seed, seed + 500]))
        for changed in (after != before).any(1):
            rows, columns = torch.where(changed)
            if len(rows):  # of side 5, sqrt(0.25 * 108) = 5.2
                assert rows.max() - rows.min() < 5 and columns.max() - columns.min() < 5
        seen |= (after != before).any(1)
    assert seen.all()  # every pixel has its turn


def test_a_moved_window_keeps_the_energy_elsewhere() -> None:
    before = square._bumps(torch.Size((2, 3, 20, 25)), Draws([0, 1]))
    torch.testing.assert_close(before.square().sum((1, 2, 3)), torch.ones(2))
    for seed in range(10):
        after = square._move(before, 0.04, Draws([seed, seed + 50]))
        torch.testing.assert_close(after.square().sum((1, 2, 3)), torch.ones(2))
        side = 5  # sqrt(0.04 * 500) = 4.5, made odd
        changed = ((after - before).abs() > 1e-6).any(1)
        assert (changed.sum((1, 2)) <= 2 * side**2).all() and changed.any()


@pytest.mark.parametrize("attack", ALL, ids=name)
def test_damage_against_the_worst_case(attack: ByQueries) -> None:
    """Of a top singular vector and of a corner; the least share of it that each must reach with 500 queries."""
    l2, corner = {"SPSA": (0.6, 0.8), "NES": (0.75, 0.9), "Square": (0.3, 0.9), "RandomSearch": (0.6, 0.8)}[
        type(attack).__name__
    ]
    x, threat = grey(4), Psnr(40)
    optimum = 4 * threat.radius(x) ** 2 / VALUES
    reached = damage(attack, Linear(spectrum()), threat, x)
    assert (reached >= l2 * optimum).all(), reached / optimum
    assert (reached >= 2 * damage(Noise(), Linear(spectrum()), threat, x)).all()
    optimum = (8 / 255 * positive().double().sum(1)).square().mean()
    reached = damage(attack, Linear(positive()), Linf(8 / 255), x)
    assert (reached >= corner * optimum).all(), reached / optimum


@pytest.mark.parametrize("attack", ALL, ids=name)
def test_a_budget_is_never_exceeded(attack: ByQueries) -> None:
    x = grey()
    searches = isinstance(attack, Square | RandomSearch)
    for queries in (1, 2, 16, 17, 60):
        oracle = Oracle(Linear(spectrum()), Distortion(), x, "black")
        x_adv = replace(attack, queries=queries).run(oracle, x, Psnr(40), Draws([0, 1]))
        pairs = getattr(attack, "samples", 0)
        assert oracle.queries == queries - (0 if searches else (queries - 1) % (2 * pairs + 1))
        assert (x_adv != x).any()
        oracle = Oracle(Dice(spectrum()), Distortion(), x, "black", draws=3)  # each answer takes three
        replace(attack, queries=queries).run(oracle, x, Psnr(40), Draws([0, 1]))
        assert oracle.queries <= max(queries, 3)


@pytest.mark.parametrize("attack", ALL, ids=name)
@pytest.mark.parametrize("threat", [Psnr(40), Linf(8 / 255)], ids=repr)
def test_more_queries_never_do_less_damage(attack: ByQueries, threat: Threat) -> None:
    x = grey()
    reached = [damage(replace(attack, queries=q), Linear(spectrum()), threat, x) for q in (1, 30, 100)]
    assert all((b >= a).all() for a, b in zip(reached, reached[1:], strict=False))
    assert (reached[-1] > reached[0]).all()


@pytest.mark.parametrize("attack", ALL, ids=name)
@pytest.mark.parametrize("threat", [Psnr(40), Linf(8 / 255)], ids=repr)
def test_samples_do_not_see_each_other(attack: ByQueries, threat: Threat) -> None:
    x, codec, attack = grey(), Linear(spectrum()), replace(attack, queries=60)
    together = damage(attack, codec, threat, x)
    alone = torch.cat([damage(attack, codec, threat, x[i : i + 1], first_seed=i) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "attack",
    [*ALL, NES(), SPSA(kind="dct", coarse=3), RandomSearch(kind="block"), Square(schedule="published")],
    ids=repr,
)
def test_clips_under_every_kind_of_threat(attack: ByQueries) -> None:
    """Of odd size; :func:`damage` holds the result to the threat."""
    x = torch.randint(0, 256, (2, 3, 3, 9, 11), generator=torch.Generator().manual_seed(3)) / 255
    codec = Linear(torch.eye(x[0].numel()))
    for threat in (Psnr(36, frames="first"), Psnr(36, per="frame"), Linf(8 / 255, frames="1:"), Flicker(8 / 255)):
        assert (damage(replace(attack, queries=40), codec, threat, x) > 0).all(), threat


@pytest.mark.parametrize("attack", ALL, ids=name)
def test_damage_may_be_negative_and_missing(attack: ByQueries) -> None:
    class Inverted(Distortion):
        def __call__(self, x: Tensor, clean: Output, attacked: Output, x_adv: Tensor) -> Tensor:
            value = -super().__call__(x, clean, attacked, x_adv)
            return value.where(torch.tensor([False, True]), torch.nan)

    x = grey()
    attack = replace(attack, queries=120)
    oracle = Oracle(Linear(spectrum()), Inverted(), x, "black")
    x_adv = attack.run(oracle, x, Psnr(40), Draws([0, 1]))
    assert torch.equal(x_adv[0], x[0])  # nothing is known of it
    least = Oracle(Linear(spectrum()), Distortion(), x, "black")(x_adv)[1]
    assert least < damage(Noise(), Linear(spectrum()), Psnr(40), x)[1]


def test_the_best_answer_is_kept_as_it_counts() -> None:
    x = grey()
    oracle = Oracle(Linear(spectrum()), Distortion(), x, "black")
    ask = Asker(oracle, x, Linf(8 / 255), 2)
    large, small = ask(torch.ones_like(x)), ask(0.01 * torch.ones_like(x))
    assert not ask.can() and (large > small).all()
    torch.testing.assert_close(ask.best.x, x + 8 / 255)


@pytest.mark.parametrize("objective", [Distortion(), SourceDistortion()], ids=repr)
def test_jpeg_is_hurt_more_than_by_noise(objective: Objective) -> None:
    x = torch.stack([to_float(s.load()) for s in Photos(size=64).samples()[:2]])
    codec = Jpeg(quality=30)
    by = partial(damage, codec=codec, threat=Psnr(40), x=x, objective=objective)
    clean = SourceDistortion()(x, codec(x), codec(x), x) if isinstance(objective, SourceDistortion) else 0.0
    floor = by(Noise()) - clean
    attacks: list[ByQueries] = [SPSA(), NES(), Square(), RandomSearch()]
    for attack in attacks:
        assert (by(replace(attack, queries=60)) - clean > 1.2 * floor).all(), attack


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("spsa:queries=0", "at least 1, the largest number"),
        ("spsa:samples=0", "at least 1 pair"),
        ("spsa:lr=0", "positive fractions"),
        ("nes:queries=-5", "at least 1"),
        ("nes:width=0", "positive fractions"),
        ("nes:momentum=-1", "decay"),
        ("square:queries=0", "at least 1"),
        ("square:area=0", "share of the frame"),
        ("square:area=1.5", "share of the frame"),
        ("random-search:queries=0", "at least 1"),
        ("random-search:coarse=0", "at least 1 pixel"),
        ("random-search:area=0", "share of the frame"),
        ("random-search:kind=wavelet", "kind"),
    ],
)
def test_impossible_parameters_are_refused(spec: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        registry.attacks.build(spec)
