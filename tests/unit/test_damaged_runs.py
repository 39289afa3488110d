"""Run folders with a damaged file: what is run again has the bytes of an undisturbed run, or the file is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

import robustcodec
from robustcodec.errors import StoreError
from robustcodec.execution.runner import Runner
from robustcodec.execution.watching import Watcher
from robustcodec.page.publishing import Publication
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.store import Store

GRID = Grid(
    "small",
    ({"codec": ["jpeg:quality=20"], "attack": ["noise", "square:queries=2"], "data": ["photos:size=16"], "limit": 2},),
)
CELLS = GRID.cells()
RESULTS = ("cells", "crafted", "decoded")  # folders of files that are the same bytes whatever happened
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has disturbed, audited and shown."""
    store = Store(tmp_path_factory.mktemp("whole"))
    store.put_grid(GRID)
    assert Runner(store).run(CELLS).ran == 2
    store.put_audit({CELLS[0].id: ["audit: beaten"]})
    publication = Publication(store, CELLS)
    with publication.outputs as outputs:
        publication.tables(outputs)
    return store.root


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def results(run: Path) -> dict[str, bytes]:
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for folder in RESULTS
        for path in sorted((run / folder).rglob("*"))
        if path.is_file()
    }


class Told(Watcher):
    """Keeps what a display is told of damage."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, text: str) -> None:
        self.lines.append(text)


def run_again(run: Path) -> list[str]:
    """As the command does, from reading the folder to its tables; gives what was said of damage."""
    store, told = Store(run), Told()
    assert not Runner(store).run(CELLS, told).errors
    store.put_grid(GRID)
    publication = Publication(store, CELLS)
    with publication.outputs as outputs:
        publication.tables(outputs)
    for cell in CELLS:
        store.decoded(cell.id)
    return told.lines


def attempt(run: Path) -> tuple[list[str], Exception | None]:
    """:func:`run_again`, and what it raised."""
    try:
        return run_again(run), None
    except Exception as error:  # whatever it is, the test says whether it may be
        return [], error


# -- the damages ------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def turned(path: Path) -> None:
    """One bit."""
    data = bytearray(path.read_bytes())
    data[9 * len(data) // 10] ^= 1
    path.write_bytes(data)


def nested(path: Path) -> None:
    path.write_bytes(100_000 * b"[")


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x81" * 9)


def another_file(path: Path) -> None:
    path.write_bytes(b'{"hello": [1]}\n')


DAMAGES = [cut, emptied, turned, nested, no_text, another_file]
KINDS = {
    "crafted clip": "crafted/*/*.safetensors",
    "result": "cells/*.json",
    "pictures": "decoded/*.safetensors",
    "grid": "grid.toml",
    "log": "log.jsonl",
    "audit": "audit/findings.json",
    "memory": "cache/outputs.json",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_damaged_is_made_again_or_named(kind: str, damage: Damage, run: Path) -> None:
    before = results(run)
    file = sorted(run.glob(KINDS[kind]))[0]
    if kind == "crafted clip":  # it is asked for by who evaluates it again
        for cell in run.glob("cells/*.json"):
            cell.unlink()
    damage(file)
    told, error = attempt(run)
    if error is not None:
        assert isinstance(error, StoreError) and str(file) in str(error) and "\n" not in str(error)
        if kind == "audit":  # another command makes it
            return
        told, again = attempt(run)
        assert again is None, "it fails for ever"
        told.append(str(error))
    assert results(run) == before
    if kind in ("crafted clip", "result", "pictures"):
        assert told and all("\n" not in line for line in told) and any(file.name in line for line in told)


def test_a_clip_of_another_attack_is_made_again(run: Path) -> None:
    before = results(run)
    first, second = sorted(run.glob("crafted/*/*.safetensors"))[:2]
    shutil.copy(second, first)
    for cell in run.glob("cells/*.json"):
        cell.unlink()
    assert any(first.name in line for line in run_again(run)) and results(run) == before
    assert first.name in (run / "log.jsonl").read_text()


def test_pixels_that_were_exchanged_inside_a_clip_are_not_used(run: Path) -> None:
    before = results(run)
    file = sorted(run.glob("crafted/*/*.safetensors"))[0]
    data = file.read_bytes()
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    file.write_bytes(save({"clip": load(data)["clip"].flip(-1).contiguous()}, head))
    for cell in run.glob("cells/*.json"):
        cell.unlink()
    assert run_again(run) and results(run) == before


def test_a_clip_outside_its_budget_is_never_scored(run: Path) -> None:
    """Written by the store itself, so that its checksum is right."""
    store, cell = Store(run), CELLS[0]
    sample = cell.samples()[1]
    stored = store.clip(cell.craft_id(sample))
    assert stored is not None
    store.put_clip(cell.craft_id(sample), 255 - stored[0], stored[1])
    (run / "cells" / f"{cell.id}.json").unlink()
    errors = Runner(Store(run)).run(CELLS).errors
    assert list(errors) == [str(cell)]
    assert sample.id in errors[str(cell)] and "psnr:40" in errors[str(cell)] and "crafted" in errors[str(cell)]


THREATS = ["linf:4", "psnr:40,frames=first", "psnr:40+linf:4", "flicker:8", "l2:0.5,per=frame"]


@pytest.mark.parametrize("threat", THREATS)
def test_a_clip_that_breaks_one_bound_alone_is_found(threat: str, tmp_path: Path) -> None:
    """Inside by its norm, but in a way that the threat does not allow; what the attack itself made is inside."""
    cell = Cell("jpeg:quality=20", "noise", threat=threat, data="clips:frames=3,size=16", limit=1)
    store = Store(tmp_path)
    assert not Runner(store).run([cell]).errors
    (sample,) = cell.samples()
    stored = store.clip(cell.craft_id(sample))
    assert stored is not None
    moved = sample.load().clone()
    moved[-1, 0, 0, 0] = (moved[-1, 0, 0, 0].int() + 5) % 256 if moved[-1, 0, 0, 0] < 251 else 200
    if threat == "l2:0.5,per=frame":
        moved[-1, 0] = (moved[-1, 0].int() - 9).clamp(min=0).to(torch.uint8)
    store.put_clip(cell.craft_id(sample), moved, stored[1])
    (tmp_path / "cells" / f"{cell.id}.json").unlink()
    assert "budget" in Runner(Store(tmp_path)).run([cell]).errors.get(str(cell), "")


# -- results that are JSON, and not what the cell must hold -----------------------------------------------------------


@dataclass(frozen=True)
class Odd:
    """A change of the JSON of a result; ``text``: after it has become text."""

    change: Callable[[dict[str, Any]], Any] = lambda table: None
    text: tuple[str, str] = ("", "")


def doubled(table: dict[str, Any]) -> None:
    table["rows"].append({**table["rows"][0], "sample": "a third"})


def infinite(table: dict[str, Any]) -> None:
    table["rows"][0]["psnr"] = 12345.5


ODD = {
    "rows null": Odd(lambda table: table.update(rows=None)),
    "three samples of two": Odd(doubled),
    "one sample of two": Odd(lambda table: table["rows"].pop()),
    "a sample twice": Odd(lambda table: table["rows"][1].update(sample=table["rows"][0]["sample"])),
    "no rows": Odd(lambda table: table.update(rows=[])),
    "beyond a float": Odd(infinite, ("12345.5", "1e999")),
    "NaN": Odd(infinite, ("12345.5", "NaN")),
    "a list for a number": Odd(lambda table: table["rows"][0].update(psnr=[1, 2])),
    "a truth for a number": Odd(lambda table: table["rows"][0].update(psnr=True)),
    "no status": Odd(lambda table: table.update(status="fine")),
    "warnings as text": Odd(lambda table: table.update(warnings="none")),
    "of another cell": Odd(lambda table: table.update(id="0123456789abcdef")),
    "another identity": Odd(lambda table: table["identity"].update(seed=1)),
    "identity null": Odd(lambda table: table.update(identity=[])),
    "curves of nobody": Odd(lambda table: table.update(frames={"x": {"psnr": [1.0]}})),
    "curves of different lengths": Odd(
        lambda table: table.update(frames={table["rows"][0]["sample"]: {"psnr": [1.0], "adv_psnr": [1.0, 2.0]}})
    ),
    "provenance as text": Odd(lambda table: table.update(provenance="none")),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_result_that_is_not_what_its_cell_must_hold_is_made_again(odd: str, run: Path) -> None:
    """As releases wrote it that kept no checksum."""
    before = results(run)
    file = run / "cells" / f"{CELLS[0].id}.json"
    table = json.loads(file.read_text())
    table.pop("sha256", None)
    ODD[odd].change(table)
    file.write_text(json.dumps(table, indent=1).replace(*ODD[odd].text))
    shutil.rmtree(run / "cache")
    with pytest.raises(StoreError, match=file.name):
        Store(run).frame(CELLS)
    told, error = attempt(run)
    assert error is None and any(file.name in line for line in told) and results(run) == before


def test_a_result_of_which_one_digit_is_another_is_made_again(run: Path) -> None:
    """It is a result in every respect, and only its checksum knows that it was not written so."""
    before = results(run)
    file = run / "cells" / f"{CELLS[0].id}.json"
    text = file.read_text()
    score = str(json.loads(text)["rows"][0]["adv_psnr"])
    whole, _, digits = score.partition(".")
    file.write_text(text.replace(score, f"{whole}.{(int(digits[0]) + 1) % 10}{digits[1:]}"))
    assert any(file.name in line for line in run_again(run)) and results(run) == before


def test_a_result_of_a_release_without_checksums_is_taken_as_it_is(run: Path) -> None:
    file = run / "cells" / f"{CELLS[0].id}.json"
    table = json.loads(file.read_text())
    assert table.pop("sha256", None)
    file.write_text(json.dumps(table, indent=1))
    assert not run_again(run) and json.loads(file.read_text()) == table


def test_an_attack_whose_clip_is_damaged_is_made_again(tmp_path: Path) -> None:
    """A run of a grid would not ask for it: the cell has its scores."""
    picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))

    def attacked() -> torch.Tensor | Exception:
        try:
            found: torch.Tensor = robustcodec.attack(picture, "jpeg", "noise", out=tmp_path / "out").adversarial
            return found
        except Exception as error:
            return error

    first = attacked()
    (file,) = (tmp_path / "out").rglob("crafted/*/*.safetensors")
    whole = file.read_bytes()
    cut(file)
    second = attacked()
    assert isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    assert torch.equal(first, second) and file.read_bytes() == whole


def test_every_claim_that_is_not_as_it_was_written_is_none(run: Path) -> None:
    before = results(run)
    (run / "cells" / f"{CELLS[0].id}.json").unlink()
    for text in ("[1]", '{"host": "here", "pid": "x"}', "5", 100_000 * "[", "", "\udce4"):
        (run / "claims").mkdir(exist_ok=True)
        (run / "claims" / CELLS[0].id).write_text(text, errors="surrogateescape")
        (run / "cells" / f"{CELLS[0].id}.json").unlink(missing_ok=True)
        assert attempt(run)[1] is None and results(run) == before


def test_costs_that_are_none_are_not_believed(run: Path) -> None:
    for costs in (5, [[["craft"], 0, 1.0]], [[["craft"], "x", 1.0]], [[None, 1, 1]], [1], {"a": 1}):
        with (run / "log.jsonl").open("a") as log:
            log.write(json.dumps({"costs": costs}) + "\n[1]\n7\n")
        (run / "cells" / f"{CELLS[0].id}.json").unlink()
        assert attempt(run) == ([], None)


def test_another_limit_is_another_cell() -> None:
    assert replace(CELLS[0], limit=1).id != CELLS[0].id  # so rows of two samples never stand for one
