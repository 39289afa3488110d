"""Published ranks and their intervals, held against a program that knows the package's files and none of its code."""

from __future__ import annotations

import csv
from pathlib import Path

import independent_ranks
import pytest

BOARDS = sorted(path.parent for path in (Path(__file__).parents[2] / "leaderboards").glob("*/board.toml"))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_scores_ranks_and_intervals_come_out_again(board: Path) -> None:
    again = independent_ranks.main(board)
    with (board / "table.csv").open(encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    ranked = [line for line in published if not line["bound"]]
    assert {(line["threat"], line["entry"]) for line in ranked} == {(t, e) for t, found in again.items() for e in found}
    for line in ranked:
        score, *places = again[line["threat"]][line["entry"]]
        assert float(line["score"]) == pytest.approx(score, rel=1e-5), line["entry"]
        assert [int(line[name]) for name in ("rank", "rank_low", "rank_high")] == places, line["entry"]


def test_it_reads_nothing_of_the_package() -> None:
    text = Path(independent_ranks.__file__).read_text()
    assert "import robustcodec" not in text and "from robustcodec" not in text
