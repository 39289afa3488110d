"""Ids of cells and of their clips are what they were: results that are stored or published are found by them.

Do not update ``identities.json``: raise ``CELL_VERSION``, so that old results are not taken for new ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robustcodec.running.grid import Cell, Grid

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "identities.json").read_text())
CELLS = {
    f"{cell} [{cell.data}, seed {cell.seed}, {cell.precision}, limit {cell.limit}]": cell
    for cell in Grid.read(HERE / "identities.toml").cells()
}


def test_the_grid_lists_the_cells_it_listed_and_reduced_precision_is_among_them() -> None:
    assert sorted(CELLS) == sorted(GOLDEN)  # in the order of the data sets in the grid, which is no identity
    assert {cell.precision for cell in CELLS.values()} == {"float32", "bfloat16"}


@pytest.mark.parametrize("name", GOLDEN, ids=lambda name: name.partition(" × ")[2][:90])
def test_ids_of_cell_and_clips_stay(name: str) -> None:
    cell: Cell = CELLS[name]
    assert {"cell": cell.id, "clips": {s.id: cell.craft_id(s) for s in cell.samples()}} == GOLDEN[name]
