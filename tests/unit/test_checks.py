"""Warnings: each is raised by what it names, and by nothing else."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from toys import Shown

from robustcodec.interfaces import Card, Draws, Output
from robustcodec.objectives.damage import Distortion
from robustcodec.oracle import Oracle
from robustcodec.registry import threats
from robustcodec.running import findings as checks
from robustcodec.running.findings import Finding
from robustcodec.threats import Linf

SCORES = {"psnr": 20.0, "bpp": 1.0, "bpp_est": 1.01, "adv_bpp": 1.2, "adv_bpp_est": 1.19}
INFO: dict[str, Any] = {"findings": [], "blind": False, "budget": 0.99}


def found(scores: dict[str, float] | None = None, failure: str | None = None, **info: Any) -> list[str]:
    return [f.what for f in checks.sample_findings("a", SCORES | (scores or {}), 65536, INFO | info, failure)]


def test_an_ordinary_sample_has_no_findings() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"blind": True}, "zero gradient: the attack was blind"),
        ({"budget": 0.89}, "budget not used"),
        ({"failure": "StreamError: x"}, "decode failed under attack (StreamError: x)"),
        ({"findings": ["left the [0, 1] box: clamped"]}, "left the [0, 1] box: clamped"),
        (
            {"scores": {"psnr": 19.99}},
            "clean decode below 20 dB PSNR: with little to lose, a small loss says nothing",
        ),
        ({"scores": {"bpp_est": 1.06}}, "estimated and real rate part ways (clean)"),
        ({"scores": {"adv_bpp_est": 1.1}}, "estimated and real rate part ways (attacked)"),
    ],
)
def test_each_finding_has_its_cause(change: dict[str, Any], expected: str) -> None:
    assert found(**change) == [expected]


def test_a_clip_that_was_not_used_has_one_finding() -> None:
    notes = ["returned values that are not finite: the clean clip was used"]
    assert found(findings=notes, budget=0.0) == notes


def test_the_rate_may_be_apart_by_5_percent_and_256_bits() -> None:
    assert found({"bpp_est": 1.05 + 255 / 65536}) == []
    assert found({"bpp_est": 1.05 + 257 / 65536}) != []
    assert found({"bpp_est": 0.95 - 255 / 65536}) == [] and found({"bpp_est": 0.95 - 257 / 65536}) != []
    assert found({"adv_bpp_est": math.nan}) == []  # a codec without an estimate


@pytest.mark.parametrize(("name", "share"), [("linf:8/255", 6 / 8), ("mse:1e-4", 6 / 255 / 1e-2 / math.sqrt(12))])
def test_the_budget_used_is_a_share_of_the_radius(name: str, share: float) -> None:
    x = torch.full((2, 1, 3, 2, 2), 0.5)
    moved = x.clone()
    moved[1, 0, 0, 0, 0] += 6 / 255
    assert checks.budget_used(moved, x, threats.build(name)) == pytest.approx([0.0, share], rel=1e-5)


def test_findings_are_summed_up_by_kind() -> None:
    findings = [Finding(s, "w") for s in "abcd"] + [Finding("a", "v")]
    assert checks.summarise(findings, 5) == ("v: 1 of 5 samples (a)", "w: 4 of 5 samples (a, b, c …)")


AXES = {"data": "d", "threat": "psnr:40", "objective": "distortion", "defense": "none", "access": "oblivious"}


def suspicious(*lines: tuple[str, str, float], **axes: str) -> list[str]:
    """What is suspicious of lines of codec, attack and damage."""
    rows = pd.DataFrame({**AXES, **axes, "codec": c, "attack": a, "damage": d} for c, a, d in lines)
    return [str(suspicion) for suspicion in checks.masking(rows)]


def test_noise_that_beats_a_gradient_is_a_sign_of_masking() -> None:
    lines = [("c", "noise", 1.0), ("c", "pgd:steps=3", 0.5), ("e", "noise", 1.0), ("e", "pgd", 2.0)]
    assert suspicious(*lines) == [
        "c + none (oblivious, psnr:40, d): noise beats pgd:steps=3 (distortion 1 against 0.5)"
    ]


def test_queries_alone_that_beat_gradients_are_a_sign_of_masking() -> None:
    (found,) = suspicious(("c", "square", 2.0), ("c", "pgd", 1.5), ("c", "fgsm", 1.0))
    assert "black-box beats pgd (distortion 2 against 1.5)" in found
    assert suspicious(("c", "square", 1.51), ("c", "pgd", 1.5)) == []  # within the margin


def test_what_knows_the_transform_counts_as_what_has_gradients() -> None:
    (found,) = suspicious(("jpeg", "block-search", 2.0), ("jpeg", "jpeg-dct", 1.5))
    assert "black-box beats jpeg-dct" in found
    (found,) = suspicious(("jpeg", "noise", 2.0), ("jpeg", "jpeg-dct", 1.5))
    assert "noise beats jpeg-dct" in found


def test_the_best_attack_of_each_kind_counts() -> None:
    """Of two black-box attacks the better; of two with gradients as well; and each objective for itself."""
    blacks = [("c", "square", 2.0), ("c", "nes", 0.1)]
    assert len(suspicious(*blacks, ("c", "pgd", 1.5), ("c", "fgsm", 1.8))) == 1
    assert suspicious(*blacks, ("c", "pgd", 2.5), ("c", "fgsm", 1.0)) == []
    other = {**AXES, "codec": "c", "objective": "rate"}
    lines = [{**AXES, "codec": "c", "attack": "pgd", "damage": 1.0}, {**other, "attack": "square", "damage": 2.0}]
    assert checks.masking(pd.DataFrame(lines)) == []


def test_the_margin_is_one_of_size_for_damage_below_zero_too() -> None:
    """As that of ``rate-down`` is."""
    assert suspicious(("c", "square", -1.49), ("c", "pgd", -1.5)) == []
    (found,) = suspicious(("c", "square", -1.4), ("c", "pgd", -1.5))
    assert "black-box beats pgd" in found


def test_more_steps_that_do_less_are_a_sign_of_masking() -> None:
    (found,) = suspicious(("c", "pgd:steps=9", 2.0), ("c", "pgd:steps=50", 1.0), ("c", "pgd:steps=50,momentum=1", 0.1))
    assert "pgd:steps=50 does less than pgd:steps=9 (distortion 1 against 2)" in found


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [("pgd:restarts=2", "pgd"), ("square:queries=900", "square:queries=90"), ("pgd:steps=30,restarts=2", "pgd")],
)
def test_more_restarts_or_queries_that_do_less_too_but_for_the_margin(longer: str, shorter: str) -> None:
    (found,) = suspicious(("c", longer, 1.0), ("c", shorter, 1.1))
    assert f"{longer} does less than {shorter}" in found
    assert suspicious(("c", longer, 1.0), ("c", shorter, 1.01)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("pgd:steps=50", "mi-fgsm:steps=9"), ("pgd:steps=50,restarts=1", "pgd:steps=9,restarts=2")],
)
def test_attacks_that_differ_in_more_than_length_do_not_compare(one: str, other: str) -> None:
    assert suspicious(("c", one, 1.0), ("c", other, 2.0)) == []


def by_access(damages: dict[str, float], defense: str = "d") -> list[checks.Suspicion]:
    """What is suspicious of the damage of one attack, by what its attacker knows."""
    return checks.masking(
        pd.DataFrame(
            {**AXES, "defense": defense, "codec": "c", "attack": "pgd", "access": access, "damage": damage}
            for access, damage in damages.items()
        )
    )


def test_an_attacker_who_knows_more_and_does_less_is_a_sign_of_masking() -> None:
    (found,) = by_access({"oblivious": 2.0, "adaptive": 1.0})
    assert by_access({"oblivious": 1.01, "adaptive": 1.0}) == []  # within the margin
    assert by_access({"oblivious": 2.0, "transfer:e": 1.0}) == []  # who attacks another codec knows less
    assert by_access({"oblivious": 2.0, "adaptive": 1.0}, "none") == []  # no defense to know
    assert found.contender == ("d", "psnr:40", "c", "d", "adaptive") and found.what == "oblivious pgd beats adaptive"


class Zigzag(Shown):
    """Reconstructs ``x`` plus a ripple so fine that its slope says nothing about the neighbourhood."""

    card = Card("zigzag", "zigzag")

    def __init__(self, period: float) -> None:
        super().__init__()
        self.period = period

    def forward(self, x: Tensor) -> Output:
        ripple = 0.01 * torch.sin(2 * math.pi * x / self.period)
        return Output(lambda: x + ripple, lambda: torch.zeros(len(x)))


@pytest.mark.parametrize(("period", "expected"), [(1e-4, True), (1.0, False)])
def test_a_gradient_that_turns_between_neighbours_is_shattered(period: float, expected: bool) -> None:
    x = torch.full((2, 1, 3, 16, 16), 0.5)
    oracle = Oracle(Zigzag(period), Distortion(), x, "white")
    found = checks.gradient_health(oracle, x, Linf(8 / 255), Draws([1, 2]))
    assert [bool(notes) for notes in found] == [expected] * 2


class Flat(Zigzag):
    """The same far from its middle; there it is flat."""

    def forward(self, x: Tensor) -> Output:
        shown = torch.where(x.mean() > 0.6, super().forward(x).x_hat, 0 * x)
        return Output(lambda: shown, lambda: torch.zeros(len(x)))


def test_a_gradient_of_zero_is_not_shattered() -> None:
    x = torch.full((1, 1, 3, 16, 16), 0.5)
    oracle = Oracle(Flat(1e-4), Distortion(), x, "white")
    assert checks.gradient_health(oracle, x, Linf(8 / 255), Draws([1])) == [[]]


class Halves(Shown):
    """The first frame is steady, the second ripples."""

    card = Card("halves", "halves")

    def forward(self, x: Tensor) -> Output:
        ripple = 0.01 * torch.sin(2 * math.pi * x[:, 1:] / 1e-4)
        shown = torch.cat([0.1 * x[:, :1] ** 2, x[:, 1:] + ripple], 1)
        return Output(lambda: shown, lambda: torch.zeros(len(x)))


def test_only_frames_that_may_be_attacked_are_looked_at() -> None:
    x = torch.full((1, 2, 3, 16, 16), 0.5)
    found = {
        frames: checks.gradient_health(
            Oracle(Halves(), Distortion(), x, "white"), x, threats.build(f"linf:8/255,frames={frames}"), Draws([1])
        )
        for frames in ("first", "all")
    }
    assert [bool(notes) for (notes,) in found.values()] == [False, True]
