"""What tables know of their columns, and what metrics and objectives tell them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from robustcodec import registry
from robustcodec.data._images import write_image
from robustcodec.interfaces import Column
from robustcodec.scores import columns
from robustcodec.scores.columns import column, contributed, pairs, worst
from robustcodec.scores.metrics import EVERY_RUN
from robustcodec.scores.robustness import break_scores, sample_scores

TABLES = {name: getattr(columns, name) for name in ("RESULTS", "RANKED", "ENTRIES", "GAINS", "DEFENDED")}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_says_what_it_is(table: str) -> None:
    for name, one in TABLES[table].items():
        assert one.name == name and one.meaning and one.label and not one.meaning.endswith(".")


def test_scores_of_every_run_are_known() -> None:
    """One that is not would be taken for a plugin's and be shown beside the others."""
    clip = torch.zeros(1, 2, 3, 40, 40)
    metrics = {name: registry.metrics.build(name) for name in EVERY_RUN}
    row = sample_scores(clip, clip, clip + 0.1, clip, 8, 8, 8, 8, metrics, 25) | break_scores(1, 2, 3, False)
    assert contributed(pd.DataFrame([row | {"queries": 1, "seed": 0, "sample": 3}])) == []


@pytest.mark.parametrize("name", ["lpips", "lpips_squeeze", "lpips_vgg", "mse", "linf"])
def test_a_metric_is_known_by_every_name_that_it_can_have(name: str) -> None:
    clean, attacked = column(name), column(f"adv_{name}")
    assert clean.better == attacked.better == "low" and clean.meaning != columns.UNKNOWN
    assert attacked.label == f"attacked {clean.label}"
    assert "under the attack that is worst for each sample" in worst(f"adv_{name}", columns.RANKED).meaning
    assert worst(name, columns.RANKED) == clean


def test_a_parameter_is_in_the_label() -> None:
    assert column("lpips_squeeze").label == "LPIPS (squeeze)"


def test_the_unit_is_said_once() -> None:
    assert column("input_psnr").title == "input PSNR (dB)" and column("vi_db").title == "VI dB"
    assert column("decode_failed").title == "decode failed" and Column("a_b").title == "a b"


def test_nobody_knows_it() -> None:
    assert column("of_nobody") == Column("of_nobody", columns.UNKNOWN, "of_nobody")


def test_what_plugins_brought_are_numbers_that_are_there() -> None:
    table = pd.DataFrame({"psnr": [1.0], "x": [1.0], "adv_x": [2.0], "own": [3], "text": ["a"], "none": [float("nan")]})
    assert contributed(table) == ["x", "adv_x", "own"] and pairs(contributed(table)) == ["x", "adv_x"]


@pytest.mark.parametrize("name", ["target", "collision"])
def test_objectives_declare_what_they_score(name: str, tmp_path: Path) -> None:
    path = tmp_path / "target.png"
    write_image(torch.full((1, 3, 64, 64), 100, dtype=torch.uint8), path)
    objective = registry.objectives.build(f"{name}:{path}")
    x = torch.full((1, 1, 3, 64, 64), 0.5)
    with torch.no_grad():
        scores = objective.bind(registry.codecs.build("bmshj2018-factorized.tiny-q1").eval()).scores(x, x, b"", x)
    assert set(scores) == {each.name for each in objective.columns}
    assert all(column(each).meaning != columns.UNKNOWN for each in scores)
