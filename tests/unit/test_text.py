"""Numbers as tables print them."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from robustcodec.reporting.text import bounded, shown
from robustcodec.scores.strength import BOUND


@pytest.mark.parametrize(
    ("value", "printed"),
    [(1.005, "1.00"), (-0.004, "0.00"), (-0.006, "-0.01"), (math.nan, "–"), (None, "–"), (pd.NA, "–"), (3, "3")],
)
def test_numbers_have_their_decimals_and_zero_has_no_sign(value: object, printed: str) -> None:
    assert shown(value) == printed


def test_bounds_have_a_sign_where_there_is_a_number() -> None:
    lines = pd.DataFrame({"drop": [0.5, 0.25], "rate_ratio": [math.nan, 1.5], "robust_psnr": [30.0, 31.0]})
    printed = bounded(lines.assign(bound=[BOUND, ""]))
    assert printed["drop"].tolist() == ["≥ 0.50", "0.25"] and printed["robust_psnr"].tolist() == ["≤ 30.00", "31.00"]
    assert printed["rate_ratio"].tolist() == ["–", "1.500"]
