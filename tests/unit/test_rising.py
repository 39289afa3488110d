"""A remark where damage still rises at the last step, and none where it has come to rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toys import Linear, grey, spectrum

from robustcodec import registry
from robustcodec.attacks.ascent import Best, remark_rising
from robustcodec.interfaces import Card, Draws, Output
from robustcodec.oracle import Oracle
from robustcodec.studies.planted import BehindBlur, CostlySymbols, Planted, clip

SHAPE = (1, 3, 4, 4)
RISES = "damage still rises at the last step: more steps would do more"


def remarks(history: list[float], steps: int, every: int) -> list[str]:
    """Of an attack on a linear codec with such damage, of which the clean clip has none."""
    x = grey(SHAPE, 1)
    oracle, best = Oracle(Linear(spectrum(SHAPE)), registry.objectives.build("distortion"), x, "white"), Best(x)
    best.history = [torch.tensor([damage]) for damage in history]
    best.damage = best.history[-1]
    remark_rising(oracle, best, steps, every)
    assert oracle.queries == 0
    return oracle.remarks[0]


@pytest.mark.parametrize(
    ("history", "steps", "every", "expected"),
    [
        ([1.0, 2.0], 20, 10, [RISES]),
        ([1.5, 2.0], 20, 10, [RISES]),  # a quarter of the damage in half of the steps: half the mean pace
        ([1.6, 2.0], 20, 10, []),
        ([1.0, 1.9, 1.9, 1.9, 2.0], 5, 1, []),
        ([0.4, 0.8, 1.2, 1.6, 2.0], 5, 1, [RISES]),
        ([0.5, 1.0, 2.0, 2.0], 31, 10, [RISES]),  # the last tenth is what follows step 20
        ([0.0, 0.0], 20, 10, []),
    ],
)
def test_what_rises_at_half_the_mean_pace_or_more(
    history: list[float], steps: int, every: int, expected: list[str]
) -> None:
    assert remarks(history, steps, every) == expected


def test_one_look_says_nothing() -> None:
    (remark,) = remarks([1.0], 10, 10)
    assert remark.startswith("damage was judged once")


@pytest.mark.parametrize(
    ("name", "short", "kind"),
    [
        ("pgd", "step_size=0.01,decay=constant,widening=1", BehindBlur),
        ("mi-fgsm", "reach=0.3,start=0.0", CostlySymbols),
        ("apgd", "judge=1,steps=3", BehindBlur),
        ("ftda", "lr=0.005", BehindBlur),
    ],
)
def test_attacks_that_are_too_short_say_so(name: str, short: str, kind: type[Planted]) -> None:
    def said(parameters: str) -> list[str]:
        attack, x = registry.attacks.build(f"{name}:{parameters}"), clip()
        oracle = Oracle(kind(), registry.objectives.build(kind.objective), x, "white")
        attack.run(oracle, x.clone(), registry.threats.build("psnr:36"), Draws([1]))
        return oracle.remarks[0]

    assert said(short) == [RISES]
    assert said("steps=5")[0].startswith("damage was judged once")
    assert said("steps=100") == []


class Drawing(Linear):
    """Adds noise from torch's global state to what it shows."""

    card = Card("drawing", "drawing")
    randomised = True

    def forward(self, x: Tensor) -> Output:
        shown = super().forward(x)
        return Output(lambda: shown.x_hat + torch.randn_like(x), lambda: shown.bits)


def test_the_damage_of_the_clean_clip_costs_no_query_and_no_draw() -> None:
    x = grey(SHAPE, 2)
    oracle = Oracle(Drawing(spectrum(SHAPE)), registry.objectives.build("source-distortion"), x, "white")
    state = torch.random.get_rng_state()
    assert bool((oracle.clean() > 0).all()) and oracle.queries == 0
    assert torch.equal(torch.random.get_rng_state(), state)
