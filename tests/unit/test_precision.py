"""The precision that an attack was crafted in is a column: no check and no table is misled by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustcodec.page import of_run
from robustcodec.page.tables import glossary, of_entries
from robustcodec.reporting.points import attempts, ends, security
from robustcodec.reporting.tables import ATTACKS, LEADERBOARD, attack_table, leaderboard, markdown, terminal_scores
from robustcodec.running import suites
from robustcodec.running.findings import masking
from robustcodec.running.grid import Cell
from robustcodec.running.store import Result, Store
from robustcodec.sealed import SEAL

Finished = tuple[Cell, float]  # with the damage that it did
Rows = Callable[[Sequence[Finished]], pd.DataFrame]


def cell(attack: str, precision: str, objective: str = "distortion", **axes: Any) -> Cell:
    return Cell("jpeg:quality=30", attack, objective, data="photos:size=64", limit=1, precision=precision, **axes)


def scores(damage: float) -> dict[str, Any]:
    return {
        "sample": "one", "bpp": 0.5, "bpp_est": 0.5, "psnr": 30.0, "ms_ssim": 0.95, "adv_bpp": 0.6, "adv_bpp_est": 0.6,
        "adv_psnr": 30 - damage, "adv_ms_ssim": 0.8, "vi_db": 6.0, "delta_psnr": damage, "delta_own_psnr": 5.0,
        "rate_ratio": 1.2, "input_psnr": 40.0, "input_linf": 8.0, "queries": 10, "damage": damage, "broken": 0.0,
        "break_db": None, "decode_failed": 0.0,
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def rows(store: Store) -> Rows:
    """Rows as a run folder gives them back."""

    def stored(finished: Sequence[Finished]) -> pd.DataFrame:
        for one, damage in finished:
            store.put(Result(one.id, one, "ok", (scores(damage),)))
        return store.frame([one for one, _ in finished])

    return stored


def test_more_steps_that_do_less_are_seen_in_any_precision(rows: Rows) -> None:
    frame = rows([(cell("pgd:steps=9", "bfloat16"), 2.0), (cell("pgd:steps=50", "bfloat16"), 1.0)])
    assert [s.what for s in masking(frame)] == ["pgd:steps=50 in bfloat16 does less than pgd:steps=9 in bfloat16"]


def test_noise_is_noise_in_any_precision(rows: Rows) -> None:
    frame = rows([(cell("noise", "bfloat16"), 2.0), (cell("pgd", "bfloat16"), 1.0)])
    assert [s.what for s in masking(frame)] == ["noise beats pgd in bfloat16"]


def test_steps_are_compared_within_one_precision(rows: Rows) -> None:
    frame = rows([(cell("pgd:steps=9", "float32"), 2.0), (cell("pgd:steps=50", "bfloat16"), 1.0)])
    assert masking(frame) == []


def test_a_suite_is_complete_in_reduced_precision(rows: Rows) -> None:
    suite = min(suites.bundled(), key=lambda each: len(each.members))
    frame = rows([(cell(attack, "bfloat16", objective), 1.0) for attack, objective in suite.members])
    (line,) = leaderboard(frame).to_dict("records")
    assert str(suite) in line["suite"].split(", ") and line["precision"] == "bfloat16"


def test_two_precisions_are_two_attempts(rows: Rows) -> None:
    frame = rows([(cell("pgd", "float32"), 1.0), (cell("pgd", "bfloat16"), 3.0)])
    table = attack_table(frame)
    assert list(table)[6:9] == ["attack", "precision", "bpp"]
    assert table[["attack", "precision", "delta_psnr"]].to_numpy().tolist() == [
        ["pgd", "bfloat16", 3.0],
        ["pgd", "float32", 1.0],
    ]
    board = leaderboard(frame)
    (line,) = board.to_dict("records")
    assert (line["attacks"], line["worst_attack"], line["precision"]) == (2, "pgd", "bfloat16, float32")
    assert "* `precision`: arithmetic of gradients while crafting" in markdown(board, table)
    assert list(attempts(frame)) == ["pgd, float32", "pgd, bfloat16"] and len(ends(frame, ["codec"])) == 2


def test_lines_of_a_plot_keep_precisions_apart(rows: Rows) -> None:
    both = [
        (cell("pgd", precision, threat=f"psnr:{db}"), 1.0) for precision in ("float32", "bfloat16") for db in (34, 40)
    ]
    assert set(security(rows(both), ["codec"])["line"]) >= {"pgd, float32", "pgd, bfloat16"}


def test_the_page_says_the_precision(store: Store, rows: Rows) -> None:
    finished = [(cell("pgd", "float32"), 1.0), (cell("pgd", "bfloat16"), 3.0)]
    rows(finished)
    view = of_run(store, [one for one, _ in finished])
    assert view.ranking["precision"].tolist() == ["bfloat16, float32"]
    (entry,) = of_entries(view.rows, view.worst).values()
    heads = [head["name"] for head in entry["attacks"]["columns"]]
    assert heads[4] == "precision" and [line[4] for line in entry["attacks"]["rows"]] == ["bfloat16", "float32"]
    assert "precision" in dict(glossary(view.meanings, list(view.ranking.columns), view.rows))


def test_the_usual_precision_is_not_said(store: Store, rows: Rows) -> None:
    frame = rows([(cell("pgd", "float32"), 1.0)])
    assert list(attack_table(frame)) == list(ATTACKS) and list(leaderboard(frame)) == list(LEADERBOARD)
    view = of_run(store, [cell("pgd", "float32")])
    (entry,) = of_entries(view.rows, view.worst).values()
    assert "precision" not in view.ranking and terminal_scores(attack_table(frame)) is None
    assert all("precision" not in [head["name"] for head in table["columns"]] for table in entry.values())
    assert "precision" not in dict(glossary(view.meanings, list(view.ranking.columns), view.rows))


def test_results_from_before_there_was_a_choice_are_read(store: Store, rows: Rows) -> None:
    one = cell("pgd", "float32")
    rows([(one, 1.0)])
    path = store.root / "cells" / f"{one.id}.json"
    table = json.loads(path.read_text())
    del table["cell"]["precision"], table[SEAL]
    path.write_text(json.dumps(table))
    result = store.result(one.id)
    assert result is not None and result.cell == one
    assert store.frame([one])["precision"].tolist() == ["float32"]
    old = store.frame([one]).drop(columns="precision")  # such as a file of rows
    pd.testing.assert_frame_equal(attack_table(old), attack_table(store.frame([one])))
