"""The index of results against the files that it is of: equal tables, read once, and nothing lost where it is wrong."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustcodec.execution.runner import Runner
from robustcodec.running import index
from robustcodec.running.grid import AXES, Cell
from robustcodec.running.store import Result, Store

SMALL: dict[str, Any] = {"data": "photos:size=16", "limit": 2}
CELLS = [
    Cell("jpeg:quality=20", "noise", seed=0, **SMALL),
    Cell("jpeg:quality=20", "noise", objective="rate", seed=1, **SMALL),
    Cell("jpeg:quality=20", "noise", data="clips:frames=3,size=16", limit=2),
    Cell("jpeg:quality=20", "noise", seed=2, **SMALL),  # lacks what others have, has what they lack
    Cell("jpeg:quality=20", "noise", seed=3, **SMALL),  # fails
    Cell("jpeg:quality=20", "noise", seed=4, **SMALL),  # has not run
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of real cells, one of which was made by another release and one of which failed."""
    store = Store(tmp_path_factory.mktemp("run"))
    assert not Runner(store).run(CELLS[:4]).errors
    odd = store.result(CELLS[3].id)
    assert odd is not None
    rows = [{k: v for k, v in row.items() if k != "adv_bpp_est"} for row in odd.rows]
    rows[0].update({"vi_db": None, "extra": 1})
    store.put(Result(odd.id, odd.cell, "ok", tuple(rows), ("first", "second"), {"torch": "0"}))
    store.put(Result(CELLS[4].id, CELLS[4], "error", error="Traceback\nBoom: no"))
    store.put_audit({CELLS[0].id: ["audit: beaten"]})
    return store.root


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, of which an index is kept from the first file on."""
    monkeypatch.setattr(index, "FEW", 0)
    monkeypatch.setattr(index, "SHARE", 1000)
    return Path(shutil.copytree(made, tmp_path / "run"))


def frame_of_files(run: Path) -> pd.DataFrame:
    """A table made from the files alone."""
    audit = json.loads((run / "audit" / "findings.json").read_text())
    rows: list[dict[str, Any]] = []
    for cell in CELLS:
        path = run / "cells" / f"{cell.id}.json"
        table: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"status": "error"}
        if table["status"] == "ok":
            warnings = "; ".join([*table["warnings"], *audit.get(cell.id, [])])
            axes: dict[str, Any] = {axis: getattr(cell, axis) for axis in AXES}
            rows += [{"cell": cell.id, **axes, "warnings": warnings, **row} for row in table["rows"]]
    frame = pd.DataFrame(rows)
    scores = [c for c in frame if c not in ("cell", "sample", "warnings", "queries", *AXES)]
    return frame.astype(dict.fromkeys(scores, float))


def curves_of_files(run: Path) -> pd.DataFrame:
    lists = json.loads((run / "cells" / f"{CELLS[2].id}.json").read_text())["frames"]
    axes = {axis: getattr(CELLS[2], axis) for axis in AXES}
    tables = [pd.DataFrame(of, dtype=float).assign(cell=CELLS[2].id, sample=name, **axes) for name, of in lists.items()]
    return pd.concat([table.rename_axis("frame").reset_index() for table in tables], ignore_index=True)


def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cells whose files are read from now on."""
    read, seen = Store._read, []

    def noted(self: Store, cell_id: str) -> Result:
        seen.append(cell_id)
        return read(self, cell_id)

    monkeypatch.setattr(Store, "_read", noted)
    return seen


def test_tables_are_those_of_the_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = frame_of_files(run)
    assert expected[["vi_db", "adv_bpp_est", "extra"]].isna().any().all() and len(expected) == 8
    pd.testing.assert_frame_equal(Store(run).frame(CELLS), expected)
    again = Store(run)
    seen = reads(again, monkeypatch)
    pd.testing.assert_frame_equal(again.frame(CELLS), expected)
    curves = curves_of_files(run)
    pd.testing.assert_frame_equal(again.curves(CELLS)[list(curves)], curves)
    assert [again.done(cell.id) for cell in CELLS] == [True] * 4 + [False] * 2
    assert again.done(CELLS[0].id, ["adv_bpp_est"]) and not again.done(CELLS[3].id, ["adv_bpp_est"])
    summary = again.summary(CELLS[4].id)
    assert summary is not None and (summary.status, summary.why) == ("error", "Boom: no")
    assert not seen, "a table was made from more than the index"


def test_a_file_that_changed_is_read_again_and_one_that_went_is_gone(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(run).frame(CELLS)
    other = Store(run)
    result = other.result(CELLS[0].id)
    assert result is not None
    other.put(Result(result.id, result.cell, "ok", ({**result.rows[0], "psnr": 12.5},)))
    (run / "cells" / f"{CELLS[1].id}.json").unlink()
    store = Store(run)
    seen = reads(store, monkeypatch)
    frame = store.frame(CELLS)
    assert seen == [CELLS[0].id]
    assert frame[frame["cell"] == CELLS[0].id]["psnr"].tolist() == [12.5] and CELLS[1].id not in set(frame["cell"])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def turned(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.write_text("{}")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [truncated, turned, foreign, a_folder, os.unlink], ids=lambda f: f.__name__)
def test_a_damaged_index_does_no_harm(run: Path, damage: Callable[[Path], None]) -> None:
    expected = Store(run).frame(CELLS)
    damage(run / "cache" / "cells.npz")
    pd.testing.assert_frame_equal(Store(run).frame(CELLS), expected)


def test_an_index_of_another_release_is_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(run).frame(CELLS)
    monkeypatch.setattr(index, "VERSION", index.VERSION + 1)
    store = Store(run)
    seen = reads(store, monkeypatch)
    store.frame(CELLS)
    assert sorted(seen) == sorted(cell.id for cell in CELLS[:5])


def test_a_result_that_is_no_table_of_numbers_is_refused(tmp_path: Path) -> None:
    from robustcodec.errors import StoreError

    store = Store(tmp_path)
    store.put(Result(CELLS[0].id, CELLS[0], "ok", ({"sample": "a", "psnr": "high"},)))
    with pytest.raises(StoreError, match="is not a result of this release"):
        store.frame(CELLS)
