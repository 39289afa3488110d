"""Whole rows of scores are what they were, for every objective that ships: through the runner, from real bytes.

``rows.json`` was made before the package had rooms. ``PYTHONPATH=tests python tests/golden/test_rows.py`` adds the rows
of cells that are new in ``rows.toml`` and changes no other: whoever means to change a number raises ``CELL_VERSION``.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import toys

from robustcodec import registry
from robustcodec.execution.runner import Runner
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.store import Store
from robustcodec.scores.metrics.perceptual import BACKBONES
from robustcodec.spec import Spec

HERE = Path(__file__).parent
FILE = HERE / "rows.json"
GOLDEN: dict[str, dict[str, Any]] = json.loads(FILE.read_text()) if FILE.exists() else {}
CELLS = {
    f"{cell} [{cell.data}, seed {cell.seed}, {cell.precision}, limit {cell.limit}]": cell
    for cell in Grid.read(HERE / "rows.toml").cells()
}
# Relative, and in dB for scores that are in dB. By so much do processors differ, for float noise moves single values of
# an adversarial clip by a level, and gradients in bfloat16 have but three digits; a mistake in a formula does far more.
TOLERANCE = {"float32": (1e-3, 2e-3), "bfloat16": (5e-2, 5e-2)}
EXACT = {"sample", "queries", "broken", "decode_failed", "same_bytes"}


def measure(runner: Runner, cell: Cell) -> dict[str, Any]:
    """What a run keeps of a cell: its rows and its curves over frames."""
    target = registry.data.build("photos").samples()[1].source
    cell = replace(cell, objective=cell.objective.replace("TARGET", str(target)))
    runner.run([cell])
    result = runner.store.result(cell.id)
    assert result is not None and result.error is None, result
    return {"rows": list(result.rows), "frames": result.frames}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(Store(tmp_path_factory.mktemp("rows")))


def assert_same(measured: dict[str, Any], golden: dict[str, Any], precision: str) -> None:
    """Scores, or curves, by name."""
    assert measured.keys() == golden.keys()
    relative, decibels = TOLERANCE[precision]
    for name, value in golden.items():
        if name in EXACT:
            assert measured[name] == value, name
        else:
            in_db = any(part in name for part in ("psnr", "db", "drift"))
            near = pytest.approx(_numbers(value), rel=relative, abs=decibels if in_db else 0, nan_ok=True)
            assert _numbers(measured[name]) == near, name


def _numbers(value: float | list[float | None] | None) -> list[float]:
    """A score or a curve; null is NaN."""
    return [math.nan if v is None else v for v in (value if isinstance(value, list) else [value])]


@pytest.mark.parametrize("name", CELLS, ids=lambda name: name.partition(" × ")[2][:90])
def test_all_scores_stay(name: str, runner: Runner, backbone: None) -> None:
    cell, golden = CELLS[name], GOLDEN[name]
    measured = measure(runner, cell)
    for row, expected in zip(measured["rows"], golden["rows"], strict=True):
        assert_same(row, expected, cell.precision)
    assert (measured["frames"] or {}).keys() == (golden["frames"] or {}).keys()
    for sample, curves in (golden["frames"] or {}).items():
        assert_same(measured["frames"][sample], curves, cell.precision)


def test_every_objective_that_ships_has_a_row() -> None:
    ours = {n for n in registry.objectives.names() if registry.objectives.get(n).__module__.startswith("robustcodec.")}
    assert {Spec.parse(cell.objective).name for cell in CELLS.values()} == ours


def test_rows_are_of_what_a_run_can_be_asked_for() -> None:
    """Reduced precision, a random defense met in the mean of two draws, and a clip of a video codec with its curves."""
    assert sorted(GOLDEN) == sorted(CELLS)
    assert any(cell.precision == "bfloat16" for cell in CELLS.values())
    assert any((cell.defense, cell.access) == ("resize", "adaptive:draws=2") for cell in CELLS.values())
    (video,) = (name for name, cell in CELLS.items() if cell.codec == "rdae.tiny-q1" and "clips" in cell.data)
    assert all(None not in curve for curves in GOLDEN[video]["frames"].values() for curve in curves.values())


def add_missing() -> None:
    """Measure what has no golden row."""
    with TemporaryDirectory() as folder:
        os.environ["TORCH_HOME"] = folder
        BACKBONES["squeeze"] = toys.random_backbone(Path(folder))
        runner = Runner(Store(Path(folder) / "run"))
        rows = {name: GOLDEN.get(name) or measure(runner, cell) for name, cell in CELLS.items()}
    FILE.write_text(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


if __name__ == "__main__":
    add_missing()
