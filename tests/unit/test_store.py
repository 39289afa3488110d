"""The run folder: whole files or none, JSON without NaN, and a full disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robustcodec.errors import StoreError
from robustcodec.files import HOST, write_whole
from robustcodec.running.grid import Cell
from robustcodec.running.store import Result, Store

CELL = Cell("jpeg:30", "noise", data="photos:size=8", limit=1)


def test_results_round_trip_with_nan_as_null(tmp_path: Path) -> None:
    store = Store(tmp_path)
    rows = ({"sample": "a", "psnr": float("nan"), "vi_db": float("inf"), "bpp": 1.5, "queries": 3},)
    store.put(Result(CELL.id, CELL, "ok", rows, ("w",), {"torch": "2"}))
    loaded = store.result(CELL.id)
    assert loaded is not None and loaded.cell == CELL
    assert loaded.rows[0] == {"sample": "a", "psnr": None, "vi_db": None, "bpp": 1.5, "queries": 3}
    frame = store.frame([CELL])
    assert frame["psnr"].isna().all() and frame["bpp"].iloc[0] == 1.5
    assert frame[["codec", "attack", "threat", "warnings"]].iloc[0].tolist() == ["jpeg:30", "noise", "psnr:40", "w"]


def test_curves_round_trip_and_images_have_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    nan = float("nan")
    lists = {"psnr": [30.0, 31.0], "adv_psnr": [nan, 29.5], "bits": [80.0, 8.0], "adv_bits": [90.0, nan]}
    store.put(Result(CELL.id, CELL, "ok", ({"sample": "a", "psnr": 30.5},), frames={"a": lists}))
    loaded = store.result(CELL.id)
    assert loaded is not None and loaded.frames == {"a": lists | {"adv_psnr": [None, 29.5], "adv_bits": [90.0, None]}}
    curves = store.curves([CELL])
    assert curves[["codec", "attack", "sample", "cell"]].drop_duplicates().values.tolist() == [
        ["jpeg:30", "noise", "a", CELL.id]
    ]
    assert curves["frame"].tolist() == [0, 1]
    for name, values in lists.items():
        np.testing.assert_array_equal(curves[name], values)
    store.put(Result(CELL.id, CELL, "ok", ({"sample": "a", "psnr": 30.5},), frames={}))
    assert "frames" not in json.loads((tmp_path / "cells" / f"{CELL.id}.json").read_text())
    assert store.curves([CELL]).empty


def test_an_error_is_kept_whatever_is_in_it(tmp_path: Path) -> None:
    store, error = Store(tmp_path), "cannot read b\udce4r.png: \x1b[31m ü\0"
    store.put(Result(CELL.id, CELL, "error", error=error))
    loaded = store.result(CELL.id)
    assert loaded is not None and loaded.error == error


def test_failed_cells_are_not_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.done(CELL.id)
    store.put(Result(CELL.id, CELL, "error", error="boom"))
    assert not store.done(CELL.id)
    assert store.frame([CELL]).empty


def test_a_cell_is_done_with_the_scores_that_all_its_rows_have(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(Result(CELL.id, CELL, "ok", ({"sample": "a", "psnr": 1.0, "lpips": 2.0}, {"sample": "b", "psnr": 1.0})))
    assert store.done(CELL.id) and store.done(CELL.id, ["psnr"]) and not store.done(CELL.id, ["psnr", "lpips"])
    store.put(Result(CELL.id, CELL, "error", ({"sample": "a", "psnr": 1.0},), error="boom"))
    assert not store.done(CELL.id, ["psnr"]) and store.frame([CELL]).empty and store.curves([CELL]).empty


def test_a_table_has_whole_queries_and_seeds_and_all_warnings(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(Result(CELL.id, CELL, "ok", ({"sample": "a", "broken": 1, "queries": 3},), ("one", "two")))
    frame = store.frame([CELL])
    assert frame["warnings"].tolist() == ["one; two"]
    assert [frame[c].dtype.kind for c in ("queries", "seed", "broken")] == ["i", "i", "f"]


def test_decoded_clips_come_back_in_their_order(tmp_path: Path) -> None:
    store, clip = Store(tmp_path), torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    pictures = {name: {"original": clip + i} for i, name in enumerate(("second", "a/first"))}
    assert store.decoded("x") == {}
    store.put_decoded("x", pictures)
    decoded = store.decoded("x")
    assert list(decoded) == ["second", "a/first"]
    assert all(torch.equal(decoded[name]["original"], clips["original"]) for name, clips in pictures.items())


def test_clips_round_trip_exactly_and_have_the_same_bytes(tmp_path: Path) -> None:
    clip = torch.randint(256, (2, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    files = []
    for name in "ab":
        store = Store(tmp_path / name)
        store.put_clip("abcdef", clip.flip(0).flip(0), {"queries": 2, "budget": 0.5})
        files.append(next((tmp_path / name).glob("crafted/*/*")).read_bytes())
        stored = store.clip("abcdef")
        assert stored is not None
        assert torch.equal(stored[0], clip) and stored[1] == {"queries": 2, "budget": 0.5}
    assert files[0] == files[1]
    assert Store(tmp_path / "a").clip("012345") is None


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    left = tmp_path / "cells" / f".x.json.{HOST}.{gone.pid}.part"
    left.write_text("{")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as busy:
        writing = tmp_path / "cells" / f".y.json.{HOST}.{busy.pid}.part"
        writing.write_text("{")
        Store(tmp_path)  # a report of a run that is going on takes nothing away from it
        assert not left.exists() and not store.done("x")
        assert writing.exists()
        busy.communicate(b"\n")
    Store(tmp_path)
    assert not writing.exists()


def test_foreign_results_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "cells" / "x.json").write_text(json.dumps({"hello": 1}))
    with pytest.raises(StoreError, match="is not a result of this release"):
        store.result("x")
    with pytest.raises(StoreError, match="is not a run folder"):
        store.grid()


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        Store(tmp_path / "file" / "run")


def test_a_write_that_fails_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    """A real failure of the system: the process may not write files of more than 1 kB."""
    path = tmp_path / "x.bin"
    write_whole(path, b"old")
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from robustcodec.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "write_whole(Path(sys.argv[1]), bytes(4096))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert "StoreError: cannot write" in done.stderr
    assert "give another --out (or mend that) and run the same command again" in done.stderr
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.bin"]
