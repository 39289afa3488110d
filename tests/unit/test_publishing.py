"""What is shown of a run is made again only where it changed, and is then what a full making gives, byte by byte."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from robustcodec.cli.report import publish
from robustcodec.execution.runner import Runner
from robustcodec.page import publishing
from robustcodec.reporting import outputs as remembering
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.store import Result, Store

GRID = Grid(
    "small",
    (
        {
            "codec": ["jpeg:quality=20"],
            "attack": ["noise"],
            "defense": ["none", "bitdepth:bits=4"],
            "data": ["photos:size=16"],
        }
        | {"threat": ["psnr:34", "psnr:40"], "limit": 1},
        {"codec": ["jpeg:quality=20"], "attack": ["noise"], "data": ["clips:frames=2,size=16"], "limit": 1},
    ),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of real cells."""
    store = Store(tmp_path_factory.mktemp("run"))
    store.put_grid(GRID)
    assert not Runner(store).run(GRID.cells()).errors
    return store.root


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def report(run: Path) -> str:
    """What publishing prints."""
    text = io.StringIO()
    publish(Store(run), Store(run).grid().cells(), Console(file=text, width=200), as_json=False)
    return text.getvalue()


def shown(run: Path) -> dict[str, bytes]:
    """Every file that publishing makes."""
    kept = ("cells", "crafted", "decoded", "cache", "grid.toml", "log.jsonl")
    files = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name.split("/")[0] not in kept}


def written(run: Path) -> dict[str, tuple[int, int]]:
    """By name what changes when a file is written again: its number, which may be used twice, and the time."""
    stats = {name: (run / name).stat() for name in shown(run)}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def made_again(run: Path, before: dict[str, tuple[int, int]]) -> set[str]:
    after = written(run)
    return {name for name in after if after[name] != before.get(name)}


def panel_of(run: Path, cell: Cell) -> str:
    (path,) = (run / "pictures").glob(f"*{cell.id[:6]}.png")
    return path.relative_to(run).as_posix()


def test_what_did_not_change_is_left_alone(run: Path) -> None:
    report(run)
    before, files = written(run), shown(run)
    assert {"leaderboard.md", "defenses.md", "report/index.html", "pictures/drift.png"} <= set(before)
    assert len([name for name in before if name.endswith((".mp4", ".webp"))]) == 2
    text = report(run)
    assert "jpeg" in text and not made_again(run, before)
    shutil.rmtree(run / "cache")
    assert report(run) == text, "tables are printed as they were when they were made"
    assert made_again(run, before) == set(before) and shown(run) == files


def test_what_is_missing_or_was_changed_by_hand_is_made_again(run: Path) -> None:
    report(run)
    before, files = written(run), shown(run)
    (run / "pictures" / "drift.png").unlink()
    (run / "leaderboard.csv").write_text("mine")
    report(run)
    tables = {"leaderboard.md", "leaderboard.csv", "attacks.csv", "results.parquet"}
    assert made_again(run, before) == {"pictures/drift.png", *tables} and shown(run) == files


def test_one_new_result_changes_what_shows_it(run: Path) -> None:
    report(run)
    store, before = Store(run), written(run)
    cells = [cell for cell in GRID.cells() if cell.data.startswith("photos")]
    result = store.result(cells[0].id)
    assert result is not None
    store.put(Result(**{**vars(result), "rows": tuple({**row, "adv_psnr": 9.0} for row in result.rows)}))
    report(run)
    again, files = made_again(run, before), shown(run)
    assert {"leaderboard.md", "report/index.html", "pictures/rate-distortion.png", panel_of(run, cells[0])} <= again
    untouched = {panel_of(run, cell) for cell in cells[1:]} | {"pictures/drift.png"}
    assert not untouched & again
    shutil.rmtree(run / "cache")
    report(run)
    assert shown(run) == files


def made_page(folder: Path) -> int:
    """How many files a small publication makes: one, or none if that is there as it was."""

    def page() -> list[Path]:
        (folder / "page.html").write_text("as ever")
        return [folder / "page.html"]

    with remembering.Outputs(folder, folder / "memory.json") as outputs:
        assert outputs.make("page", remembering.digest("rows"), page) == [folder / "page.html"]
        return outputs.made


def test_other_code_makes_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (made_page(tmp_path), made_page(tmp_path)) == (1, 0)
    monkeypatch.setattr(remembering, "makers", lambda: "another release")
    assert (made_page(tmp_path), made_page(tmp_path)) == (1, 0)


@pytest.mark.parametrize("text", ["", "[1]", '{"page": 3}', '{"page": {"of": 1}}', '{"page": {"files": [1]}}'])
def test_a_damaged_memory_does_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.json").write_text(text)
    assert (made_page(tmp_path), made_page(tmp_path)) == (1, 0)


def test_of_many_cells_those_of_the_most_damage_are_pictured(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "PICTURED", 2)
    text = report(run)
    rows = Store(run).frame(GRID.cells()).drop_duplicates("cell")
    worst = (rows["psnr"] - rows["adv_psnr"]).to_numpy().argsort()[::-1][:2]
    names = {cell[:6] for cell in rows["cell"].iloc[worst]}
    assert {path.stem[-6:] for path in (run / "pictures").glob("jpeg*.png")} == names
    assert "(of the 2 cells of the most damage)" in " ".join(text.split())


def test_pictures_of_cells_that_failed_to_decode_or_to_run(tmp_path: Path) -> None:
    """Three cells: one finished, one whose attacked stream could not be decoded, one not run."""
    store = Store(tmp_path)
    store.put_grid(GRID)
    cells = [cell for cell in GRID.cells() if cell.data.startswith("photos")][:3]
    Runner(store).run(cells[:2])
    result, clips = store.result(cells[1].id), store.decoded(cells[1].id)
    assert result is not None
    nothing: dict[str, Any] = {"adv_psnr": None, "decode_failed": 1.0}
    store.put(Result(**{**vars(result), "rows": tuple(row | nothing for row in result.rows)}))
    store.put_decoded(
        cells[1].id, {name: {k: v for k, v in of.items() if k != "attacked"} for name, of in clips.items()}
    )
    publication = publishing.Publication(store, cells)
    with publication.outputs as outputs:
        assert publication.pictures(outputs) == 2
    assert all((tmp_path / panel_of(tmp_path, cell)).is_file() for cell in cells[:2])
