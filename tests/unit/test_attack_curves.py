"""Curves of damage against queries and their optimality, by hand and from a real attack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scripts
import torch

from robustcodec import registry
from robustcodec.studies.planted import BehindBlur, clip


@pytest.fixture(scope="module")
def curves() -> Any:
    return scripts.load("benchmarks/attack_curves.py")


def test_a_curve_rises_where_more_was_judged_and_stays(curves: Any) -> None:
    assert curves.curve([(2, 5.0), (3, 4.0), (5, 8.0)], 6, 1.0).tolist() == [0, 0, 4, 4, 4, 7, 7]
    assert curves.curve([(1, 0.5)], 2, 1.0).tolist() == [0, 0, 0], "less than the clean clip is nothing"


def test_optimality_is_a_share_of_the_area_under_the_best(curves: Any) -> None:
    early, late = np.array([0.0, 2, 2, 2]), np.array([0.0, 0, 0, 4])
    shares = curves.optimality({"early": early, "late": late})
    assert shares == {"early": pytest.approx(6 / 8), "late": pytest.approx(4 / 8)}
    assert curves.optimality({"alone": early}) == {"alone": 1.0}


def test_judged_and_queries_are_those_of_the_attack(curves: Any) -> None:
    objective, threat = (r.build(s) for r, s in ((registry.objectives, "distortion"), (registry.threats, "psnr:36")))
    oracle = curves.met(BehindBlur(), objective, threat, clip(), "pgd:steps=20", 1)
    assert [count for count, _ in oracle.judged] == [11, 22] and oracle.queries == 22
    with torch.no_grad():
        assert curves.curve(oracle.judged, 22, 0.0)[-1] == max(damage for _, damage in oracle.judged) > 0
