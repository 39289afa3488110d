"""A cell is resolved once: however many samples it has, every plugin is built at most once."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toys  # noqa: F401 - registers codecs
from PIL import Image

from robustcodec.errors import RobustCodecError
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import Attack, Defense, Objective, Plugin, Threat
from robustcodec.registry import KINDS, Registry, attacks, defenses, objectives, threats
from robustcodec.running.grid import AXES, Cell, Grid
from robustcodec.running.resolved import Part, Resolved, identity_of
from robustcodec.running.store import Store

PIXELS: dict[str, Any] = {"data": "photos:size=32", "limit": 6}
CODEC = "bmshj2018-factorized.tiny-q1"
CELLS = [
    Cell(CODEC, "pgd:steps=1", **PIXELS),
    Cell(CODEC, "pgd:steps=1", defense="self-ensemble:views=2", access="adaptive", **PIXELS),
    Cell(CODEC, "pgd:steps=1", defense="flip+bitdepth:bits=6", access="oblivious", **PIXELS),
    Cell("jpeg:quality=50", "noise", defense="flip", access=f"transfer:{CODEC}", **PIXELS),
    Cell("jpeg:quality=50", "pgd:steps=1", access="bpda:diff-jpeg:quality=50", **PIXELS),
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_plugin_of_a_cell_is_built_once(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(Store(tmp_path))
    builds: Counter[tuple[str, str]] = Counter()
    build = Registry.build

    def counted(registry: Registry[Any], spec: Any) -> Any:
        builds[registry.kind, str(spec)] += 1
        return build(registry, spec)

    monkeypatch.setattr(Registry, "build", counted)
    assert not runner.run([cell]).errors
    assert len(cell.samples()) == 6
    assert set(builds.values()) == {1}, builds
    assert {kind for kind, _ in builds} == {"codec", "attack", "objective", "threat", "defense", "data set"}


def test_axes_of_a_cell_that_name_plugins_are_resolved() -> None:
    """What is no plugin is read by the cell itself."""
    assert {*AXES} - set(Resolved(CELLS[0]).parts) == {"access", "seed", "precision"}
    assert {*KINDS} - {"metrics"} == {"codecs", "attacks", "objectives", "threats", "defenses", "data"}


def test_parameters_at_their_neutral_values_stay_out_of_an_identity() -> None:
    assert identity_of("threat", "psnr:40") == {"name": "psnr", "params": {"db": 40.0}}
    assert identity_of("threat", "psnr:40,frames=first")["params"] == {"db": 40.0, "frames": "first"}
    assert identity_of("threat", "linf:8/255")["params"] == {"eps": 8 / 255}


@pytest.mark.parametrize("registry", [attacks, defenses, objectives, threats], ids=lambda r: r.kind)
def test_what_is_neutral_is_a_parameter(registry: Registry[Any]) -> None:
    """A name that no parameter has would leave nothing out, and nobody would notice."""
    for name in registry.names():
        builder: Any = registry.get(name)
        if isinstance(builder, type) and issubclass(builder, Plugin):
            assert issubclass(builder, Attack | Defense | Objective | Threat)
            assert set(builder.neutral) <= set(inspect.signature(builder).parameters), name


def test_a_part_is_read_when_it_is_first_asked_for() -> None:
    part = Part("defense", "flip+bitdepth:bits=6")
    assert [layer.text for layer in part.layers] == ["flip", "bitdepth:bits=6"]
    assert part.built is part.built and part.built.layers[1] is part.layers[1].built


def grid(path: Path) -> Grid:
    block = {
        "codec": ["jpeg:quality=50"],
        "attack": ["noise"],
        "objective": [f"target:{path}"],
        "data": [f"file:{path}"],
    }
    return Grid("planned", (block | {"seed": [0, 1, 2]},))


def picture(path: Path, grey: int) -> Path:
    Image.new("RGB", (16, 16), (grey, grey, grey)).save(path)
    return path


def test_cells_that_are_planned_together_read_once_and_share_no_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = grid(picture(tmp_path / "a.png", 9)).cells()
    builds: Counter[str] = Counter()
    build = Registry.build
    monkeypatch.setattr(Registry, "build", lambda self, spec: builds.update([self.kind]) or build(self, spec))
    assert len({cell.id for cell in cells}) == 3 and set(builds.values()) == {1}
    assert [cell.id for cell in cells] == [replace(cell).id for cell in cells], "planned alone"
    assert len({id(cell.resolved.attack) for cell in cells}) == 3


def test_a_file_that_changes_is_seen_by_the_next_planning_and_refused_by_this_one(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", 9)
    before = grid(path).cells()
    ids = [cell.id for cell in before]
    picture(path, 200)
    assert not set(ids) & {cell.id for cell in grid(path).cells()}
    with pytest.raises(RobustCodecError, match="changed while the run went on"):
        _ = before[1].resolved.objective
