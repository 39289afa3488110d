"""Warnings: each is raised by what it names, and by nothing else."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch

from robustcodec import checks
from robustcodec.checks import Finding
from robustcodec.registry import threats

SCORES = {"bpp": 1.0, "bpp_est": 1.01, "adv_bpp": 1.2, "adv_bpp_est": 1.19}
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
        ({"scores": {"bpp_est": 1.06}}, "estimated and real rate part ways (clean)"),
        ({"scores": {"adv_bpp_est": 1.1}}, "estimated and real rate part ways (attacked)"),
    ],
)
def test_each_finding_has_its_cause(change: dict[str, Any], expected: str) -> None:
    assert found(**change) == [expected]


def test_the_rate_may_be_apart_by_5_percent_and_256_bits() -> None:
    assert found({"bpp_est": 1.05 + 255 / 65536}) == []
    assert found({"bpp_est": 1.05 + 257 / 65536}) != []
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


def test_noise_that_beats_a_gradient_is_a_sign_of_masking() -> None:
    axes = {"data": "d", "threat": "psnr:40", "objective": "distortion", "defense": "none", "access": "oblivious"}
    rows = pd.DataFrame(
        {**axes, "codec": codec, "attack": attack, "vi_db": vi}
        for codec, attack, vi in [
            ("c", "noise", 1.0),
            ("c", "pgd:steps=3", 0.5),
            ("e", "noise", 1.0),
            ("e", "pgd", 2.0),
        ]
    )
    (warning,) = checks.masking(rows)
    assert warning.startswith("c + none (oblivious, psnr:40): noise beats pgd:steps=3 (1.0 against 0.5 dB)")
