"""A data set with files that cannot be used: its cells say which and why, and nothing is crafted for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustcodec.data._images import write_image
from robustcodec.data._video import write_y4m
from robustcodec.errors import UserError
from robustcodec.execution.jobs import plan
from robustcodec.execution.runner import Runner
from robustcodec.interfaces import DataSet, Sample
from robustcodec.registry import data
from robustcodec.running.grid import Cell, Grid
from robustcodec.running.store import Store

GOOD = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good images, and five that are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    picture = Image.fromarray(GOOD[0].permute(1, 2, 0).numpy())
    for name in ("a", "z"):
        write_image(GOOD, folder / f"{name}.png")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("CMYK").save(folder / "ink.jpg")
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(folder / "deep.png")
    (folder / "text.png").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:200])
    return folder


def on(folder: Path, attack: str = "noise", limit: int = 0) -> Cell:
    return Cell("jpeg:quality=50", attack, data=f"folder:{folder}", limit=limit)


def run(cells: Sequence[Cell], folder: Path) -> tuple[Store, dict[str, str]]:
    store = Store(folder)
    tally = Runner(store).run(cells)
    assert tally.ran + tally.failed == len(cells) and tally.mistakes == tally.failed
    return store, tally.errors


def test_all_are_named_before_anything_is_crafted(folder: Path, tmp_path: Path) -> None:
    bad, good = [on(folder), on(folder, "square:queries=2")], Cell("jpeg", "noise", data="photos:size=16", limit=1)
    store, errors = run([*bad, good], tmp_path / "run")
    assert store.done(good.id) and not store.done(bad[0].id)
    for failed in bad:
        error = errors[str(failed)]
        assert error.startswith("5 of 7 samples cannot be used: ") and error.endswith(" | and 2 more"), error
        for reason in ("cut.png is damaged", "deep.png is a 16-bit image", "grey.png is a greyscale image"):
            assert reason in error
        assert not any(store.holds_clip(failed.craft_id(sample)) for sample in failed.samples())


def test_samples_that_are_not_measured_are_not_looked_at(folder: Path, tmp_path: Path) -> None:
    store, errors = run([on(folder), on(folder, limit=1)], tmp_path / "run")
    assert list(errors) == [f"{on(folder)} (limit 0)"] and store.done(on(folder, limit=1).id)


def test_one_is_named_by_its_own_error(folder: Path, tmp_path: Path) -> None:
    for name in ("ink.jpg", "deep.png", "text.png", "cut.png"):
        (folder / name).unlink()
    store, errors = run([on(folder)], tmp_path / "run")
    (error,) = errors.values()
    assert error.startswith(
        f"{folder / 'grey.png'} is a greyscale image; expected 8-bit RGB. Save it as an RGB PNG, or in a grid give its "
        "data set convert="
    )
    assert not store.holds_clip(on(folder).craft_id(on(folder).samples()[0]))
    converted = Cell("jpeg:quality=50", "noise", data=f"folder:{folder},convert=true")
    store, errors = run([converted], tmp_path / "run")
    assert not errors and store.done(converted.id)


def test_each_is_read_once_for_all_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than what is kept of a data set: reading it for every cell would take longer than attacking it."""
    read: list[str] = []

    def load(name: str) -> torch.Tensor:
        read.append(name)
        return GOOD

    class Counted(DataSet):
        def samples(self) -> list[Sample]:
            return [Sample(name, lambda name=name: load(name), checksum=name) for name in "abc"]  # type: ignore[misc]

    monkeypatch.setitem(data._builders, "counted", Counted)
    monkeypatch.setattr("robustcodec.execution.jobs.LOADED", 1)
    cells = Grid("g", ({"codec": ["jpeg"], "attack": ["noise", "square:queries=2"], "data": ["counted"]},)).cells()
    plan(cells, Store(tmp_path), batch_size=1)
    assert sorted(read) == ["a", "b", "c"]


def test_sets_that_are_known_by_their_pixels_name_all_too(folder: Path) -> None:
    for path in list(folder.iterdir()):
        (folder / path.stem).mkdir()
        path.rename(folder / path.stem / "im1.png")
    with pytest.raises(UserError, match=r"^5 of 7 samples cannot be used: .*cut.*deep.*grey.* \| and 2 more$"):
        _ = Cell("jpeg", "noise", data=f"sequences:{folder}").id


@pytest.mark.parametrize("options", ["", ",frames=2", ",frames=2,segments=2"])
def test_videos_that_cannot_be_counted_are_named_with_the_others(options: str, tmp_path: Path) -> None:
    for name in "abc":
        write_y4m(GOOD.expand(3, 3, 16, 16), tmp_path / f"{name}.y4m")
    for name in "ac":
        path = tmp_path / f"{name}.y4m"
        path.write_bytes(path.read_bytes()[:-1])
    bad = Cell("jpeg", "noise", data=f"folder:{tmp_path}{options}")
    try:
        _, (evaluation,) = plan([bad], Store(tmp_path / "run"), batch_size=1)
        error = evaluation.failure.error if evaluation.failure else ""
    except UserError as raised:
        error = str(raised)
    assert "2 of" in error and "a.y4m is cut short" in error and "c.y4m is cut short" in error, error
